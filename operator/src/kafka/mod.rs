//! Kafka as the operator sees it: what is there ([`ClusterView`]), and the four things that it does to topics.
//!
//! Metadata is fetched once for the whole cluster: naming one topic in a metadata request can create it.

mod admin;
mod cluster;
pub mod connection;
mod diagnosis;
mod pool;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use admin::Admin;
pub use cluster::Cluster;
pub use connection::{Connection, Login};
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
    /// Effective configuration, defaults included; empty for topics that were not asked for. Shared by the topics that
    /// have the same: a cluster may have tens of thousands, and thirty properties of each.
    pub config: Arc<BTreeMap<String, String>>,
    /// The keys of `config` that are set on the topic itself. Shared likewise.
    pub overridden: Arc<BTreeSet<String>>,
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
    /// The first look at the cluster is still on its way: nothing is known yet, not even that no broker answers.
    #[error("the first look at {servers} is still on its way")]
    Pending {
        /// The bootstrap servers.
        servers: String,
    },
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
    /// What the client needs to log in is not there.
    #[error("{0}")]
    Credentials(String),
    /// The brokers refuse the login.
    #[error("the brokers of {servers} refuse the login: {message}")]
    Login {
        /// The bootstrap servers.
        servers: String,
        /// librdkafka's words.
        message: String,
    },
    /// No TLS connection comes about.
    #[error("no TLS connection to {servers} while {step}: {message}")]
    Tls {
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
            Self::Login { servers, message } => format!(
                "the brokers of {servers} refuse the login ({message}): check the Secret of \
                 spec.kafka.authentication, its type, and that the user exists"
            ),
            Self::Tls { servers, message, .. } => format!(
                "no TLS connection to {servers} ({}): check that spec.kafka.tls.caSecretRef holds the authority that \
                 signed the brokers' certificates, that they name the hosts of bootstrapServers, and with Mtls the \
                 client's certificate",
                first_line(message)
            ),
            Self::Client(message) => format!(
                "no Kafka client can be made ({message}): check the Secrets of spec.kafka.tls and \
                 spec.kafka.authentication"
            ),
            other => other.to_string(),
        }
    }

    /// The variant's name, as a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Client(_) => "KafkaClient",
            Self::Pending { .. } => "KafkaPending",
            Self::Unreachable { .. } => "KafkaUnreachable",
            Self::Credentials(_) => "KafkaCredentials",
            Self::Login { .. } => "KafkaLogin",
            Self::Tls { .. } => "KafkaTls",
            Self::Unauthorized { .. } => "KafkaUnauthorized",
            Self::Rejected { .. } => "KafkaRejected",
        }
    }
}

/// OpenSSL's words go on with places in its source.
fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or(message)
}
