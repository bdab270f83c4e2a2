//! `/v1/insights`: what customers do, and what recommendations lead to.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::App;
use crate::http::caller::{Caller, INSIGHTS_READ};
use crate::http::conditional::{self, Validators};
use crate::http::input::Params;
use crate::http::problem::{Problem, ProblemBody};
use crate::insights::report::{DriftView, Quality, Report};
use crate::insights::{DAYS, desk};
use crate::quality;

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(read))
}

/// Read figures about the shop
///
/// Of the last days up to the newest record: the funnel, products, what is bought together, how active customers are,
/// and what recommendations led to, by experiment, arm and placement. Every replica that has read the same records
/// tells the same.
#[utoipa::path(get, path = "/v1/insights", operation_id = "read_insights", tag = "insights", security(("token" = [])),
    params(
        ("days" = Option<u8>, Query, description = "How many days; 7 unless given", minimum = 1, maximum = 7),
        ("limit" = Option<u32>, Query, description = "Most entries of a list; 10 unless given", minimum = 1, maximum = 100),
        ("if-none-match" = Option<String>, Header, description = "Validators of answers that the caller has"),
    ),
    responses(
        (status = 200, description = "The figures", body = Report,
            headers(("etag" = String, description = "Validator of the answer"), ("cache-control" = String))),
        (status = 304, description = "The caller has this answer already"),
        (status = 403, description = "The token has no scope insights:read", body = ProblemBody,
            content_type = "application/problem+json"),
    ))]
async fn read(
    State(app): State<Arc<App>>,
    params: Params,
    caller: Caller,
    known: Validators,
) -> Result<Response, Problem> {
    caller.require_scope(INSIGHTS_READ)?;
    params.only(&["days", "limit"])?;
    let days = days(&params)?;
    let limit = params.limit()?;
    app.require_model()?;
    let report = figures(&app, days).await?.shortened(limit);
    conditional::json(&known, conditional::PERSONAL, &report)
}

/// How many days are asked about.
pub(in crate::http) fn days(params: &Params) -> Result<u8, Problem> {
    match params.one("days")? {
        None => Ok(DAYS),
        Some(text) => text
            .parse()
            .ok()
            .filter(|days| (1..=DAYS).contains(days))
            .ok_or_else(|| Problem::field("days", format!("days must be a whole number from 1 to {DAYS}"))),
    }
}

/// Figures with what the rest of the service knows.
pub(in crate::http) async fn figures(app: &App, days: u8) -> Result<Report, Problem> {
    let live = app.live.load_full();
    let found = app.desk.report(Arc::clone(&live), days, desk::FRESH).await;
    let report = found.map_err(|e| Problem::unavailable(e.to_string(), 1))?;
    let (progress, stats) = (app.progress.load(), app.reader.stats());
    let drift = quality::drift_view(progress.drift, &live).map(|drift| DriftView {
        products: drift.products,
        event_types: drift.event_types,
        since_fit: drift.since_fit,
        threshold: drift.threshold,
        drifted: drift.drifted,
    });
    let products = report
        .top_products
        .iter()
        .map(|top| top.product_id.as_str().into());
    let products: Vec<Arc<str>> = products.collect();
    let ksqldb = match &app.tables {
        Some(tables) => tables.totals(&products).await.map(|totals| (*totals).clone()),
        None => None,
    };
    Ok(Report {
        ksqldb,
        quality: Quality {
            events: progress.events,
            malformed: progress.malformed,
            damped: stats.damped,
            excluded_customers: stats.excluded_customers,
            non_products: stats.non_products,
            too_old: stats.too_old,
            products_without_catalogue: stats.products.saturating_sub(stats.catalogued),
            ..report.quality.clone()
        },
        drift,
        ..Report::clone(&report)
    })
}
