//! The console at `/` of the internal port: for people who look after the shop's recommendations. A page of static
//! files that lie in this program, and the JSON behind it below `/console/api/`, for tokens of scope `customers:read`.
//!
//! What it shows is what customers get: the same engine, asked in the same way. Looking changes nothing: its answers
//! are no impressions, and count in no metric.

mod customers;
mod health;
mod live;
mod pages;
mod shop;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderValue, header};
use recommender_engine::Algorithm;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::App;
use super::caller::{CUSTOMERS_READ, Caller};
use super::problem::Problem;
use super::routes::sign_in;

/// Searches through all customers at once: each keeps a core busy for a while.
const SEARCHES: usize = 1;

/// What the console's routes share.
pub struct Console {
    /// The pipeline that is looked at.
    pipeline: String,
    searches: Semaphore,
}

impl Console {
    /// Of the pipeline of this name.
    pub fn new(pipeline: &str) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            searches: Semaphore::new(SEARCHES),
        }
    }
}

/// The console's routes.
pub(super) fn router() -> Router<Arc<App>> {
    let api = Router::new()
        .route("/console/api/session", get(session))
        .route("/console/api/sign-in", post(sign_in::token))
        .route("/console/api/customers", get(customers::find))
        .route("/console/api/customers/{id}", get(customers::history))
        .route(
            "/console/api/customers/{id}/recommendations",
            get(customers::recommendations),
        )
        .route("/console/api/live", get(live::events))
        .route("/console/api/health", get(health::health))
        .route("/console/api/shop", get(shop::shop))
        .route("/console/api/{*rest}", get(no_route))
        .layer(from_fn(never_kept));
    Router::new()
        .route("/", get(pages::index))
        .route("/console/{file}", get(pages::asset))
        .merge(api)
        .layer(from_fn(guarded))
}

/// Only what this service serves, no inline script or style, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Answers are about persons: no browser or proxy keeps them.
async fn never_kept(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn no_route() -> Response {
    Problem::not_found("there is no such route").into_response()
}

/// Who looks, and at what.
#[derive(Serialize)]
struct Session {
    /// Of the token.
    user_id: String,
    /// When it ends, seconds since 1970.
    expires: i64,
    /// The pipeline; empty where none is named.
    pipeline: String,
    /// The program's version.
    version: &'static str,
    /// The algorithm that answers customers.
    algorithm: String,
    /// Algorithms that can be asked now.
    algorithms: Vec<&'static str>,
}

async fn session(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Session>, Problem> {
    caller.require_scope(CUSTOMERS_READ)?;
    let claims = caller.claims.ok_or_else(Problem::internal)?;
    // Whoever looks at customers' data is to be found in the log.
    tracing::info!(user = claims.user_id, "the console was opened");
    Ok(Json(Session {
        user_id: claims.user_id.clone(),
        expires: claims.exp,
        pipeline: app.console.pipeline.clone(),
        version: env!("CARGO_PKG_VERSION"),
        algorithm: app.live.load().algorithm.clone(),
        algorithms: algorithms(&app),
    }))
}

/// Those that answer by themselves now: a fitted one or the user's own needs its model.
fn algorithms(app: &App) -> Vec<&'static str> {
    let fitted = app.reader.fitted();
    let there = |algorithm: Algorithm| match algorithm {
        Algorithm::Ease | Algorithm::ImplicitAls | Algorithm::Onnx => {
            fitted.iter().any(|(known, _)| *known == algorithm)
        }
        _ => algorithm.is_served(),
    };
    let all = Algorithm::ALL.into_iter().filter(|algorithm| there(*algorithm));
    all.map(Algorithm::name).collect()
}
