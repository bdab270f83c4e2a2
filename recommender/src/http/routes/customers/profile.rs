//! `PUT /v1/customers/{id}/profile`: what a customer tells about themselves, consent included.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use recommendation_api::records::ErasureScope;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ids, means};
use crate::http::App;
use crate::http::caller::{Caller, EVENTS_WRITE};
use crate::http::input::{Body, PathId, check_id};
use crate::http::problem::{Problem, ProblemBody};
use crate::http::schemas::ProfileBody;
use crate::profile::parse_profile;

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(put_profile))
}

#[derive(Serialize, ToSchema)]
#[schema(as = WrittenProfile)]
struct Written {
    /// Whose profile was written.
    customer_id: String,
}

/// Write a customer's profile
///
/// Replaces it as a whole. 202: acknowledged by the log; rules and `/gmail-webhook` know it some milliseconds later.
/// Whoever refuses (`consent: false`) is forgotten by the model and gets what is popular; whoever agrees later is
/// known from then on only.
#[utoipa::path(put, path = "/v1/customers/{customer_id}/profile", operation_id = "write_profile", tag = "customers", security(("token" = [])),
    params(("customer_id" = String, Path, description = "The customer", min_length = 1, max_length = 256)),
    request_body = ProfileBody,
    responses(
        (status = 202, description = "Written", body = Written),
        (status = 403, description = "The token is another customer's and has no scope events:write", body = ProblemBody,
            content_type = "application/problem+json"),
    ))]
async fn put_profile(
    State(app): State<Arc<App>>,
    PathId(customer_id): PathId,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Written>), Problem> {
    check_id("customer_id", &customer_id)?;
    caller.require_customer_or(&customer_id, EVENTS_WRITE)?;
    let mut profile = parse_profile(body.object()?)?;
    let id = app.name_in_log(&customer_id).await?;
    let before = app.directory.profile(&id).unwrap_or_default();
    profile.alias_of = before.alias_of;
    // While profiles are still being read, what was said before is not known: better one cut too many.
    let changes = app.privacy.allows(before.consent) != app.privacy.allows(profile.consent);
    if changes || (profile.consent.is_some() && !app.is_serving()) {
        // First: whoever reads the log anew must not learn across the change.
        means(&app)
            .forget(&ids(&app, &customer_id), ErasureScope::Learned)
            .await?;
    }
    app.is_still_called(&customer_id, &id)?;
    app.log.put_profile(&id, &profile).await?;
    Ok((StatusCode::ACCEPTED, Json(Written { customer_id })))
}
