//! `RecommendationPipeline` (`recommendation.dev/v1alpha1`): the one resource that users write.
//!
//! Rules on its shape: enums instead of booleans; secrets in the same namespace only; no schema default at
//! all, so that what the API server stores is what Git said (the controller fills defaults in, see
//! [`defaults`]); every list and string bounded, or the API server refuses the CEL rules for their cost.

pub mod common;
pub mod defaults;
pub mod exposure;
pub mod kafka;
pub mod ksqldb;
pub mod monitoring;
pub mod recommender;
pub mod serving;
pub mod status;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

pub use common::{DeletionPolicy, SecretKeyRef, SecretRef};
pub use kafka::{KafkaSpec, TopicRole, TopicSpec};
pub use ksqldb::KsqldbSpec;
pub use monitoring::MonitoringSpec;
pub use recommender::RecommenderSpec;
pub use status::RecommendationPipelineStatus;

/// What the user declares: a Kafka cluster, and optionally everything else.
#[skip_serializing_none]
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "recommendation.dev",
    version = "v1alpha1",
    kind = "RecommendationPipeline",
    plural = "recommendationpipelines",
    shortname = "recpipe",
    category = "streaming",
    namespaced,
    status = "RecommendationPipelineStatus",
    derive = "PartialEq",
    doc = "Turns a stream of shop events on Kafka into personalised recommendations behind one HTTP API.",
    validation = Rule::new("size(self.metadata.name) <= 52").message("metadata.name must be at most 52 characters: child names add a suffix"),
    scale(
        spec_replicas_path = ".spec.recommender.replicas",
        status_replicas_path = ".status.recommender.replicas",
        label_selector_path = ".status.recommender.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Topics", type_ = "string", json_path = ".status.topicsSummary"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.recommender.readyReplicas"),
    printcolumn(name = "Model", type_ = "string", json_path = ".status.model.algorithm"),
    printcolumn(name = "Hit-rate", type_ = "string", json_path = ".status.model.hitRateAt10"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend", priority = 1),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct RecommendationPipelineSpec {
    /// Stop acting; children stay as they are. Default false.
    pub suspend: Option<bool>,
    /// What happens to topics and statements when the pipeline is deleted. Default Retain.
    pub deletion_policy: Option<DeletionPolicy>,
    /// Before topic and ksqlDB names, so that two pipelines can share a cluster. Default empty.
    #[schemars(length(max = 64), regex(pattern = "^[a-zA-Z0-9._-]*$"))]
    pub name_prefix: Option<String>,
    /// The Kafka cluster.
    pub kafka: KafkaSpec,
    /// Topics that differ from their defaults, or further ones. The roles that the pipeline needs are always among them.
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub topics: Option<Vec<TopicSpec>>,
    /// Streams and tables derived by a ksqlDB server. Absent: none.
    pub ksqldb: Option<KsqldbSpec>,
    /// The recommender.
    pub recommender: Option<RecommenderSpec>,
    /// Prometheus and Grafana.
    pub monitoring: Option<MonitoringSpec>,
}
