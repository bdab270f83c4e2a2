//! Where `replay` and `import` write to.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};
use recommendation_api::config::{KafkaConfig, TopicNames};
use recommendation_api::records::Product;
use recommendation_api::{Event, names};
use secrecy::{ExposeSecret as _, SecretString};

use crate::http::outgoing;
use crate::log::Log as _;
use crate::log::context::Quiet;
use crate::log::embedded::EmbeddedLog;
use crate::log::kafka::{Gather, producer_config};

/// Records on their way to Kafka before the oldest is waited for.
const IN_FLIGHT: usize = 100_000;
/// Longest one request to a service may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Records per request to a service, and per commit of an embedded log.
pub(super) const CHUNK: usize = 1_000;

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Where {
    /// Kafka's bootstrap servers
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Database of embedded mode; a service may be running on it
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "./shop.db")]
    embedded: Option<PathBuf>,
    /// The Kafka cluster and topics of this configuration, with its TLS and authentication
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A running service
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

#[derive(clap::Args)]
pub(super) struct TargetArgs {
    #[command(flatten)]
    place: Where,
    /// Kafka topic, where it is not the default one
    #[arg(long, value_name = "NAME", requires = "kafka")]
    topic: Option<String>,
    /// Folder of the secrets that --config names
    #[arg(long, value_name = "DIR", env = "RECOMMENDER_SECRETS_DIR", default_value = names::SECRETS_DIR)]
    secrets_dir: PathBuf,
    /// Token for --url (scope events:write for replay, catalog:write for import)
    #[arg(long, value_name = "TOKEN", env = "RECOMMENDER_TOKEN", hide_env_values = true)]
    token: Option<SecretString>,
}

/// What is sent.
pub(super) enum Batch {
    Events(Vec<Event>),
    Products(Vec<Product>),
}

/// An open target.
pub(super) enum Target {
    Kafka {
        producer: FutureProducer,
        topic: String,
        pending: VecDeque<DeliveryFuture>,
    },
    Embedded(EmbeddedLog),
    Service {
        client: reqwest::Client,
        url: String,
        token: Option<SecretString>,
    },
}

impl TargetArgs {
    /// Opens it, and finds out at once whether it is there. `topic_of` picks the topic.
    pub async fn open(self, topic_of: fn(TopicNames) -> String) -> anyhow::Result<Target> {
        if let Some(servers) = self.place.kafka {
            let topic = self.topic.unwrap_or_else(|| topic_of(TopicNames::default()));
            let cluster = KafkaConfig {
                bootstrap_servers: vec![servers],
                ..KafkaConfig::default()
            };
            return open_kafka(&cluster, &self.secrets_dir, topic).await;
        }
        if let Some(path) = self.place.config {
            let config = crate::config::load(&path)?;
            let cluster = config
                .kafka
                .context("the configuration names no Kafka (kafka.bootstrapServers)")?;
            return open_kafka(&cluster, &self.secrets_dir, topic_of(config.topics)).await;
        }
        if let Some(path) = self.place.embedded {
            return Ok(Target::Embedded(EmbeddedLog::open(&path)?));
        }
        let url = self
            .place
            .url
            .context("one of --kafka, --config, --embedded and --url is needed")?;
        Ok(Target::Service {
            client: outgoing::client(REQUEST_TIMEOUT)?,
            url: url.trim_end_matches('/').to_owned(),
            token: self.token,
        })
    }
}

async fn open_kafka(cluster: &KafkaConfig, secrets_dir: &Path, topic: String) -> anyhow::Result<Target> {
    let config = crate::kafka::client(cluster, secrets_dir, "recommender-feed")?;
    let (probe, name) = (config.clone(), topic.clone());
    let servers = cluster.bootstrap_servers.join(",");
    tokio::task::spawn_blocking(move || check_topic(&probe, &servers, &name)).await??;
    let producer = producer_config(&config, Gather::Bulk).create()?;
    Ok(Target::Kafka {
        producer,
        topic,
        pending: VecDeque::new(),
    })
}

/// Asks about all topics: to name one in the question can create it.
fn check_topic(config: &rdkafka::ClientConfig, servers: &str, topic: &str) -> anyhow::Result<()> {
    let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet::default())?;
    let answer = consumer.fetch_metadata(None, Duration::from_secs(10));
    // A refusal comes by a callback, which is served by polling; the call itself only runs out of time.
    let _ = consumer.poll(Duration::ZERO);
    let metadata = match (answer, consumer.context().refused()) {
        (Ok(metadata), _) => metadata,
        (Err(_), Some(refused)) => bail!("{refused}"),
        (Err(e), None) => return Err(e).with_context(|| format!("Kafka does not answer at {servers}")),
    };
    if metadata
        .topics()
        .iter()
        .any(|t| t.name() == topic && !t.partitions().is_empty())
    {
        return Ok(());
    }
    bail!(
        "Kafka at {servers} has no topic {topic}; apply a pipeline that declares it, or name another by --topic"
    )
}

impl Target {
    /// Sends a batch; returns how many records were acknowledged meanwhile (also earlier ones).
    pub async fn send(&mut self, batch: Batch) -> anyhow::Result<usize> {
        match self {
            Self::Kafka {
                producer,
                topic,
                pending,
            } => {
                let mut acknowledged = 0;
                for (key, value) in records(&batch)? {
                    acknowledged += enqueue(producer, topic, pending, &key, &value).await?;
                }
                Ok(acknowledged)
            }
            Self::Embedded(log) => {
                let results = match &batch {
                    Batch::Events(events) => log.append(events).await,
                    Batch::Products(products) => log.put_products(products).await,
                };
                let n = results.len();
                results.into_iter().collect::<Result<(), _>>()?;
                Ok(n)
            }
            Self::Service { client, url, token } => post(client, url, token.as_ref(), &batch).await,
        }
    }

    /// Waits for everything that is on its way; returns how many records that were.
    pub async fn finish(self) -> anyhow::Result<usize> {
        match self {
            Self::Kafka {
                producer,
                mut pending,
                ..
            } => {
                let n = pending.len();
                while let Some(delivery) = pending.pop_front() {
                    acknowledge(delivery).await?;
                }
                tokio::task::spawn_blocking(move || producer.flush(Duration::from_secs(10))).await??;
                Ok(n)
            }
            Self::Embedded(log) => {
                log.close().await;
                Ok(0)
            }
            Self::Service { .. } => Ok(0),
        }
    }
}

fn records(batch: &Batch) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    match batch {
        Batch::Events(events) => Ok(events
            .iter()
            .map(|e| (e.customer_id.clone(), e.to_json()))
            .collect()),
        Batch::Products(products) => products
            .iter()
            .map(|p| Ok((p.product_id.clone(), serde_json::to_vec(p)?)))
            .collect(),
    }
}

async fn enqueue(
    producer: &FutureProducer,
    topic: &str,
    pending: &mut VecDeque<DeliveryFuture>,
    key: &str,
    value: &[u8],
) -> anyhow::Result<usize> {
    let mut acknowledged = 0;
    loop {
        if pending.len() >= IN_FLIGHT
            && let Some(oldest) = pending.pop_front()
        {
            acknowledge(oldest).await?;
            acknowledged += 1;
        }
        match producer.send_result(FutureRecord::to(topic).key(key).payload(value)) {
            Ok(delivery) => {
                pending.push_back(delivery);
                return Ok(acknowledged);
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                match pending.pop_front() {
                    Some(oldest) => {
                        acknowledge(oldest).await?;
                        acknowledged += 1;
                    }
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
            Err((e, _)) => return Err(e).context("Kafka refuses the record"),
        }
    }
}

async fn acknowledge(delivery: DeliveryFuture) -> anyhow::Result<()> {
    let delivered = delivery.await.context("the producer has ended")?;
    delivered
        .map_err(|(e, _)| e)
        .context("Kafka did not acknowledge")?;
    Ok(())
}

async fn post(
    client: &reqwest::Client,
    url: &str,
    token: Option<&SecretString>,
    batch: &Batch,
) -> anyhow::Result<usize> {
    let (path, values) = match batch {
        Batch::Events(events) => {
            let values: Result<Vec<serde_json::Value>, _> = events
                .iter()
                .map(|e| serde_json::from_slice(&e.to_json()))
                .collect();
            ("/v1/events/batch", values?)
        }
        Batch::Products(products) => {
            let values: Result<Vec<_>, _> = products.iter().map(serde_json::to_value).collect();
            ("/v1/products/batch", values?)
        }
    };
    let mut request = client.post(format!("{url}{path}")).json(&values);
    if let Some(token) = token {
        request = request.bearer_auth(token.expose_secret());
    }
    let response = request
        .send()
        .await
        .with_context(|| format!("{url} does not answer"))?;
    let status = response.status();
    let answer: serde_json::Value = response.json().await.unwrap_or_default();
    if !status.is_success() {
        bail!(
            "{url}{path} answers {status}: {}",
            answer["detail"].as_str().unwrap_or_default()
        );
    }
    if let Some(rejected) = answer["rejected"].as_u64().filter(|n| *n > 0) {
        let first = answer["results"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|r| !r["error"].is_null());
        bail!(
            "{url}{path} rejects {rejected} records; the first: {}",
            first.map_or(String::new(), ToString::to_string)
        );
    }
    Ok(values.len())
}
