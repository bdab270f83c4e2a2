//! Appending to Kafka: idempotent, acknowledged by all in-sync replicas, compressed with lz4.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use futures::{FutureExt as _, future::join_all};
use opentelemetry::trace::SpanKind;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::{ClientConfig, util::Timeout};
use recommendation_api::config::TopicNames;
use recommendation_api::records::{CustomerProfile, Product};
use recommendation_api::{Event, Impression};

use super::context::Quiet;
use super::{AppendError, Appended, Log};
use crate::traces::{TRACEPARENT, Traces};

/// Longest a record may wait for its acknowledgement.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(8);
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
            dead_letter: topics.dead_letter.as_str().into(),
            traces: Traces::default(),
        })
    }

    /// Appends of traced requests get a span, whose context goes with the records.
    #[must_use]
    pub fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
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

    fn put_profile<'a>(
        &'a self,
        customer_id: &'a str,
        profile: &'a CustomerProfile,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        async move {
            let value = serde_json::to_vec(profile).map_err(|e| AppendError::Refused(e.to_string()))?;
            let record = FutureRecord::to(&self.profiles)
                .key(customer_id.as_bytes())
                .payload(&value[..]);
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
