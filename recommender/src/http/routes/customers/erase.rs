//! `DELETE /v1/customers/{id}`: a customer asks to be forgotten (GDPR art. 17).

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use recommendation_api::event::rfc3339;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{aliases, ids};
use crate::http::App;
use crate::http::caller::{CUSTOMERS_ADMIN, Caller};
use crate::http::input::{PathId, check_id};
use crate::http::problem::{Problem, ProblemBody};
use crate::log::AppendError;
use crate::privacy::erasing::{Erasing, Means};
use crate::privacy::places::{Later, Remains};

/// How soon an erasure that failed is tried again, and how seldom at last.
const FIRST_AGAIN: Duration = Duration::from_secs(1);
const LAST_AGAIN: Duration = Duration::from_secs(60);

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
    let ids = ids(&app, &customer_id);
    let aliases = aliases(&ids, &customer_id);
    let erasing = Erasing::new(means(&app), &customer_id, ids);
    // It goes on when the client is gone or the deadline has passed.
    let (now, profiled) = tokio::spawn(carry_out(Arc::clone(&app), erasing))
        .await
        .map_err(|_| Problem::internal())??;
    let places = &app.privacy.places;
    let erased = Erased {
        customer_id,
        aliases,
        erased_at: rfc3339(now),
        at_once: places.at_once(),
        later: places.later(now),
        remains: places.remains(now, profiled),
    };
    Ok((StatusCode::ACCEPTED, Json(erased)))
}

fn means(app: &App) -> Means<'_> {
    Means {
        log: &*app.log,
        privacy: &app.privacy,
        directory: &app.directory,
        impressions: &app.impressions,
    }
}

/// Writes an erasure; says of when it is, milliseconds since 1970, and whether there was a profile. What fails is told, and tried again for as long as the process
/// lives: whoever asks once more need not find what is left.
async fn carry_out(app: Arc<App>, mut erasing: Erasing) -> Result<(i64, bool), AppendError> {
    let told = erasing.go_on(means(&app)).await;
    let (time_ms, profiled) = (erasing.time_ms(), erasing.had_profile());
    if let Err(e) = &told {
        tracing::warn!(error = %e, "an erasure is not in the log yet; it is tried again");
        tokio::spawn(async move {
            let mut wait = FIRST_AGAIN;
            loop {
                tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..=1.0))).await;
                wait = (wait * 2).min(LAST_AGAIN);
                match erasing.go_on(means(&app)).await {
                    Ok(()) => break tracing::info!("the erasure is in the log now"),
                    Err(e) => tracing::debug!(error = %e, "an erasure is still not in the log"),
                }
            }
        });
    }
    told.map(|()| (time_ms, profiled))
}
