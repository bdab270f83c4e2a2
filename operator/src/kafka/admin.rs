//! The thin wrapper around librdkafka's admin client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode as Code};

use super::diagnosis::{self, Cause};
use super::{ClusterView, Connection, KafkaError, LiveTopic, TopicSpec};
use crate::deadline;

/// How long librdkafka itself may take for a call: a little less than our own deadline, so that its better message
/// wins.
const CALL: Duration = Duration::from_secs(5);

/// An admin client of one cluster.
pub struct Admin {
    connection: Connection,
    servers: String,
    client: Arc<AdminClient<DefaultClientContext>>,
    requests: AtomicU64,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// A client; no connection is waited for.
    ///
    /// # Errors
    /// [`KafkaError::Client`] when librdkafka refuses the configuration: a certificate or key that is no PEM.
    pub fn new(connection: &Connection) -> Result<Self, KafkaError> {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "recommendation-operator")
            .set("socket.timeout.ms", "5000")
            .set("socket.connection.setup.timeout.ms", "4000")
            // A broker that comes back is found within seconds, not within librdkafka's ten.
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "2000")
            // Nothing is asked of Kafka but what the operator asks.
            .set("topic.metadata.refresh.interval.ms", "-1")
            // Unreachable brokers are reported in conditions; librdkafka would log each attempt as an error.
            .set_log_level(RDKafkaLogLevel::Critical);
        connection.configure(&mut config);
        let client = config
            .create()
            .map_err(|error: RdError| KafkaError::Client(error.to_string()))?;
        Ok(Self {
            connection: connection.clone(),
            servers: connection.servers(),
            client: Arc::new(client),
            requests: AtomicU64::new(0),
        })
    }

    /// The bootstrap servers, comma-separated.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything about the cluster in one metadata fetch, and the configuration of those of `interesting` that
    /// exist.
    ///
    /// # Errors
    /// [`KafkaError::Unreachable`] or [`KafkaError::Unauthorized`].
    pub async fn observe(&self, interesting: &BTreeSet<String>) -> Result<ClusterView, KafkaError> {
        let step = "reading the cluster's metadata";
        let client = Arc::clone(&self.client);
        self.count_request();
        // Both calls block, so they have a thread of their own; librdkafka ends them itself after their timeout. The
        // cluster's id came with the metadata.
        let fetched = tokio::task::spawn_blocking(move || {
            let metadata = client.inner().fetch_metadata(None, CALL)?;
            let cluster_id = client.inner().fetch_cluster_id(CALL);
            Ok::<_, RdError>((metadata, cluster_id))
        });
        let fetched = deadline::within(deadline::KAFKA * 2, fetched)
            .await
            .map_err(|error| self.unreachable(step, &error))?
            .map_err(|error| self.unreachable(step, &error))?
            .map_err(|error| self.classify(step, &error));
        let (metadata, cluster_id) = match fetched {
            Ok(fetched) => fetched,
            Err(error @ KafkaError::Unreachable { .. }) => return Err(self.diagnosed(step, error).await),
            Err(error) => return Err(error),
        };
        let mut topics: BTreeMap<String, LiveTopic> = metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none() && !topic.partitions().is_empty())
            .map(|topic| {
                let live = LiveTopic {
                    partitions: count(topic.partitions().len()),
                    replication_factor: count(topic.partitions().first().map_or(0, |p| p.replicas().len())),
                    ..LiveTopic::default()
                };
                (topic.name().to_owned(), live)
            })
            .collect();
        let known: Vec<&String> = interesting
            .iter()
            .filter(|name| topics.contains_key(*name))
            .collect();
        let (mut configs, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for (name, (config, overridden)) in self.describe(&known).await? {
            if let Some(topic) = topics.get_mut(&name) {
                topic.config = shared(&mut configs, config);
                topic.overridden = shared(&mut keys, overridden);
            }
        }
        Ok(ClusterView { cluster_id, topics })
    }

    async fn describe(
        &self,
        names: &[&String],
    ) -> Result<BTreeMap<String, (BTreeMap<String, String>, BTreeSet<String>)>, KafkaError> {
        let step = "reading topic configurations";
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let specifiers: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let options = options();
        self.count_request();
        let answer = deadline::within(
            deadline::KAFKA,
            self.client.describe_configs(&specifiers, &options),
        )
        .await
        .map_err(|error| self.unreachable(step, &error))?
        .map_err(|error| self.classify(step, &error))?;
        let mut found = BTreeMap::new();
        // The answers come in the order of the question.
        for (name, resource) in names.iter().zip(answer) {
            let resource = match resource {
                Ok(resource) => resource,
                // Deleted between the two calls: the next look will not list it.
                Err(Code::UnknownTopicOrPartition) => continue,
                Err(code) => return Err(self.classify_code(step, code, &code.to_string())),
            };
            let overridden = resource
                .entries
                .iter()
                .filter(|entry| entry.source == ConfigSource::DynamicTopic)
                .map(|entry| entry.name.clone())
                .collect();
            let config = resource
                .entries
                .into_iter()
                .filter_map(|entry| Some((entry.name, entry.value?)))
                .collect();
            found.insert((*name).clone(), (config, overridden));
        }
        Ok(found)
    }

    /// Creates a topic; `false` when one of that name exists already.
    ///
    /// # Errors
    /// Any [`KafkaError`].
    pub async fn create(&self, topic: &TopicSpec) -> Result<bool, KafkaError> {
        let step = "creating a topic";
        let replicas = topic
            .replication_factor
            .map_or(-1, |n| i32::try_from(n).unwrap_or(i32::MAX));
        let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
        let mut new = NewTopic::new(&topic.name, partitions, TopicReplication::Fixed(replicas));
        for (key, value) in &topic.config {
            new = new.set(key, value);
        }
        let options = options();
        self.count_request();
        let outcome = deadline::within(
            deadline::KAFKA * 2,
            lazily(|| self.client.create_topics([&new], &options)),
        )
        .await
        .map_err(|error| self.unreachable(step, &error))?
        .map_err(|error| self.classify(step, &error))?;
        match outcome.into_iter().next() {
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(false),
            Some(Err((name, code))) => Err(self.classify_code(step, code, &format!("{name}: {code}"))),
            Some(Ok(_)) | None => Ok(true),
        }
    }

    /// Deletes a topic; one that is not there is fine.
    ///
    /// # Errors
    /// Any [`KafkaError`].
    pub async fn delete(&self, name: &str) -> Result<(), KafkaError> {
        let step = "deleting a topic";
        let options = options();
        self.count_request();
        let outcome = deadline::within(
            deadline::KAFKA * 2,
            lazily(|| self.client.delete_topics(&[name], &options)),
        )
        .await
        .map_err(|error| self.unreachable(step, &error))?
        .map_err(|error| self.classify(step, &error))?;
        match outcome.into_iter().next() {
            Some(Err((_, Code::UnknownTopicOrPartition))) | Some(Ok(_)) | None => Ok(()),
            Some(Err((name, code))) => Err(self.classify_code(step, code, &format!("{name}: {code}"))),
        }
    }

    /// Raises a topic's number of partitions to `total`.
    ///
    /// # Errors
    /// Any [`KafkaError`].
    pub async fn grow(&self, name: &str, total: u32) -> Result<(), KafkaError> {
        let step = "adding partitions";
        let partitions = NewPartitions::new(name, usize::try_from(total).unwrap_or(usize::MAX));
        let options = options();
        self.count_request();
        let outcome = deadline::within(
            deadline::KAFKA * 2,
            lazily(|| self.client.create_partitions([&partitions], &options)),
        )
        .await
        .map_err(|error| self.unreachable(step, &error))?
        .map_err(|error| self.classify(step, &error))?;
        match outcome.into_iter().next() {
            Some(Err((name, code))) => Err(self.classify_code(step, code, &format!("{name}: {code}"))),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// Sets a topic's own configuration to exactly `config`: this client has no incremental alter, so the caller
    /// merges what is there with what it wants.
    ///
    /// # Errors
    /// Any [`KafkaError`].
    pub async fn set_config(&self, name: &str, config: &BTreeMap<String, String>) -> Result<(), KafkaError> {
        let step = "changing a topic's configuration";
        let alter = config.iter().fold(
            AlterConfig::new(ResourceSpecifier::Topic(name)),
            |alter, (key, value)| alter.set(key, value),
        );
        let options = options();
        self.count_request();
        let outcome = deadline::within(
            deadline::KAFKA,
            lazily(|| self.client.alter_configs([&alter], &options)),
        )
        .await
        .map_err(|error| self.unreachable(step, &error))?
        .map_err(|error| self.classify(step, &error))?;
        match outcome.into_iter().next() {
            Some(Err((_, code))) => Err(self.classify_code(step, code, &format!("{name}: {code}"))),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// The cause of an outage, where TLS or a login may be it.
    async fn diagnosed(&self, step: &'static str, error: KafkaError) -> KafkaError {
        if !self.connection.is_secured() {
            return error;
        }
        let connection = self.connection.clone();
        let asked = tokio::task::spawn_blocking(move || diagnosis::diagnose(&connection));
        match deadline::within(deadline::KAFKA, asked).await {
            Ok(Ok(Some(Cause::Login(message)))) => KafkaError::Login {
                servers: self.servers.clone(),
                message,
            },
            Ok(Ok(Some(Cause::Tls(message)))) => KafkaError::Tls {
                servers: self.servers.clone(),
                step,
                message,
            },
            _ => error,
        }
    }

    fn unreachable(&self, step: &'static str, error: &dyn std::fmt::Display) -> KafkaError {
        KafkaError::Unreachable {
            servers: self.servers.clone(),
            step,
            message: error.to_string(),
        }
    }

    fn classify(&self, step: &'static str, error: &RdError) -> KafkaError {
        match error.rdkafka_error_code() {
            Some(code) => self.classify_code(step, code, &code.to_string()),
            None => self.unreachable(step, error),
        }
    }

    fn classify_code(&self, step: &'static str, code: Code, message: &str) -> KafkaError {
        let message = message.to_owned();
        match code {
            Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication => KafkaError::Unauthorized { step, message },
            Code::InvalidPartitions
            | Code::InvalidReplicationFactor
            | Code::InvalidConfig
            | Code::InvalidTopic
            | Code::InvalidReplicaAssignment
            | Code::PolicyViolation
            | Code::InvalidRequest => KafkaError::Rejected { step, message },
            // Whatever else may pass: elections, time-outs, a broker that starts.
            _ => KafkaError::Unreachable {
                servers: self.servers.clone(),
                step,
                message,
            },
        }
    }
}

/// librdkafka's calls are sent when they are made, not when they are waited for: by then the deadline has asked whether
/// this operator still leads.
async fn lazily<F: Future>(call: impl FnOnce() -> F) -> F::Output {
    call().await
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(CALL))
        .operation_timeout(Some(CALL))
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The one of `known` that is equal to `value`, which is added if there is none.
fn shared<T: Ord>(known: &mut BTreeSet<Arc<T>>, value: T) -> Arc<T> {
    if let Some(found) = known.get(&value) {
        return Arc::clone(found);
    }
    let value = Arc::new(value);
    known.insert(Arc::clone(&value));
    value
}
