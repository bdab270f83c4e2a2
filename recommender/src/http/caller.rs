//! Who calls, and what that caller may do.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::App;
use super::problem::Problem;
use super::tokens::Claims;

/// Read any customer's recommendations.
pub const RECOMMENDATIONS_READ: &str = "recommendations:read";
/// Write the catalogue.
pub const CATALOG_WRITE: &str = "catalog:write";
/// Write events.
pub const EVENTS_WRITE: &str = "events:write";

/// Who calls: the claims of a valid token, or nobody. A token that is present must be valid, whatever the
/// route: an expired one is never taken for an anonymous call.
pub struct Caller(pub Option<Claims>);

impl Caller {
    fn claims(&self) -> Result<&Claims, Problem> {
        self.0
            .as_ref()
            .ok_or_else(|| Problem::unauthorized("a token is needed: Authorization: Bearer <token>"))
    }

    /// Refuses callers without this scope.
    pub fn require_scope(&self, scope: &str) -> Result<(), Problem> {
        if self.claims()?.scopes.iter().any(|s| s == scope) {
            return Ok(());
        }
        Err(Problem::forbidden(format!("the token needs scope {scope}")))
    }

    /// Refuses callers that are neither this customer nor have the scope.
    pub fn require_customer_or(&self, customer: &str, scope: &str) -> Result<(), Problem> {
        if self.claims()?.user_id == customer {
            return Ok(());
        }
        self.require_scope(scope).map_err(|_| {
            Problem::forbidden(format!(
                "the token is another customer's and has no scope {scope}"
            ))
        })
    }
}

/// The bearer token of a request, if it has one.
fn bearer(parts: &Parts) -> Result<Option<&str>, Problem> {
    let Some(value) = parts.headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let invalid = || Problem::unauthorized("Invalid token");
    let (scheme, token) = value
        .to_str()
        .map_err(|_| invalid())?
        .split_once(' ')
        .ok_or_else(invalid)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(Some(token.trim()))
    } else {
        Err(invalid())
    }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        bearer(parts)?
            .map(|token| app.auth.verify(token))
            .transpose()
            .map(Self)
    }
}
