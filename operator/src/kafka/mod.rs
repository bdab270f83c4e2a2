//! Kafka as the operator sees it: what is there ([`ClusterView`]), and the four things that it does to topics.
//!
//! Metadata is fetched once for the whole cluster: naming one topic in a metadata request can create it.

mod admin;
mod pool;

use std::collections::{BTreeMap, BTreeSet};

pub use admin::Admin;
pub use pool::Pool;

/// What a cluster holds, as far as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// The cluster's id; `None` when the brokers don't tell.
    pub cluster_id: Option<String>,
    /// Every topic by name.
    pub topics: BTreeMap<String, LiveTopic>,
}

/// A topic as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveTopic {
    /// Number of partitions.
    pub partitions: u32,
    /// Replicas of the first partition.
    pub replication_factor: u32,
    /// Effective configuration, defaults included; empty for topics that were not asked for.
    pub config: BTreeMap<String, String>,
    /// The keys of `config` that are set on the topic itself.
    pub overridden: BTreeSet<String>,
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name.
    pub name: String,
    /// Number of partitions, at least 1.
    pub partitions: u32,
    /// Replicas; `None` = the broker's default.
    pub replication_factor: Option<u32>,
    /// Configuration.
    pub config: BTreeMap<String, String>,
}

/// Why a call to Kafka failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KafkaError {
    /// The client could not be made from this configuration.
    #[error("cannot make a Kafka client: {0}")]
    Client(String),
    /// No broker answers.
    #[error("no broker of {servers} answers while {step}: {message}")]
    Unreachable {
        /// The bootstrap servers.
        servers: String,
        /// What was tried.
        step: &'static str,
        /// librdkafka's words.
        message: String,
    },
    /// The brokers refuse this client.
    #[error("Kafka does not allow {step}: {message}")]
    Unauthorized {
        /// What was tried.
        step: &'static str,
        /// The broker's words.
        message: String,
    },
    /// The brokers refuse what was asked.
    #[error("Kafka refuses {step}: {message}")]
    Rejected {
        /// What was tried.
        step: &'static str,
        /// The broker's words.
        message: String,
    },
}

impl KafkaError {
    /// What a condition says. librdkafka's words change from look to look while an outage lasts, and a condition's
    /// message must not.
    pub fn advice(&self) -> String {
        match self {
            Self::Unreachable { servers, step, .. } => format!(
                "no broker of {servers} answers while {step}: check spec.kafka.bootstrapServers, and that Kafka runs"
            ),
            other => other.to_string(),
        }
    }

    /// The variant's name, as a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Client(_) => "KafkaClient",
            Self::Unreachable { .. } => "KafkaUnreachable",
            Self::Unauthorized { .. } => "KafkaUnauthorized",
            Self::Rejected { .. } => "KafkaRejected",
        }
    }
}
