//! Why a service does not start, and why a running one ends by itself.

use std::net::SocketAddr;

use tokio::task::JoinError;

use crate::config::ConfigError;
use crate::http::gmail::GmailError;
use crate::http::tls::TlsError;
use crate::http::tokens::AuthError;
use crate::log::embedded::OpenError;
use crate::model::ModelError;
use crate::ratelimit::RedisError;
use crate::secrets::SecretError;
use crate::source::SourceError;
use crate::store::StoreError;
use crate::traces::TraceError;
use crate::trainer::schedule;

/// Why a service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is refused.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The model's configuration is refused.
    #[error("configuration: {0}")]
    Model(#[from] ModelError),
    /// Kafka mode without Kafka.
    #[error("configuration: kafka.bootstrapServers is required unless --embedded is given")]
    NoKafka,
    /// Kafka mode without a key to check tokens with.
    #[error("configuration: auth.jwtSecretFile is required unless --embedded is given")]
    NoKey,
    /// Kafka mode without the key of erasures.
    #[error("configuration: privacy.keyFile is required unless --embedded is given")]
    NoPrivacyKey,
    /// Keys cannot be used.
    #[error("authentication: {0}")]
    Auth(#[from] AuthError),
    /// Gmail's pushes cannot be taken.
    #[error(transparent)]
    Gmail(#[from] GmailError),
    /// A secret cannot be used.
    #[error("{0}")]
    Secret(#[from] SecretError),
    /// The cluster's part of the configuration cannot be used.
    #[error("configuration: {0}")]
    Cluster(#[from] crate::kafka::ClientError),
    /// TLS cannot be served.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// The Kafka client refuses its settings.
    #[error("Kafka client: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// The source cannot be started.
    #[error("{0}")]
    Source(#[from] SourceError),
    /// The embedded log cannot be opened.
    #[error("embedded log: {0}")]
    Embedded(#[from] OpenError),
    /// The client of ksqlDB cannot be made.
    #[error("client of ksqlDB: {0}")]
    Ksqldb(reqwest::Error),
    /// The training schedule is refused.
    #[error("configuration: {0}")]
    Schedule(#[from] schedule::ScheduleError),
    /// The snapshot store cannot be used.
    #[error("configuration: {0}")]
    Store(#[from] StoreError),
    /// Redis cannot be used.
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Traces cannot be sent.
    #[error("configuration: {0}")]
    Traces(#[from] TraceError),
    /// Metrics contradict each other.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The engine refuses its configuration.
    #[error("engine: {0}")]
    Engine(#[from] recommender_engine::ConfigError),
    /// The ingest thread cannot be started.
    #[error("cannot start the ingest thread: {0}")]
    Thread(std::io::Error),
}

/// Why a running service ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A part ended that should not.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
    /// A part failed.
    #[error("{0} failed: {1}")]
    Failed(&'static str, SourceError),
    /// A task panicked.
    #[error("a task panicked: {0}")]
    Panicked(#[from] JoinError),
}
