//! The HTTP API. One file per group of routes below `routes/`; what all of them share lies here.
//!
//! Errors are [`problem::Problem`]s everywhere: a handler returns `Result<_, Problem>`.

mod admit;
mod asked;
pub mod auth;
mod caller;
pub(crate) mod conditional;
pub mod console;
pub mod gmail;
mod input;
mod internal;
mod jwks;
pub mod keys;
mod layers;
pub mod limiter;
mod observe;
pub mod openapi;
pub(crate) mod outgoing;
mod problem;
pub mod remote;
mod routes;
mod schemas;
pub mod server;
pub mod signature;
pub mod tls;
pub mod tokens;
mod tracked;
pub mod users;
mod verified;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::Extension;
use recommendation_api::config::RecommenderConfig;
use recommendation_api::report::Phase;
use tokio_util::sync::CancellationToken;

use crate::baskets::Baskets;
use crate::cache::AnswerCache;
use crate::config::Live;
use crate::directory::Directory;
use crate::histories::{Histories, Kept};
use crate::impressions::Impressions;
use crate::ingest::{LateReader, Progress};
use crate::insights::desk::Desk;
use crate::insights::ksqldb::Tables;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::privacy::{Privacy, Subject};
use crate::quality::Scrape;
use crate::resilience::load::Load;
use crate::shown::Shown;
use crate::telemetry::LogFilter;
use crate::traces::Traces;
use crate::watching::Watching;

pub(crate) use self::caller::VISIT_PREFIX;
pub use self::internal::router as internal_router;

/// How often a history is asked for where it is wanted surely.
const ASKS: u32 = 5;
/// And how long to wait before asking again.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// What handlers use. Everything in it is shared and none of it is waited for.
pub struct App {
    /// The model.
    pub reader: LateReader,
    /// Profiles, addresses and titles.
    pub directory: Arc<Directory>,
    /// Figures about the shop.
    pub desk: Desk,
    /// ksqlDB's tables, where there are any.
    pub tables: Option<Tables>,
    /// What was shown to whom, on its way to the log.
    pub impressions: Impressions,
    /// Who may be learned from, and how customers are forgotten.
    pub privacy: Arc<Privacy>,
    /// Where events and products are appended.
    pub log: Arc<dyn Log>,
    /// Tokens and users.
    pub auth: Arc<auth::Auth>,
    /// Rate limits.
    pub limiter: limiter::Limiter,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Metrics that are looked up when they are scraped.
    pub scrape: Scrape,
    /// What customers were shown lately.
    pub shown: Shown,
    /// Live events, for people who watch.
    pub watching: Arc<Watching>,
    /// What the console's routes share.
    pub console: console::Console,
    /// Answers computed lately, where a cache is configured.
    pub cache: Option<Arc<AnswerCache>>,
    /// Where histories are kept, if not with the model.
    pub histories: Option<Arc<Histories>>,
    /// Traces, where a collector is configured.
    pub traces: Traces,
    /// What turns requests away before they queue.
    pub load: Arc<Load>,
    /// How far the ingest thread is.
    pub progress: Arc<ArcSwap<Progress>>,
    /// The configuration that may change.
    pub live: Arc<ArcSwap<Live>>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted: remote::Trusted,
    /// Key of webhook signatures, if any.
    pub webhook_key: Option<secrecy::SecretString>,
    /// Checks who pushes Gmail's notifications, if anybody may.
    pub gmail: Option<gmail::PushTokens>,
    /// Who buys what, for what goes together.
    pub baskets: Arc<Baskets>,
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

    /// Who calls, by address. Without a connection (a test's direct call) the caller is this host.
    fn caller(&self, peer: Option<Extension<remote::Peer>>, headers: &http::HeaderMap) -> IpAddr {
        peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |Extension(peer)| {
            self.trusted.caller(peer, headers)
        })
    }

    /// Has a customer's history at hand, where it may have to be brought from elsewhere. If it does not come in time the
    /// answer is that of a customer who is not known; false then.
    async fn recall(&self, name: &str) -> bool {
        let Some(histories) = &self.histories else {
            return true;
        };
        if self.reader.has_history(name) {
            return true;
        }
        // A visit that turned out to be a customer's is not theirs who know its id alone.
        if self.directory.canonical(name).is_some() || !self.privacy.tracks(&self.directory, name) {
            return true;
        }
        let aliases = self.directory.aliases(name);
        let ids = std::iter::once(name).chain(aliases.iter().map(|alias| &**alias));
        let ids: Vec<Subject> = ids.map(|id| self.privacy.subject(id)).collect();
        let found = histories.of(&ids).await;
        if let Some(events) = &found {
            self.reader.recall(name, events.iter().map(Kept::past));
        }
        found.is_some()
    }

    /// [`App::recall`] for somebody who asks what is known: that nothing is must be true. Waits, and then refuses.
    async fn recall_surely(&self, name: &str) -> Result<(), problem::Problem> {
        for _ in 0..ASKS {
            if self.recall(name).await {
                return Ok(());
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        let late = "the history does not come from Redis; try again";
        Err(problem::Problem::unavailable(late, 2))
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
    let routes = routes::router().0.with_state(Arc::clone(&app));
    layers::wrap(routes, &app, &config.http.cors_origins)
}

/// Other routes within the layers that every request passes: what the service costs without a handler.
pub fn within_layers(routes: Router, app: &Arc<App>) -> Router {
    layers::wrap(routes, app, &[])
}
