//! How the model does: what `/status` says, how well each algorithm predicts, what comes in, what is shown.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use recommendation_api::report::StatusReport;
use recommender_engine::Stats;
use serde::Serialize;

use crate::clock::now_ms;
use crate::http::App;
use crate::http::caller::{CUSTOMERS_READ, Caller};
use crate::http::internal::report;
use crate::http::problem::Problem;
use crate::shown::Figures;

#[derive(Serialize)]
pub(super) struct Health {
    status: StatusReport,
    /// Best first.
    predictions: Vec<Prediction>,
    /// Fitted models that answer, by name, with their versions.
    fitted: Vec<(&'static str, String)>,
    counts: Stats,
    shown: Figures,
    /// Events that were odd, since the start.
    odd: Odd,
}

/// How well an algorithm predicts what customers turn to next.
#[derive(Serialize)]
struct Prediction {
    algorithm: &'static str,
    hit_rate_at_10: f32,
    mrr_at_10: f32,
    predictions: u64,
}

#[derive(Serialize)]
struct Odd {
    unknown_product: u64,
    out_of_order: u64,
    malformed: u64,
    duplicate: u64,
}

pub(super) async fn health(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Health>, Problem> {
    caller.require_scope(CUSTOMERS_READ)?;
    let mut rates = app.reader.hit_rates();
    rates.sort_by(|a, b| b.hit_rate_at_10.total_cmp(&a.hit_rate_at_10));
    let predictions = rates.into_iter().map(|rate| Prediction {
        algorithm: rate.algorithm.name(),
        hit_rate_at_10: rate.hit_rate_at_10,
        mrr_at_10: rate.mrr_at_10,
        predictions: rate.predictions,
    });
    let fitted = app.reader.fitted().into_iter();
    let metrics = &app.metrics;
    Ok(Json(Health {
        status: report(&app),
        predictions: predictions.collect(),
        fitted: fitted
            .map(|(algorithm, version)| (algorithm.name(), version))
            .collect(),
        counts: app.reader.stats(),
        shown: app.shown.figures(&app.reader, now_ms()),
        odd: Odd {
            unknown_product: metrics.quality.unknown_products.get(),
            out_of_order: metrics.quality.out_of_order.get(),
            malformed: metrics.malformed.get(),
            duplicate: metrics.duplicates.get(),
        },
    }))
}
