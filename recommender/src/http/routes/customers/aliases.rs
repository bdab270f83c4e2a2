//! `POST /v1/customers/{id}/aliases`: an anonymous visit turns out to be a customer's.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use recommendation_api::records::CustomerProfile;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::App;
use crate::http::caller::{Caller, EVENTS_WRITE, visit};
use crate::http::input::{Body, PathId, check_id};
use crate::http::problem::{Problem, ProblemBody};
use crate::log::AppendError;

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(add_alias))
}

/// One of both.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Alias)]
struct Asked {
    /// The visit whose events a publishable key wrote.
    #[schema(min_length = 1, max_length = 248)]
    session_id: Option<String>,
    /// Another id that the customer was known by; needs scope events:write.
    #[schema(min_length = 1, max_length = 256)]
    alias: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = WrittenAlias)]
struct Written {
    /// Whose it is from now on.
    customer_id: String,
    /// The id that is theirs now; of a visit, `session:` and its id.
    alias: String,
}

/// Fold an anonymous visit into a customer
///
/// For sign-in: what was done in the visit, before and after, counts as the customer's, and is erased with them. 202:
/// acknowledged by the log.
#[utoipa::path(post, path = "/v1/customers/{customer_id}/aliases", operation_id = "add_alias", tag = "customers",
    security(("token" = [])),
    params(("customer_id" = String, Path, description = "The customer", min_length = 1, max_length = 256)),
    request_body = Asked,
    responses(
        (status = 202, description = "Acknowledged by the log", body = Written),
        (status = 403, description = "The token is another customer's and has no scope events:write", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "It is another customer's already", body = ProblemBody,
            content_type = "application/problem+json"),
    ))]
async fn add_alias(
    State(app): State<Arc<App>>,
    PathId(customer_id): PathId,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Written>), Problem> {
    check_id("customer_id", &customer_id)?;
    caller.require_customer_or(&customer_id, EVENTS_WRITE)?;
    let asked: Asked = body.json()?;
    let alias = match (asked.session_id, asked.alias) {
        (Some(session), None) => visit(&session)?,
        (None, Some(alias)) => {
            // Or a customer could have another's history by guessing an id.
            caller.require_scope(EVENTS_WRITE)?;
            check_id("alias", &alias)?;
            alias
        }
        _ => {
            return Err(Problem::field(
                "session_id",
                "give session_id or alias, one of both",
            ));
        }
    };
    app.require_model()?;
    let whose = app.name(&customer_id);
    if alias == customer_id || alias == whose {
        return Err(Problem::field(
            "alias",
            "alias must be another id than the customer's",
        ));
    }
    let id = app.name_in_log(&alias).await?;
    let whose = match app.privacy.salts {
        Some(_) if whose == customer_id => app.name_in_log(&customer_id).await?,
        _ => whose,
    };
    let written = Written { customer_id, alias };
    if app.directory.profile(&id).is_none() && app.directory.has_record(&id) {
        // Or nobody could tell any more whose it was.
        return Err(
            AppendError::Unavailable("the alias is being erased with whose it was".to_owned()).into(),
        );
    }
    match app.directory.canonical(&id) {
        Some(owner) if *owner == *whose => return Ok((StatusCode::ACCEPTED, Json(written))),
        Some(_) => return Err(Problem::conflict("the alias belongs to another customer already")),
        None => {}
    }
    let profile = CustomerProfile {
        alias_of: Some(whose),
        ..app.directory.profile(&id).unwrap_or_default()
    };
    app.is_still_called(&written.alias, &id)?;
    app.is_still_called(
        &written.customer_id,
        profile.alias_of.as_deref().unwrap_or_default(),
    )?;
    app.log.put_profile(&id, &profile).await?;
    Ok((StatusCode::ACCEPTED, Json(written)))
}
