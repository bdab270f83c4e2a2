//! Who calls, and what that caller may do.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::header::{AUTHORIZATION, ORIGIN};
use http::request::Parts;
use recommendation_api::Event;
use url::form_urlencoded;

use super::App;
use super::keys::Refused;
use super::problem::Problem;
use super::tokens::Claims;

/// Read any customer's recommendations.
pub const RECOMMENDATIONS_READ: &str = "recommendations:read";
/// Look at any customer's history and recommendations, in the console.
pub const CUSTOMERS_READ: &str = "customers:read";
/// Write the catalogue.
pub const CATALOG_WRITE: &str = "catalog:write";
/// Export and erase any customer.
pub const CUSTOMERS_ADMIN: &str = "customers:admin";
/// Write events.
pub const EVENTS_WRITE: &str = "events:write";
/// Scope of figures about the shop.
pub const INSIGHTS_READ: &str = "insights:read";

/// Carries a publishable key; where a header cannot be set, the query parameter [`KEY_PARAMETER`] does.
pub const KEY_HEADER: &str = "x-publishable-key";
/// See [`KEY_HEADER`].
pub const KEY_PARAMETER: &str = "key";

/// Begins the customer id of an anonymous visit, so that a browser's key can never speak for a customer.
pub const VISIT_PREFIX: &str = "session:";

/// Who calls: the claims of a valid token, the holder of a publishable key, or nobody. What is presented must be
/// valid, whatever the route: an expired token is never taken for an anonymous call.
pub struct Caller {
    /// What the token says.
    pub claims: Option<Arc<Claims>>,
    /// Whether a valid publishable key was presented.
    key: bool,
    /// Whether the service has publishable keys at all.
    keys_exist: bool,
}

impl Caller {
    fn claims(&self) -> Result<&Claims, Problem> {
        self.claims
            .as_deref()
            .ok_or_else(|| Problem::unauthorized("a token is needed: Authorization: Bearer <token>"))
    }

    fn has_scope(&self, scope: &str) -> bool {
        let claims = self.claims.as_ref();
        claims.is_some_and(|claims| claims.scopes.iter().any(|s| s == scope))
    }

    /// Refuses callers without this scope.
    pub fn require_scope(&self, scope: &str) -> Result<(), Problem> {
        self.claims()?;
        if self.has_scope(scope) {
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

    /// What is not personal: any token and any publishable key will do, and nothing is needed where the service
    /// has no publishable keys.
    pub fn require_public(&self) -> Result<(), Problem> {
        if !self.keys_exist || self.key || self.claims.is_some() {
            return Ok(());
        }
        Err(Problem::unauthorized(format!(
            "a publishable key ({KEY_HEADER}) or a token is needed"
        )))
    }

    /// Lets programs with the scope write any event, and a publishable key those of its own visit: its
    /// customer is the visit itself.
    pub fn admit_event(
        &self,
        mut event: serde_json::Map<String, serde_json::Value>,
    ) -> Result<Event, Problem> {
        if self.has_scope(EVENTS_WRITE) {
            return Ok(Event::from_map(event, None)?);
        }
        if !self.key {
            self.require_scope(EVENTS_WRITE)?;
        }
        if event.contains_key("customer_id") || event.contains_key("CUSTOMER_ID") {
            return Err(Problem::field(
                "customer_id",
                "customer_id must be absent: a publishable key writes events of its own session only",
            ));
        }
        let session = match event.get("session_id") {
            Some(serde_json::Value::String(session)) if !session.trim().is_empty() => session.trim(),
            _ => {
                return Err(Problem::field(
                    "session_id",
                    "session_id is required with a publishable key and must be a string",
                ));
            }
        };
        let customer = visit(session)?;
        event.insert("customer_id".into(), customer.into());
        Ok(Event::from_map(event, None)?)
    }

    /// Whether events may be written at all.
    pub fn require_events(&self) -> Result<(), Problem> {
        if self.key {
            return Ok(());
        }
        self.require_scope(EVENTS_WRITE)
    }
}

/// The customer id that an anonymous visit's events carry.
pub fn visit(session: &str) -> Result<String, Problem> {
    super::input::check_id("session_id", session)?;
    let customer = format!("{VISIT_PREFIX}{session}");
    super::input::check_id("session_id", &customer)?;
    Ok(customer)
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

/// The publishable key of a request, if it has one.
fn publishable(parts: &Parts) -> Option<String> {
    if let Some(value) = parts.headers.get(KEY_HEADER) {
        return Some(value.to_str().unwrap_or_default().to_owned());
    }
    let query = parts.uri.query().filter(|query| query.contains(KEY_PARAMETER))?;
    form_urlencoded::parse(query.as_bytes())
        .find_map(|(name, value)| (name == KEY_PARAMETER).then(|| value.into_owned()))
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let claims = match bearer(parts)? {
            Some(token) => Some(app.auth.verify(token).await?),
            None => None,
        };
        let keys = app.auth.publishable();
        let key = match publishable(parts) {
            // A service without keys has nothing to check one against, and asks for none.
            Some(key) if !keys.is_empty() => {
                let origin = parts.headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
                keys.check(&key, origin).map_err(|refused| match refused {
                    Refused::Unknown => Problem::unauthorized("Invalid publishable key"),
                    Refused::Origin => Problem::forbidden("the publishable key is bound to other origins"),
                })?;
                true
            }
            _ => false,
        };
        Ok(Self {
            claims,
            key,
            keys_exist: !keys.is_empty(),
        })
    }
}
