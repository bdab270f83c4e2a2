//! The HTTP API. One file per group of routes below `routes/`; what all of them share lies here.
//!
//! Errors are [`problem::Problem`]s everywhere: a handler returns `Result<_, Problem>`.

pub mod auth;
mod caller;
mod input;
mod internal;
mod layers;
pub mod limiter;
mod problem;
pub mod remote;
mod routes;
pub mod server;
pub mod tokens;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use recommendation_api::config::RecommenderConfig;
use recommendation_api::report::Phase;
use recommender_engine::Reader;
use tokio_util::sync::CancellationToken;

use crate::config::Live;
use crate::ingest::Progress;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::telemetry::LogFilter;

pub use self::internal::router as internal_router;

/// What handlers use. Everything in it is shared and none of it is waited for.
pub struct App {
    /// The model.
    pub reader: Reader,
    /// Where events and products are appended.
    pub log: Arc<dyn Log>,
    /// Tokens and users.
    pub auth: Arc<auth::Auth>,
    /// Rate limits.
    pub limiter: limiter::Limiter,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// How far the ingest thread is.
    pub progress: Arc<ArcSwap<Progress>>,
    /// The configuration that may change.
    pub live: Arc<ArcSwap<Live>>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted: remote::Trusted,
    /// Key of webhook signatures, if any.
    pub webhook_key: Option<secrecy::SecretString>,
    /// The log filter.
    pub log_filter: LogFilter,
    /// Cancelled when the process begins to end: not ready from then on, still answering.
    pub draining: CancellationToken,
}

impl App {
    /// Whether the model can answer.
    pub fn is_serving(&self) -> bool {
        self.progress.load().phase == Phase::Serving
    }

    /// Refuses while the model is still read from the log: an answer would be that of an empty shop.
    fn require_model(&self) -> Result<(), problem::Problem> {
        if self.is_serving() {
            Ok(())
        } else {
            Err(problem::Problem::unavailable("the model is still loading", 2))
        }
    }
}

/// The public router.
pub fn public_router(app: Arc<App>, config: &RecommenderConfig) -> Router {
    let routes = routes::router().with_state(Arc::clone(&app));
    layers::wrap(routes, &app, config)
}
