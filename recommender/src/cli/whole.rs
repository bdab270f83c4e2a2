//! Reads whole topics, from their start to where they end now.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use recommendation_api::RecommenderConfig;

use crate::log::context::Quiet;

/// Longest to wait for Kafka.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Records between two looks at the progress bar.
const TOLD_EVERY: u64 = 1_000;

/// A cluster whose topics can be read.
pub(super) struct Topics {
    consumer: BaseConsumer<Quiet>,
    /// Partitions by topic.
    found: HashMap<String, Vec<i32>>,
}

impl Topics {
    /// Asks the cluster of a configuration what topics there are. Blocks.
    pub fn open(config: &RecommenderConfig, secrets_dir: &Path, program: &str) -> anyhow::Result<Self> {
        let kafka = config
            .kafka
            .as_ref()
            .context("the configuration names no Kafka (kafka.bootstrapServers)")?;
        let mut client = crate::kafka::client(kafka, secrets_dir, program)?;
        client
            .set("group.id", program)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("allow.auto.create.topics", "false");
        let consumer: BaseConsumer<Quiet> = client.create_with_context(Quiet::default())?;
        let metadata = consumer.fetch_metadata(None, TIMEOUT).map_err(|e| {
            // A refusal comes by a callback, which is served by polling.
            let _ = consumer.poll(Duration::ZERO);
            let reason = consumer.context().refused();
            reason.map_or_else(
                || anyhow::Error::from(e).context("Kafka does not answer"),
                anyhow::Error::msg,
            )
        })?;
        let partitions = |topic: &rdkafka::metadata::MetadataTopic| {
            let ids = topic.partitions().iter().map(|partition| partition.id());
            (topic.name().to_owned(), ids.collect())
        };
        let found = metadata.topics().iter().map(partitions).collect();
        Ok(Self { consumer, found })
    }

    /// Whether there is such a topic.
    pub fn has(&self, topic: &str) -> bool {
        self.found
            .get(topic)
            .is_some_and(|partitions| !partitions.is_empty())
    }

    /// Hands over every record of a topic, partition by partition in their order. Blocks.
    pub fn read(&self, topic: &str, mut take: impl FnMut(&BorrowedMessage<'_>)) -> anyhow::Result<()> {
        let found = self.found.get(topic).filter(|partitions| !partitions.is_empty());
        let found = found.with_context(|| format!("there is no topic {topic}"))?;
        let mut list = TopicPartitionList::new();
        // Where each ends: a topic that is written to all the time has no end to wait for.
        let mut open: HashMap<i32, i64> = HashMap::new();
        let mut records = 0;
        for &partition in found {
            let (begin, end) = self.consumer.fetch_watermarks(topic, partition, TIMEOUT)?;
            if begin < end {
                list.add_partition_offset(topic, partition, Offset::Beginning)?;
                open.insert(partition, end);
                records += (end - begin).cast_unsigned();
            }
        }
        let style =
            ProgressStyle::with_template("{msg} {wide_bar} {human_pos} of {human_len} records, {eta}")?;
        let bar = ProgressBar::new(records)
            .with_style(style)
            .with_message(topic.to_owned());
        self.consumer.assign(&list)?;
        let (mut heard, mut read) = (Instant::now(), 0);
        while !open.is_empty() {
            match self.consumer.poll(Duration::from_millis(200)) {
                None if heard.elapsed() > TIMEOUT => {
                    bail!("Kafka stopped answering before the end of {topic}")
                }
                None => continue,
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(e)) => return Err(e).with_context(|| format!("cannot read {topic}")),
                Some(Ok(message)) => {
                    if let Some(&end) = open.get(&message.partition()) {
                        if message.offset() < end {
                            take(&message);
                            read += 1;
                        }
                        if message.offset() + 1 >= end {
                            open.remove(&message.partition());
                        }
                    }
                    if read % TOLD_EVERY == 0 {
                        bar.set_position(read);
                    }
                }
            }
            heard = Instant::now();
        }
        bar.finish_and_clear();
        self.consumer.unassign()?;
        Ok(())
    }
}
