//! Fifth step: from outcomes to status, pure, and one write where it differs.

pub mod conditions;
mod malformed;
mod model;
mod notes;
mod workload;
mod write;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use recommendation_api::conditions::types;
use recommendation_api::pipeline::RecommendationPipelineStatus;
use recommendation_api::pipeline::status::{ModelStatus, TopicStatus};

pub use conditions::Finding;
pub use malformed::malformed;
pub use notes::notes;
pub use write::{StatusError, write};

use crate::apply::statements::StatementsOutcome;
use crate::apply::topics::TopicsOutcome;
use crate::dereference::Replicas;
use crate::validate::ValidatedPipeline;

/// What became of everything.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// What was wanted.
    pub pipeline: &'a ValidatedPipeline,
    /// The topics.
    pub topics: TopicsOutcome,
    /// The statements.
    pub statements: StatementsOutcome,
    /// The Deployment as it is, or why the children could not be applied.
    pub deployment: Result<Deployment, String>,
    /// What the replicas say.
    pub replicas: Replicas,
    /// The parts of monitoring, as they are named in `spec.monitoring`.
    pub monitoring: Vec<(&'static str, Installed)>,
    /// The HTTPRoute.
    pub route: Installed,
}

/// What became of an object that may have no place in this cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installed {
    /// It is there.
    Applied,
    /// It is not wanted.
    Disabled,
    /// Its CRD is absent. `required`: the user says that it must not be.
    Absent {
        /// The policy is Required.
        required: bool,
    },
    /// It could not be applied.
    Failed(String),
}

/// The status that these outcomes make of the one before. The model's figures are not in it yet, see [`figures`].
pub fn status(
    before: Option<&RecommendationPipelineStatus>,
    outcome: &Outcome<'_>,
    now: &Time,
) -> RecommendationPipelineStatus {
    let before = before.cloned().unwrap_or_default();
    let id = &outcome.pipeline.id;
    let conditions = conditions::merge(&before.conditions, &conditions::all(outcome), id.generation, now);
    let view = outcome.topics.view.as_ref();
    let topics = view.map(|view| {
        let found = outcome.topics.topics.iter().filter_map(|topic| {
            let live = view.topics.get(&topic.name)?;
            Some(TopicStatus {
                name: topic.name.clone(),
                partitions: i32::try_from(live.partitions).unwrap_or(i32::MAX),
                replication_factor: i32::try_from(live.replication_factor).unwrap_or(i32::MAX),
                origin: topic.origin,
            })
        });
        found.collect::<Vec<_>>()
    });
    let known = outcome.topics.unreachable.is_none() && outcome.topics.refused.is_none();
    let ready = outcome
        .topics
        .topics
        .iter()
        .filter(|topic| topic.refusal.is_none());
    let exists = |name: &str| view.is_some_and(|view| view.topics.contains_key(name));
    let ready = ready.filter(|topic| exists(&topic.name)).count();
    let statements = Some(outcome.statements.statements.clone()).filter(|s| !s.is_empty());
    RecommendationPipelineStatus {
        observed_generation: Some(id.generation),
        conditions,
        kafka_cluster_id: view
            .and_then(|v| v.cluster_id.clone())
            .or(before.kafka_cluster_id),
        // What Kafka cannot be asked about now stays as it was last seen.
        topics_summary: if known {
            Some(format!("{ready}/{}", outcome.pipeline.topics.len()))
        } else {
            before
                .topics_summary
                .or_else(|| Some(format!("0/{}", outcome.pipeline.topics.len())))
        },
        topics: if known { topics } else { before.topics },
        statements: statements.or_else(|| {
            before
                .statements
                .filter(|_| outcome.statements.unreachable.is_some())
        }),
        recommender: outcome
            .deployment
            .as_ref()
            .map_or(before.recommender, |deployment| {
                Some(workload::status(&id.name, deployment))
            }),
        model: before.model,
        endpoint: Some(endpoint(outcome.pipeline)),
    }
}

/// The model's figures, rounded; `None` while no replica answers.
pub fn figures(replicas: &Replicas) -> Option<ModelStatus> {
    model::figures(replicas)
}

/// Whether this status says Ready.
pub fn is_ready(status: Option<&RecommendationPipelineStatus>) -> bool {
    status.is_some_and(|s| {
        s.conditions
            .iter()
            .any(|c| c.type_ == types::READY && c.status == "True")
    })
}

/// Whether this status waits for a person.
pub fn is_stalled(status: &RecommendationPipelineStatus) -> bool {
    let mut conditions = status.conditions.iter();
    conditions.any(|c| c.type_ == types::STALLED && c.status == "True")
}

fn endpoint(pipeline: &ValidatedPipeline) -> String {
    let id = &pipeline.id;
    match (pipeline.service.tls, pipeline.service.port) {
        (false, 80) => format!("http://{}.{}.svc", id.name, id.namespace),
        (true, 443) => format!("https://{}.{}.svc", id.name, id.namespace),
        (false, port) => format!("http://{}.{}.svc:{port}", id.name, id.namespace),
        (true, port) => format!("https://{}.{}.svc:{port}", id.name, id.namespace),
    }
}

#[cfg(test)]
mod tests;
