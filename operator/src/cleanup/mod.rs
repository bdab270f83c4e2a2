//! Deletion of what lies outside Kubernetes, where `deletionPolicy: Delete` asks for it. Children go by their owner
//! references; a finalizer exists only while something else would be deleted.
//!
//! Order: recommender down, streams and tables dropped (their queries end with them), topics deleted. "Not found" is
//! success at every step, so that a cleanup that was interrupted can be repeated.

mod finalizer;
pub mod plan;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use recommendation_api::conditions::reasons;
use recommendation_api::names::{Children, SKIP_CLEANUP};
use recommendation_api::pipeline::RecommendationPipeline;

pub use finalizer::{FinalizerError, release, settle};

use crate::apply::drops;
use crate::build::selector_text;
use crate::build::topic_plan::Refusal;
use crate::context::Context;
use crate::deadline;
use crate::dereference;
use crate::kafka::{Connection, KafkaError};
use crate::ksqldb::{Credentials, KsqlError};
use plan::CleanupPlan;

/// Credentials by pipeline, kept while a finalizer exists: in a terminating namespace the Secrets may go first.
#[derive(Debug, Default)]
pub struct Keyring(Mutex<HashMap<String, Kept>>);

/// The credentials of one pipeline.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// How to reach Kafka.
    pub kafka: Option<Connection>,
    /// ksqlDB's.
    pub ksqldb: Option<Credentials>,
    /// The authority that ksqlDB's certificate comes from (PEM).
    pub ksqldb_ca: Option<String>,
}

impl Keyring {
    /// Remembers something for pipeline `uid`.
    pub fn keep(&self, uid: &str, remember: impl FnOnce(&mut Kept)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remember(all.entry(uid.to_owned()).or_default());
    }

    /// What is remembered for pipeline `uid`.
    pub fn get(&self, uid: &str) -> Kept {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(uid)
            .cloned()
            .unwrap_or_default()
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// How far a cleanup came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left: the finalizer may go.
    Done,
    /// Left as it is, because someone said so: the finalizer may go. With what is left, in words.
    GivenUp(String),
    /// The recommender's pods are still there, or the first look at Kafka is on its way.
    Waiting,
    /// It cannot go on: reason and message of CleanupBlocked.
    Blocked(Refusal),
}

/// One attempt at everything.
pub async fn attempt(ctx: &Context, pipeline: &RecommendationPipeline, plan: &CleanupPlan) -> Progress {
    if pipeline
        .annotations()
        .get(SKIP_CLEANUP)
        .is_some_and(|value| value == "true")
    {
        return Progress::GivenUp(format!("annotation {SKIP_CLEANUP} is set; {}", plan.left()));
    }
    if let Some(timeout) = ctx.cleanup_timeout
        && deleted_for(pipeline) > timeout
    {
        return Progress::GivenUp(format!(
            "the operator's --cleanup-timeout is over; {}",
            plan.left()
        ));
    }
    match recommender_down(ctx, pipeline).await {
        Ok(true) => {}
        Ok(false) => return Progress::Waiting,
        Err(message) => return blocked(reasons::APPLY_FAILED, message, plan),
    }
    if let Err(refusal) = drop_sources(ctx, pipeline, plan).await {
        return blocked(refusal.reason, refusal.message, plan);
    }
    match delete_topics(ctx, pipeline, plan).await {
        Ok(true) => Progress::Done,
        Ok(false) => Progress::Waiting,
        Err(refusal) => blocked(refusal.reason, refusal.message, plan),
    }
}

fn blocked(reason: &'static str, message: String, plan: &CleanupPlan) -> Progress {
    let message = format!(
        "{message}. To release the pipeline without cleaning up, annotate it with {SKIP_CLEANUP}=true; {}",
        plan.left()
    );
    Progress::Blocked(Refusal::new(reason, message))
}

fn deleted_for(pipeline: &RecommendationPipeline) -> Duration {
    let since = pipeline.metadata.deletion_timestamp.as_ref();
    since.map_or(Duration::ZERO, |since| {
        Timestamp::now()
            .duration_since(since.0)
            .try_into()
            .unwrap_or(Duration::ZERO)
    })
}

/// Whether nothing reads and writes the topics any more; deletes the Deployment.
async fn recommender_down(ctx: &Context, pipeline: &RecommendationPipeline) -> Result<bool, String> {
    let (namespace, name) = (pipeline.namespace().unwrap_or_default(), pipeline.name_any());
    let deployments: Api<Deployment> = Api::namespaced(ctx.client.clone(), &namespace);
    let workload = Children(&name).workload();
    let delete = DeleteParams::background();
    match deadline::within(deadline::KUBERNETES, deployments.delete(&workload, &delete)).await {
        Ok(Ok(_)) => {}
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => {}
        Ok(Err(error)) => return Err(format!("cannot delete the Deployment: {error}")),
        Err(error) => return Err(format!("cannot delete the Deployment: {error}")),
    }
    let pods: Api<Pod> = Api::namespaced(ctx.client.clone(), &namespace);
    let params = ListParams::default().labels(&selector_text(&name));
    match deadline::within(deadline::KUBERNETES, pods.list_metadata(&params)).await {
        Ok(Ok(list)) => Ok(list.items.is_empty()),
        Ok(Err(error)) => Err(format!("cannot list the recommender's pods: {error}")),
        Err(error) => Err(format!("cannot list the recommender's pods: {error}")),
    }
}

async fn drop_sources(
    ctx: &Context,
    pipeline: &RecommendationPipeline,
    plan: &CleanupPlan,
) -> Result<(), Refusal> {
    let Some(server) = plan.server.as_ref().filter(|_| !plan.sources.is_empty()) else {
        return Ok(());
    };
    let client = dereference::ksqldb_client(ctx, pipeline, server).await;
    let client = client.map_err(|error| Refusal::new(reasons::CREDENTIALS_GONE, error.to_string()))?;
    let failed = |error: KsqlError| {
        let reason = match &error {
            KsqlError::Rejected { .. } => reasons::STATEMENT_REJECTED,
            KsqlError::Unauthorized { .. } => reasons::AUTHORIZATION_FAILED,
            _ => reasons::KSQLDB_UNREACHABLE,
        };
        Refusal::new(reason, error.advice())
    };
    ctx.ksqldb.admit(&server.endpoint).map_err(failed)?;
    let listing = client.listing().await;
    ctx.ksqldb.note(&server.endpoint, &listing);
    let listing = listing.map_err(failed)?;
    let dropped = drops::drop_all(&client, &listing, &plan.sources).await;
    ctx.recorder.publish(pipeline, &dropped.warnings).await;
    dropped.failed.map_or(Ok(()), |(_, error)| Err(failed(error)))
}

/// Whether the topics are gone; not yet while nothing is known of the cluster.
async fn delete_topics(
    ctx: &Context,
    pipeline: &RecommendationPipeline,
    plan: &CleanupPlan,
) -> Result<bool, Refusal> {
    if plan.topics.is_empty() {
        return Ok(true);
    }
    let connection = match dereference::kafka_connection(ctx, pipeline).await {
        Err(KafkaError::Credentials(message)) => {
            let kept = ctx.keyring.get(&pipeline.uid().unwrap_or_default()).kafka;
            kept.ok_or_else(|| Refusal::new(reasons::CREDENTIALS_GONE, message))?
        }
        other => other.map_err(|error| refusal(&error))?,
    };
    let cluster = ctx.kafka.get(&connection).map_err(|error| refusal(&error))?;
    // Also tells at once when the cluster is known to be away.
    let names = plan.topics.iter().cloned().collect();
    let view = match cluster.look(&names, ctx.resync).await {
        Err(KafkaError::Pending { .. }) => return Ok(false),
        other => other.map_err(|error| refusal(&error))?,
    };
    if let Some(wanted) = &pipeline.spec.kafka.cluster_id
        && view.cluster_id.as_ref().is_some_and(|id| id != wanted)
    {
        let message = format!("spec.kafka.clusterId is {wanted} but another cluster answers");
        return Err(Refusal::new(reasons::CLUSTER_ID_MISMATCH, message));
    }
    for topic in &plan.topics {
        let deleted = cluster.admin().delete(topic).await;
        deleted.map_err(|error| refusal(&error))?;
        tracing::info!(%topic, "deleted");
    }
    Ok(true)
}

fn refusal(error: &KafkaError) -> Refusal {
    let reason = match error {
        KafkaError::Unauthorized { .. } | KafkaError::Login { .. } => reasons::AUTHORIZATION_FAILED,
        KafkaError::Credentials(_) | KafkaError::Client(_) => reasons::CREDENTIALS_GONE,
        KafkaError::Rejected { .. } => reasons::TOPIC_REJECTED,
        KafkaError::Pending { .. } | KafkaError::Unreachable { .. } | KafkaError::Tls { .. } => {
            reasons::KAFKA_UNREACHABLE
        }
    };
    Refusal::new(reason, error.advice())
}
