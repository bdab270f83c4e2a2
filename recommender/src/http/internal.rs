//! The internal port: health, status, metrics, log level, console. Never published outside the cluster.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, header};
use recommendation_api::report::{DependencyState, ModelReport, Phase, StatusReport};

use super::App;
use super::problem::Problem;
use crate::insights::DAYS;
use crate::quality;

/// The internal router.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/startupz", get(startupz))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .route("/loglevel", get(log_level).put(set_log_level))
        .merge(super::console::router())
        .with_state(app)
}

/// How long the ingest thread of a serving replica may be silent; it speaks several times a second.
const SILENCE: Duration = Duration::from_secs(120);

/// The process answers and its ingest thread does not hang. One that died has ended the process already;
/// while the log is read for the first time, one long step is no hanging.
async fn healthz(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    let hangs = app.is_serving() && app.progress.load().at.elapsed() > SILENCE;
    if hangs {
        (StatusCode::SERVICE_UNAVAILABLE, "the ingest thread hangs\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

async fn startupz(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    if app.is_serving() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "loading\n")
    }
}

/// Once ready, a replica stays ready while it can answer from memory: lag and lost dependencies are details
/// of `/status`, or every replica would be taken out at once by the same lost Kafka.
async fn readyz(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    match (app.draining.is_cancelled(), app.is_serving()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        (_, false) => (StatusCode::SERVICE_UNAVAILABLE, "loading\n"),
        _ => (StatusCode::OK, "ok\n"),
    }
}

async fn status(State(app): State<Arc<App>>) -> Json<StatusReport> {
    Json(report(&app))
}

/// What this replica says of itself.
pub(super) fn report(app: &App) -> StatusReport {
    let progress = app.progress.load();
    let live = app.live.load();
    let stats = app.reader.stats();
    let redis = app.limiter.redis_state();
    let mut notes = Vec::new();
    if progress.phase == Phase::Loading {
        notes.push("reading the log; not ready yet".to_owned());
    }
    if let Some(problem) = &progress.problem {
        notes.push(problem.clone());
    }
    if progress.log == DependencyState::Down {
        notes.push("the event log does not answer; recommendations come from memory".to_owned());
    }
    if redis == DependencyState::Down {
        notes.push("Redis does not answer; rate limits hold per replica".to_owned());
    }
    if app.cache.as_ref().is_some_and(|cache| cache.is_cut_off()) {
        notes.push("Redis fails; recommendations are cached per replica".to_owned());
    }
    let drift = quality::drift_view(progress.drift, &live);
    if let Some(drift) = drift.as_ref().filter(|drift| drift.drifted) {
        let since_fit = drift.since_fit.map_or_else(String::new, |drift| {
            format!(", {drift:.2} in products since the models were fitted")
        });
        notes.push(format!(
            "customers behave differently from last week: drift is {:.2} in products, {:.2} in event types{since_fit} \
             (threshold {})",
            drift.products, drift.event_types, drift.threshold
        ));
    }
    if stats.refused_products > 0 {
        notes.push("limits.maxProducts is reached; further products are not learned".to_owned());
    }
    if app.metrics.plain.get() > 0 {
        notes.push(
            "other producers write events with plain customer ids: privacy.pseudonymization does not reach them"
                .to_owned(),
        );
    }
    if let Some(problem) = &live.brought.problem {
        let answers = match &live.brought.version {
            Some(before) => format!("{before}, the model before it, answers"),
            None => "Hybrid answers for Onnx".to_owned(),
        };
        notes.push(format!("model.onnx: {problem}; {answers}"));
    } else if live.onnx.is_some() && live.brought.version.is_none() {
        notes.push("model.onnx: the model is being read; Hybrid answers for Onnx until then".to_owned());
    }
    if !live.trainable && ["Hybrid", "Auto"].contains(&live.algorithm.as_str()) {
        notes.push(
            "no snapshot store is configured: fitted models are left out, and the blend has its default weights"
                .to_owned(),
        );
    }
    StatusReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        phase: progress.phase,
        events: progress.events,
        lag_records: progress.lag.records,
        lag_seconds: progress.lag.seconds,
        dead_letters: progress.malformed,
        model: ModelReport {
            algorithm: live.algorithm.clone(),
            version: live.version.clone(),
            products: stats.products,
            customers: stats.customers,
            trained_at: live
                .fitted
                .as_ref()
                .map(|fitted| recommendation_api::event::rfc3339(fitted.trained_ms)),
            hit_rate_at_10: quality::hit_rate(&app.reader, &live.algorithm),
        },
        log: progress.log,
        redis,
        drift,
        notes,
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let drift = app.progress.load().drift;
    app.scrape
        .refresh(&app.metrics, &app.reader, &app.live.load(), drift);
    tell_experiments(&app).await;
    app.shown
        .refresh(&app.metrics.shown, &app.reader, crate::clock::now_ms());
    match app.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(e) => {
            tracing::error!(error = %e, "metrics cannot be rendered");
            Problem::internal().into_response()
        }
    }
}

/// Arms' figures are those of a minute ago at most: they are about a week. Where there are none the others are told
/// all the same.
async fn tell_experiments(app: &App) {
    const OLDEST: Duration = Duration::from_secs(60);
    if app.is_serving()
        && let Ok(report) = app.desk.report(app.live.load_full(), DAYS, OLDEST).await
    {
        app.metrics.experiments.tell(&report);
    }
}

async fn log_level(State(app): State<Arc<App>>) -> String {
    app.log_filter.current() + "\n"
}

async fn set_log_level(State(app): State<Arc<App>>, filter: String) -> Result<String, Problem> {
    app.log_filter
        .set(filter.trim())
        .map_err(|e| Problem::bad_request(e.to_string()))?;
    tracing::info!(filter = filter.trim(), "log filter changed");
    Ok(app.log_filter.current() + "\n")
}
