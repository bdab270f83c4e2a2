//! `spec.kafka` and `spec.topics`.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::common::{DeletionPolicy, SecretRef, TlsSpec};

/// The Kafka cluster that carries the events.
#[skip_serializing_none]
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(oldSelf.clusterId) || (has(self.clusterId) && self.clusterId == oldSelf.clusterId)")
        .message("spec.kafka.clusterId is fixed once set")
)]
pub struct KafkaSpec {
    /// `host:port` of one or more brokers.
    #[schemars(
        length(min = 1, max = 32),
        inner(length(min = 1, max = 255), regex(pattern = "^[^\\s,/]+:[0-9]{1,5}$"))
    )]
    pub bootstrap_servers: Vec<String>,
    /// Guard: refuse to act on another cluster than this. Fixed once set.
    #[schemars(length(min = 1, max = 64))]
    pub cluster_id: Option<String>,
    /// TLS to the brokers. Absent: plain text.
    pub tls: Option<TlsSpec>,
    /// How to authenticate. Absent: not at all.
    pub authentication: Option<KafkaAuthentication>,
}

/// How to authenticate to Kafka.
#[skip_serializing_none]
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == 'None' ? !has(self.secretRef) : has(self.secretRef)")
        .message("spec.kafka.authentication.secretRef is required by every type but None, and forbidden with None")
)]
pub struct KafkaAuthentication {
    /// The mechanism.
    #[serde(rename = "type")]
    pub kind: KafkaAuthenticationType,
    /// Secret with the credentials; Strimzi's keys are understood.
    pub secret_ref: Option<SecretRef>,
}

/// Mechanisms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KafkaAuthenticationType {
    /// None.
    #[default]
    None,
    /// SASL/PLAIN.
    Plain,
    /// SASL/SCRAM-SHA-256.
    ScramSha256,
    /// SASL/SCRAM-SHA-512.
    ScramSha512,
    /// Client certificate.
    Mtls,
}

/// One topic.
#[skip_serializing_none]
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(oldSelf.partitions) || !has(self.partitions) || self.partitions >= oldSelf.partitions")
        .message("spec.topics[].partitions can only grow: Kafka cannot remove partitions"),
    validation = Rule::new("!has(oldSelf.replicationFactor) || (has(self.replicationFactor) && self.replicationFactor == oldSelf.replicationFactor)")
        .message("spec.topics[].replicationFactor is fixed once set")
)]
pub struct TopicSpec {
    /// Name, without the pipeline's `namePrefix`.
    #[schemars(length(min = 1, max = 185), regex(pattern = "^[a-zA-Z0-9._-]+$"))]
    pub name: String,
    /// What the pipeline uses it for. Default: the role of that name, else Other.
    pub role: Option<TopicRole>,
    /// Default 12 for Events, Purchases and Impressions, 3 for the others. Only grows.
    #[schemars(range(min = 1, max = 10_000))]
    pub partitions: Option<i32>,
    /// Default: the broker's. Fixed once set.
    #[schemars(range(min = 1, max = 32))]
    pub replication_factor: Option<i32>,
    /// Topic configuration; other keys of the topic are left alone.
    #[schemars(extend("maxProperties" = 64), inner(length(max = 1024)))]
    pub config: Option<BTreeMap<String, String>>,
    /// Default: the pipeline's.
    pub deletion_policy: Option<DeletionPolicy>,
    /// Default Manage.
    pub management_policy: Option<ManagementPolicy>,
}

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TopicRole {
    /// What customers do.
    Events,
    /// ksqlDB's purchases.
    Purchases,
    /// The catalogue.
    Catalog,
    /// Customers' profiles.
    Profiles,
    /// Erasures.
    Erasures,
    /// Salts of pseudonyms.
    Salts,
    /// What was shown to whom.
    Impressions,
    /// Malformed records.
    DeadLetter,
    /// Anything else that should exist.
    Other,
}

/// Who is in charge of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ManagementPolicy {
    /// The operator creates, grows and configures it.
    #[default]
    Manage,
    /// The operator only looks.
    Observe,
}
