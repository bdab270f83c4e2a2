//! `/v1/customers`: what a customer tells about themselves.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

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
    let profile = parse_profile(body.object()?)?;
    app.log.put_profile(&customer_id, &profile).await?;
    Ok((StatusCode::ACCEPTED, Json(Written { customer_id })))
}
