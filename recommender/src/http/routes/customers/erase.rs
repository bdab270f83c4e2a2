//! `DELETE /v1/customers/{id}`: a customer asks to be forgotten (GDPR art. 17).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use recommendation_api::event::rfc3339;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{aliases, means};
use crate::http::App;
use crate::http::caller::{CUSTOMERS_ADMIN, Caller};
use crate::http::input::{PathId, check_id};
use crate::http::problem::{Problem, ProblemBody};
use crate::privacy::places::{Later, Remains};

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(erase))
}

#[derive(Serialize, ToSchema)]
#[schema(as = Erasure)]
struct Erased {
    /// Who asked.
    customer_id: String,
    /// Other ids that were the customer's, erased too.
    aliases: Vec<Arc<str>>,
    /// What happened before this is forgotten; what happens later counts again.
    erased_at: String,
    /// Gone from every replica within a second.
    at_once: Vec<&'static str>,
    /// Gone when it is made anew.
    later: Vec<Later>,
    /// What stays in the shop's own log, and until when.
    remains: Vec<Remains>,
}

/// Erase a customer
///
/// The erasure is a record of its own, keyed by an HMAC of the id, so that a replica that reads the log anew forgets
/// too. The customer may come back: what happens after the answer counts. 202: acknowledged by the log.
#[utoipa::path(delete, path = "/v1/customers/{customer_id}", operation_id = "erase_customer", tag = "customers",
    security(("token" = [])),
    params(("customer_id" = String, Path, description = "The customer", min_length = 1, max_length = 256)),
    responses(
        (status = 202, description = "What goes when, and what stays until when", body = Erased),
        (status = 403, description = "The token is another customer's and has no scope customers:admin", body = ProblemBody,
            content_type = "application/problem+json"),
    ))]
async fn erase(
    State(app): State<Arc<App>>,
    PathId(customer_id): PathId,
    caller: Caller,
) -> Result<(StatusCode, Json<Erased>), Problem> {
    check_id("customer_id", &customer_id)?;
    caller.require_customer_or(&customer_id, CUSTOMERS_ADMIN)?;
    // Or the customer's aliases would not be known.
    app.require_model()?;
    let erased = means(&app).erase(&customer_id).await?;
    let places = &app.privacy.places;
    let body = Erased {
        aliases: aliases(&erased.ids, &customer_id),
        customer_id,
        erased_at: rfc3339(erased.time_ms),
        at_once: places.at_once(),
        later: places.later(erased.time_ms),
        remains: places.remains(erased.time_ms, erased.had_profile),
    };
    Ok((StatusCode::ACCEPTED, Json(body)))
}
