//! Appending to Kafka: idempotent, acknowledged by all in-sync replicas, compressed with lz4.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use futures::{FutureExt as _, future::join_all};
use opentelemetry::trace::SpanKind;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::{ClientConfig, util::Timeout};
use recommendation_api::config::TopicNames;
use recommendation_api::records::{Ends, Product};
use recommendation_api::{Event, Impression};

use super::context::Quiet;
use super::{AppendError, Appended, Log, Table};
use crate::traces::{TRACEPARENT, Traces};

/// Longest a record may wait for its acknowledgement.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest one question to the cluster may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest the end of the program waits for records on their way.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// How a producer gathers records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// A request waits for it: at most a millisecond.
    Live,
    /// Throughput counts: large batches.
    Bulk,
}

/// The settings of a producer.
pub fn producer_config(client: &ClientConfig, gather: Gather) -> ClientConfig {
    let mut config = client.clone();
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        // As Java's producers place keys, so that ksqlDB and other writers agree on partitions.
        .set("partitioner", "murmur2_random")
        .set("message.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string());
    match gather {
        Gather::Live => config.set("linger.ms", "1"),
        Gather::Bulk => config
            .set("linger.ms", "20")
            .set("batch.size", "1000000")
            .set("batch.num.messages", "20000")
            .set("queue.buffering.max.messages", "500000")
            .set("message.timeout.ms", "120000"),
    };
    config
}

/// Appends to topics of one cluster. Cheap to clone.
#[derive(Clone)]
pub struct KafkaLog {
    config: ClientConfig,
    producer: Arc<ArcSwap<FutureProducer<Quiet>>>,
    events: Arc<str>,
    catalog: Arc<str>,
    profiles: Arc<str>,
    impressions: Arc<str>,
    erasures: Arc<str>,
    salts: Arc<str>,
    /// Asks where topics end.
    client: ClientConfig,
    /// Topics that are learned from.
    learned: Arc<[String]>,
    dead_letter: Arc<str>,
    traces: Traces,
}

impl KafkaLog {
    /// Makes the producer; Kafka need not be there yet.
    pub fn new(client: &ClientConfig, topics: &TopicNames) -> Result<Self, KafkaError> {
        let config = producer_config(client, Gather::Live);
        let producer: FutureProducer<Quiet> = config.create_with_context(Quiet::default())?;
        Ok(Self {
            config,
            producer: Arc::new(ArcSwap::from_pointee(producer)),
            events: topics.events.as_str().into(),
            catalog: topics.catalog.as_str().into(),
            profiles: topics.profiles.as_str().into(),
            impressions: topics.impressions.as_str().into(),
            erasures: topics.erasures.as_str().into(),
            salts: topics.salts.as_str().into(),
            client: client.clone(),
            learned: [topics.events.clone()].into(),
            dead_letter: topics.dead_letter.as_str().into(),
            traces: Traces::default(),
        })
    }

    /// Appends of traced requests get a span, whose context goes with the records.
    #[must_use]
    pub fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Models are learned from this topic: an erasure has to know where it ends.
    #[must_use]
    pub fn learned_from(self, topic: &str) -> Self {
        let mut learned = self.learned.to_vec();
        if !learned.iter().any(|known| known == topic) {
            learned.push(topic.to_owned());
        }
        Self {
            learned: learned.into(),
            ..self
        }
    }

    /// Sends one record and waits for its acknowledgement.
    async fn send(&self, record: FutureRecord<'_, [u8], [u8]>) -> Result<(), AppendError> {
        let producer = self.producer.load_full();
        let sent = producer
            .send(record, Timeout::After(Duration::from_secs(1)))
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err((KafkaError::MessageProduction(code), _)) => Err(match code {
                RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessage => {
                    AppendError::Refused(code.to_string())
                }
                _ => {
                    self.replace_if_fatal(&producer);
                    AppendError::Unavailable(code.to_string())
                }
            }),
            Err((e, _)) => Err(AppendError::Unavailable(e.to_string())),
        }
    }

    /// An idempotent producer that met a fatal error refuses everything for good: a new one takes over.
    fn replace_if_fatal(&self, producer: &Arc<FutureProducer<Quiet>>) {
        let Some((code, reason)) = producer.client().fatal_error() else {
            return;
        };
        tracing::error!(%code, reason, "the Kafka producer is dead; a new one takes over");
        match self
            .config
            .create_with_context::<_, FutureProducer<Quiet>>(Quiet::default())
        {
            Ok(new) => {
                self.producer.compare_and_swap(producer, Arc::new(new));
            }
            Err(e) => tracing::error!(error = %e, "no new Kafka producer"),
        }
    }

    /// Writes a dead letter: the original bytes, and headers that say why and where from.
    pub async fn dead_letter(
        &self,
        key: Option<&[u8]>,
        value: &[u8],
        headers: OwnedHeaders,
    ) -> Result<(), AppendError> {
        let mut record = FutureRecord::to(&self.dead_letter)
            .payload(value)
            .headers(headers);
        if let Some(key) = key {
            record = record.key(key);
        }
        self.send(record).await
    }
}

/// Asks the cluster where topics end. Blocks, for some seconds where it does not answer.
fn ends(client: &ClientConfig, topics: &[String]) -> Result<Ends, String> {
    let mut config = client.clone();
    // A topic that is not there must not come to be by being asked about.
    config.set("allow.auto.create.topics", "false");
    let consumer: BaseConsumer<Quiet> = config
        .create_with_context(Quiet::default())
        .map_err(|e| e.to_string())?;
    let mut ends = Ends::new();
    for topic in topics {
        let metadata = consumer
            .fetch_metadata(Some(topic), ASK_TIMEOUT)
            .map_err(|e| e.to_string())?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = found.filter(|found| found.error().is_none());
        let found = found.ok_or_else(|| format!("topic {topic} is not there"))?;
        let of_topic = ends.entry(topic.clone()).or_default();
        for partition in found.partitions() {
            let (_, end) = consumer
                .fetch_watermarks(topic, partition.id(), ASK_TIMEOUT)
                .map_err(|e| format!("{topic}/{}: {e}", partition.id()))?;
            of_topic.insert(partition.id(), end);
        }
    }
    Ok(ends)
}

impl Log for KafkaLog {
    fn append<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, Appended> {
        async move {
            let span = self.traces.step("send", SpanKind::Producer);
            let parent = span.as_ref().and_then(|span| self.traces.traceparent(span));
            let parent = parent.as_deref();
            // All are queued in order before the first is waited for: `join_all` polls in order.
            join_all(events.iter().map(|event| async move {
                let value = event.to_json();
                let mut record = FutureRecord::to(&self.events)
                    .key(event.customer_id.as_bytes())
                    .payload(&value[..]);
                if let Some(parent) = parent {
                    record = record.headers(OwnedHeaders::new().insert(Header {
                        key: TRACEPARENT,
                        value: Some(parent),
                    }));
                }
                self.send(record).await
            }))
            .await
        }
        .boxed()
    }

    fn put_products<'a>(&'a self, products: &'a [Product]) -> BoxFuture<'a, Appended> {
        async move {
            join_all(products.iter().map(|product| async move {
                let value = serde_json::to_vec(product).map_err(|e| AppendError::Refused(e.to_string()))?;
                let record = FutureRecord::to(&self.catalog)
                    .key(product.product_id.as_bytes())
                    .payload(&value[..]);
                self.send(record).await
            }))
            .await
        }
        .boxed()
    }

    fn put<'a>(
        &'a self,
        table: Table,
        key: &'a str,
        value: Option<Vec<u8>>,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        async move {
            let topic = match table {
                Table::Profiles => &self.profiles,
                Table::Erasures => &self.erasures,
                Table::Salts => &self.salts,
                // Not compacted: a tombstone would change nothing.
                Table::Impressions => return Ok(()),
            };
            let mut record = FutureRecord::to(topic).key(key.as_bytes());
            if let Some(value) = &value {
                record = record.payload(&value[..]);
            }
            self.send(record).await
        }
        .boxed()
    }

    fn put_impressions<'a>(&'a self, impressions: &'a [Impression]) -> BoxFuture<'a, Appended> {
        async move {
            join_all(impressions.iter().map(|impression| async move {
                let value = impression.to_json();
                let record = FutureRecord::to(&self.impressions)
                    .key(impression.customer_id.as_bytes())
                    .payload(&value[..]);
                self.send(record).await
            }))
            .await
        }
        .boxed()
    }

    fn ends(&self) -> BoxFuture<'_, Result<Ends, AppendError>> {
        let (client, topics) = (self.client.clone(), Arc::clone(&self.learned));
        async move {
            let asked = tokio::task::spawn_blocking(move || ends(&client, &topics)).await;
            asked
                .unwrap_or_else(|e| Err(e.to_string()))
                .map_err(AppendError::Unavailable)
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let producer = self.producer.load_full();
        async move {
            let flushed = tokio::task::spawn_blocking(move || producer.flush(FLUSH_TIMEOUT)).await;
            if let Ok(Err(e)) = flushed {
                tracing::warn!(error = %e, "records may be lost: Kafka did not take them in time");
            }
        }
        .boxed()
    }
}
