//! What every reconcile shares.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::Client;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::reflector::Store;
use recommendation_api::pipeline::status::ModelStatus;
use tokio::sync::Semaphore;

use crate::apply::record::AppliedRecord;
use crate::apply::refused::{Refused, RefusedTopics};
use crate::apply::uncached::Checked;
use crate::backoff::Backoff;
use crate::caches::{Caches, References};
use crate::claims::Claims;
use crate::cleanup::Keyring;
use crate::controller::Guarded;
use crate::deadline;
use crate::dereference::KafkaTopics;
use crate::health::Health;
use crate::kafka::Pool;
use crate::ksqldb::http::Servers;
use crate::leader::Fence;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::recorder::Recorder;
use crate::telemetry::LogFilter;
use crate::traces::Traces;
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
    /// ksqlDB servers behind an authority of their own, and those that are away.
    pub ksqldb: Servers,
    /// Children.
    pub caches: Caches,
    /// Which pipelines name which Secret or ConfigMap.
    pub references: Arc<References>,
    /// Topics that older pipelines own.
    pub claims: Arc<Claims>,
    /// Pipelines, by watched namespace.
    pub stores: Vec<Store<Guarded>>,
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
    /// When the model's figures were last written, or first seen to differ, by pipeline.
    pub figures: Figures,
    /// Statements that ksqlDB refused a moment ago.
    pub refused: Refused,
    /// Changes of topics that Kafka refused a moment ago.
    pub refused_topics: RefusedTopics,
    /// Topics that Strimzi manages.
    pub kafka_topics: KafkaTopics,
    /// Which kinds exist here that somebody else installs.
    pub discovered: Discovered,
    /// Objects of those kinds that were found as wanted a moment ago.
    pub checked: Checked,
    /// What was applied outside Kubernetes, as this process last wrote or read it.
    pub records: Records,
    /// Whether the operator is alive.
    pub health: Arc<Health>,
    /// Pipelines that wait.
    pub queue: Arc<Queue>,
    /// Bounds the pipelines that are looked at at the same time, over all watched namespaces.
    pub slots: Semaphore,
    /// Until when this process may act.
    pub fence: Fence,
    /// What is logged.
    pub log_filter: Arc<LogFilter>,
    /// Where traces go.
    pub traces: Traces,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
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
        // An operator that has just started cannot know when they were written: as if it were now, or each restart
        // would write to every pipeline.
        let last = *written.entry(uid.to_owned()).or_insert_with(Instant::now);
        let due = last.elapsed() >= MODEL_FIGURES;
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

/// What was applied outside Kubernetes, by pipeline. One operator acts at a time, so that what it wrote last is what is
/// there; somebody who deletes the record is healed by the next look.
#[derive(Debug, Default)]
pub struct Records(Mutex<HashMap<String, AppliedRecord>>);

impl Records {
    /// The record, unless it has to be read.
    pub fn get(&self, uid: &str) -> Option<AppliedRecord> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(uid)
            .cloned()
    }

    /// Keeps a record that was written or read.
    pub fn keep(&self, uid: &str, record: &AppliedRecord) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if records.get(uid) != Some(record) {
            records.insert(uid.to_owned(), record.clone());
        }
    }

    /// Forgets a pipeline that is gone, or whose record could not be written.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// What was last known of a kind, and when.
type Known = (Instant, Option<ApiResource>);

/// Whether kinds exist that somebody else installs, each asked for once a resync: a CRD may be installed later.
#[derive(Debug, Default)]
pub struct Discovered(Mutex<HashMap<GroupVersionKind, Known>>);

impl Discovered {
    /// The resource, or `None` where its CRD is not installed; an answer is believed for `ttl`.
    pub async fn get(&self, client: &Client, gvk: &GroupVersionKind, ttl: Duration) -> Option<ApiResource> {
        let known = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(gvk)
            .cloned();
        if let Some((at, resource)) = &known
            && at.elapsed() < ttl
        {
            return resource.clone();
        }
        // What was known stands while the API server cannot tell: a condition must not move with its moods.
        let standing = || known.as_ref().and_then(|(_, resource)| resource.clone());
        let asked = kube::discovery::pinned_kind(client, gvk);
        let resource = match deadline::within(deadline::KUBERNETES, asked).await {
            Ok(Ok((resource, _))) => Some(resource),
            Ok(Err(error)) if is_absent(&error) => {
                tracing::debug!(kind = gvk.kind, %error, "not installed");
                None
            }
            Ok(Err(error)) => {
                tracing::warn!(kind = gvk.kind, %error, "cannot find out whether this kind is installed");
                return standing();
            }
            Err(error) => {
                tracing::warn!(kind = gvk.kind, %error, "cannot find out whether this kind is installed");
                return standing();
            }
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(gvk.clone(), (Instant::now(), resource.clone()));
        resource
    }
}

/// The API server answers, and knows no such kind.
fn is_absent(error: &kube::Error) -> bool {
    match error {
        kube::Error::Discovery(_) => true,
        kube::Error::Api(status) => status.code == 404,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kube::client::Body;
    use serde_json::json;

    use super::*;
    use crate::build::service_monitor;

    #[tokio::test]
    async fn a_kind_that_was_there_is_believed_in_until_the_api_server_says_that_it_is_gone() {
        let asked = AtomicUsize::new(0);
        let service = tower::service_fn(move |_: http::Request<Body>| {
            let failure =
                |code: u16| json!({"kind": "Status", "status": "Failure", "code": code, "reason": "x"});
            let kind = json!({"kind": "ServiceMonitor", "name": "servicemonitors", "namespaced": true,
                "singularName": "", "verbs": ["get"]});
            let list = json!({"kind": "APIResourceList", "groupVersion": "monitoring.coreos.com/v1",
                "resources": [kind]});
            let (code, body) = match asked.fetch_add(1, Ordering::SeqCst) {
                0 => (200, list),
                1 => (500, failure(500)),
                _ => (404, failure(404)),
            };
            let mut answer = http::Response::new(Body::from(body.to_string().into_bytes()));
            *answer.status_mut() = http::StatusCode::from_u16(code).unwrap();
            std::future::ready(Ok::<_, std::convert::Infallible>(answer))
        });
        let client = Client::new(service, "default");
        let discovered = Discovered::default();
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(
                discovered
                    .get(&client, &service_monitor::gvk(), Duration::ZERO)
                    .await
                    .is_some(),
            );
        }
        assert_eq!(seen, [true, true, false]);
    }
}
