//! `status`: what the operator found and did.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// What the operator found and did. Values that move by themselves are rounded or kept out.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
// A new pipeline has it from the API server, as Flux's own kinds do: kstatus takes an object without a status for done, so
// that whoever waits for a pipeline just made would not wait at all.
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct RecommendationPipelineStatus {
    /// Generation that the conditions speak of.
    pub observed_generation: Option<i64>,
    /// Conditions by type.
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Id of the Kafka cluster that answered.
    pub kafka_cluster_id: Option<String>,
    /// Ready topics of all, `4/4`.
    pub topics_summary: Option<String>,
    /// Topics.
    pub topics: Option<Vec<TopicStatus>>,
    /// ksqlDB statements.
    pub statements: Option<Vec<StatementStatus>>,
    /// The workload.
    pub recommender: Option<WorkloadStatus>,
    /// The model.
    pub model: Option<ModelStatus>,
    /// Where the HTTP API is, inside the cluster.
    pub endpoint: Option<String>,
}

/// How the operator came to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TopicOrigin {
    /// The operator made it.
    Created,
    /// It was there before.
    Adopted,
    /// It is only looked at.
    Observed,
}

/// A topic as it is on the broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicStatus {
    /// Full name, with the prefix.
    pub name: String,
    /// Partitions.
    pub partitions: i32,
    /// Replicas of the first partition.
    pub replication_factor: i32,
    /// How the operator came to it.
    pub origin: TopicOrigin,
}

/// A ksqlDB statement.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatementStatus {
    /// Name in the spec.
    pub name: String,
    /// SHA-256 (hex, shortened to 16) of the statement with its names filled in. The shapes of topics (partitions,
    /// replicas, retention) are left out: a topic that grows must not replace a stream.
    pub sql_hash: String,
    /// The query that it started.
    pub query_id: Option<String>,
    /// Applied, or the query's state.
    pub state: String,
    /// The server's command sequence number.
    pub command_sequence_number: Option<i64>,
}

/// The workload, for the scale subresource and the printer columns.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// Pods.
    pub replicas: i32,
    /// Ready pods.
    pub ready_replicas: i32,
    /// Pods of the newest revision.
    pub updated_replicas: i32,
    /// Label selector of the pods.
    pub selector: String,
}

/// The model; written at most every few minutes, and only when a rounded value changed.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// What answers.
    pub algorithm: String,
    /// Version id.
    pub version: Option<String>,
    /// When it was fitted (RFC 3339).
    pub trained_at: Option<String>,
    /// Products, rounded to two digits.
    pub products: Option<i64>,
    /// Customers, rounded to two digits.
    pub customers: Option<i64>,
    /// Prequential hit rate@10, two decimals (`0.12`).
    pub hit_rate_at10: Option<String>,
}
