//! Who writes dead letters, when every replica reads every record?
//!
//! One balanced consumer group, `<pipeline>-dead-letters`: each partition belongs to exactly one replica,
//! which reads it a second time, only to judge each record, and writes the malformed ones to the dead-letter
//! topic. Its committed offset moves past a malformed record only after the letter is acknowledged. So:
//!
//! - none is ever lost, whatever dies when: the next owner starts at the committed offset;
//! - a letter is written twice only if its writer died between acknowledgement and commit. Letters carry the
//!   position that they came from (topic, partition, offset), by which readers drop the second;
//! - a restart writes none again, although the model is read from the start.
//!
//! The price is a second parse of 1/replicas of the records, off the path from click to recommendation.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Message as _, OwnedHeaders};
use recommendation_api::event::EventRef;
use recommendation_api::records::dead_letter;
use recommendation_api::{EventError, EventType};
use tokio_util::sync::CancellationToken;

use super::AppendError;
use super::context::Quiet;
use super::kafka::KafkaLog;
use crate::metrics::Metrics;

/// What is kept of a record that the dead-letter topic does not take as a whole.
const KEPT_BYTES: usize = 16 * 1024;
const POLL: Duration = Duration::from_millis(200);

/// Judges the records of the partitions that it owns.
pub struct Validator {
    config: ClientConfig,
    topic: String,
    default_type: Option<EventType>,
    log: KafkaLog,
    metrics: Arc<Metrics>,
    // The producer's future needs the runtime's timer while its queue is full.
    runtime: tokio::runtime::Handle,
}

impl Validator {
    /// To be called within a tokio runtime.
    pub fn new(
        client: &ClientConfig,
        topic: &str,
        default_type: Option<EventType>,
        group: &str,
        log: KafkaLog,
        metrics: Arc<Metrics>,
    ) -> Self {
        let mut config = client.clone();
        config
            .set("group.id", format!("{group}-dead-letters"))
            .set("auto.offset.reset", "earliest")
            .set("allow.auto.create.topics", "false")
            // Offsets are stored by us, after the acknowledgement, and committed once a second.
            .set("enable.auto.offset.store", "false")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "10000")
            .set("fetch.wait.max.ms", "500")
            .set("queued.max.messages.kbytes", "8192");
        Self {
            config,
            topic: topic.to_owned(),
            default_type,
            log,
            metrics,
            runtime: tokio::runtime::Handle::current(),
        }
    }

    /// Joins the group once `begin` says so and works until stopped. A replica that is still reading its log needs the
    /// processors for that; letters that it owes are written a little later.
    pub fn run(self, begin: &CancellationToken, stop: &CancellationToken) -> Result<(), KafkaError> {
        let wait = async {
            tokio::select! {
                () = begin.cancelled() => {}
                () = stop.cancelled() => {}
            }
        };
        self.runtime.block_on(wait);
        if stop.is_cancelled() {
            return Ok(());
        }
        let consumer: BaseConsumer<Quiet> = self.config.create_with_context(Quiet::default())?;
        consumer.subscribe(&[&self.topic])?;
        let mut failures = 0u32;
        while !stop.is_cancelled() {
            match consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    failures = 0;
                    self.judge(&consumer, &message, stop);
                }
                // The topic is not there yet, or Kafka is not: the client goes on trying by itself.
                Some(Err(e)) => {
                    if failures.is_multiple_of(100) {
                        tracing::warn!(error = %e, topic = self.topic, "dead letters wait for Kafka");
                    }
                    failures += 1;
                    let pause = match e.rdkafka_error_code() {
                        Some(RDKafkaErrorCode::UnknownTopicOrPartition) => Duration::from_secs(1),
                        _ => POLL,
                    };
                    std::thread::sleep(pause);
                }
            }
        }
        // The consumer commits what is stored while it closes, waiting one session at most.
        Ok(())
    }

    fn judge(&self, consumer: &BaseConsumer<Quiet>, message: &BorrowedMessage<'_>, stop: &CancellationToken) {
        // A tombstone is no event: a malformed record like any other.
        let value = message.payload().unwrap_or_default();
        if let Err(error) = EventRef::parse(value, self.default_type.as_ref())
            && !self.write(message, value, &error, stop)
        {
            return; // stopping: the offset stays before it, the next owner writes it
        }
        if let Err(e) = consumer.store_offset_from_message(message) {
            // The partition was taken away meanwhile; its new owner goes on from the committed offset.
            tracing::debug!(error = %e, "offset not stored");
        }
    }

    /// Writes the letter, however long it takes; false when stopped before it was acknowledged.
    fn write(
        &self,
        message: &BorrowedMessage<'_>,
        value: &[u8],
        error: &EventError,
        stop: &CancellationToken,
    ) -> bool {
        let mut pause = Duration::from_secs(1);
        let (mut key, mut kept) = (message.key(), value);
        loop {
            let mut headers = headers(message.topic(), message.partition(), message.offset(), error);
            if kept.len() < value.len() {
                let bytes = value.len().to_string();
                headers = headers.insert(Header {
                    key: dead_letter::TRUNCATED,
                    value: Some(&bytes),
                });
            }
            let sent = self.runtime.block_on(self.log.dead_letter(key, kept, headers));
            match sent {
                Ok(()) => {
                    self.metrics.dead_letters.inc();
                    tracing::warn!(
                        reason = error.reason(),
                        partition = message.partition(),
                        offset = message.offset(),
                        "malformed record written to the dead-letter topic"
                    );
                    return true;
                }
                // With its headers it is too large for the topic, and always will be: its beginning must do, or it
                // would hold up every letter after it.
                Err(AppendError::Refused(cause)) if kept.len() > KEPT_BYTES => {
                    tracing::warn!(cause, bytes = value.len(), "dead letter cut short");
                    kept = &value[..KEPT_BYTES];
                    key = key.filter(|key| key.len() <= KEPT_BYTES);
                    continue;
                }
                Err(e) => tracing::warn!(error = %e, again_in = ?pause, "dead letter not written yet"),
            }
            let until = std::time::Instant::now() + pause;
            while std::time::Instant::now() < until {
                if stop.is_cancelled() {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            pause = (pause * 2).min(Duration::from_secs(4));
        }
    }
}

fn headers(topic: &str, partition: i32, offset: i64, error: &EventError) -> OwnedHeaders {
    let (partition, offset) = (partition.to_string(), offset.to_string());
    let message = error.to_string();
    [
        (dead_letter::REASON, error.reason()),
        (dead_letter::MESSAGE, &message),
        (dead_letter::TOPIC, topic),
        (dead_letter::PARTITION, &partition),
        (dead_letter::OFFSET, &offset),
    ]
    .into_iter()
    .fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header {
            key,
            value: Some(value),
        })
    })
}
