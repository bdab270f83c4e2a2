//! What every reconcile shares.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::Client;
use kube::core::ApiResource;
use kube::runtime::reflector::Store;
use recommendation_api::pipeline::RecommendationPipeline;
use recommendation_api::pipeline::status::ModelStatus;

use crate::apply::refused::Refused;
use crate::backoff::Backoff;
use crate::build::service_monitor;
use crate::caches::Caches;
use crate::cleanup::Keyring;
use crate::controller::Guarded;
use crate::deadline;
use crate::kafka::Pool;
use crate::metrics::Metrics;
use crate::recorder::Recorder;
use crate::validate::Settings;

/// The figures of the model are written at most this often.
const MODEL_FIGURES: Duration = Duration::from_secs(180);

/// What every reconcile shares.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// ksqlDB and the replicas.
    pub http: reqwest::Client,
    /// Kafka.
    pub kafka: Pool,
    /// Children.
    pub caches: Caches,
    /// Pipelines.
    pub store: Store<Guarded>,
    /// Events.
    pub recorder: Recorder,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Failures by object.
    pub backoff: Backoff,
    /// What the operator was started with.
    pub settings: Settings,
    /// Credentials that a cleanup may need.
    pub keyring: Keyring,
    /// A cleanup that is blocked for longer is given up; `None` = never.
    pub cleanup_timeout: Option<Duration>,
    /// An idle pipeline is looked at this often.
    pub resync: Duration,
    /// When the model's figures were last written, by pipeline.
    pub figures: Figures,
    /// Statements that ksqlDB refused a moment ago.
    pub refused: Refused,
    /// Whether ServiceMonitors exist here.
    pub service_monitors: Discovered,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// Every pipeline that can be read.
    pub fn pipelines(&self) -> Vec<RecommendationPipeline> {
        self.store
            .state()
            .iter()
            .filter_map(|guarded| guarded.0.as_ref().ok().cloned())
            .collect()
    }
}

/// Holds the model's figures back: they move by themselves, and status must not.
#[derive(Debug, Default)]
pub struct Figures(Mutex<HashMap<String, Instant>>);

impl Figures {
    /// The figures to write: the new ones when they are due, else those that stand.
    pub fn settle(
        &self,
        uid: &str,
        standing: Option<&ModelStatus>,
        fresh: Option<ModelStatus>,
    ) -> Option<ModelStatus> {
        let (Some(standing), Some(new)) = (standing, &fresh) else {
            return fresh.or_else(|| standing.cloned());
        };
        if standing == new {
            return fresh;
        }
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = written.get(uid).is_none_or(|at| at.elapsed() >= MODEL_FIGURES);
        // Another algorithm or version is news, not a moving figure.
        let news = standing.algorithm != new.algorithm || standing.version != new.version;
        if !due && !news {
            return Some(standing.clone());
        }
        written.insert(uid.to_owned(), Instant::now());
        fresh
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// Whether ServiceMonitors exist, asked once a resync: the CRD may be installed later.
#[derive(Debug, Default)]
pub struct Discovered(Mutex<Option<(Instant, Option<ApiResource>)>>);

impl Discovered {
    /// The resource, or `None` where its CRD is not installed; an answer is believed for `ttl`.
    pub async fn get(&self, client: &Client, ttl: Duration) -> Option<ApiResource> {
        {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, resource)) = known.as_ref()
                && at.elapsed() < ttl
            {
                return resource.clone();
            }
        }
        let gvk = service_monitor::gvk();
        let asked = kube::discovery::pinned_kind(client, &gvk);
        let resource = match deadline::within(deadline::KUBERNETES, asked).await {
            Ok(Ok((resource, _))) => Some(resource),
            Ok(Err(error)) => {
                tracing::debug!(%error, "ServiceMonitors are not installed");
                None
            }
            Err(error) => {
                tracing::warn!(%error, "cannot find out whether ServiceMonitors are installed");
                return None;
            }
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), resource.clone()));
        resource
    }
}
