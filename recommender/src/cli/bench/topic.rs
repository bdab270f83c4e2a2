//! Topics to start from: made, filled, read by a bare consumer, and removed again.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use recommendation_api::config::TopicNames;

use super::start::records;
use super::stream::Log;

/// As the operator makes the events topic.
const PARTITIONS: i32 = 12;
/// Longest that the cluster may take for one call.
const WITHIN: Duration = Duration::from_secs(30);

/// Topics of one run.
pub(super) struct Topics {
    client: ClientConfig,
    events: String,
    all: Vec<String>,
}

impl Topics {
    /// Makes them, and writes their names into `names`.
    pub async fn make(servers: &str, names: &mut TopicNames) -> anyhow::Result<Self> {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", servers);
        let id = uuid::Uuid::new_v4().simple().to_string();
        for name in [
            &mut names.events,
            &mut names.catalog,
            &mut names.profiles,
            &mut names.dead_letter,
        ] {
            *name = format!("bench_{name}_{id}");
        }
        let topics = Self {
            events: names.events.clone(),
            all: vec![
                names.events.clone(),
                names.catalog.clone(),
                names.profiles.clone(),
                names.dead_letter.clone(),
            ],
            client,
        };
        let new: Vec<NewTopic<'_>> = topics
            .all
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let partitions = if at == 0 { PARTITIONS } else { 1 };
                NewTopic::new(name, partitions, TopicReplication::Fixed(-1))
            })
            .collect();
        let made = topics.admin()?.create_topics(&new, &options()).await?;
        for result in made {
            result.map_err(|(name, code)| anyhow::anyhow!("topic {name} was not made: {code}"))?;
        }
        Ok(topics)
    }

    fn admin(&self) -> anyhow::Result<AdminClient<DefaultClientContext>> {
        self.client.create().context("no client for the cluster")
    }

    pub async fn remove(&self) -> anyhow::Result<()> {
        let names: Vec<&str> = self.all.iter().map(String::as_str).collect();
        self.admin()?.delete_topics(&names, &options()).await?;
        Ok(())
    }

    /// Writes all events, and reads them again with a consumer that does nothing else; seconds of the reading.
    pub async fn fill_and_read(&self, log: &Log) -> anyhow::Result<f64> {
        eprintln!("writing them to {}", self.events);
        // It blocks for as long as it takes, and so does all that this command does.
        tokio::task::block_in_place(|| self.fill(log))?;
        eprintln!("reading them with a bare consumer");
        tokio::task::block_in_place(|| self.read(log.events.len()))
    }

    fn fill(&self, log: &Log) -> anyhow::Result<()> {
        let mut config = self.client.clone();
        config
            .set("compression.type", "lz4")
            .set("linger.ms", "20")
            .set("batch.size", "1000000")
            .set("queue.buffering.max.kbytes", "262144");
        let producer: ThreadedProducer<DefaultProducerContext> = config.create()?;
        for (key, value) in records(log) {
            let mut record = BaseRecord::to(&self.events).key(key).payload(&value);
            loop {
                match producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                        record = back;
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err((e, _)) => return Err(e.into()),
                }
            }
        }
        Ok(producer.flush(Duration::from_secs(600))?)
    }

    fn read(&self, events: usize) -> anyhow::Result<f64> {
        let mut config = self.client.clone();
        config
            .set("group.id", format!("{}-bare", self.events))
            .set("enable.auto.commit", "false");
        let started = Instant::now();
        let consumer: BaseConsumer = config.create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(&self.events, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let mut read = 0;
        while read < events {
            let message = consumer.poll(WITHIN).context("the consumer reads nothing")?;
            message?;
            read += 1;
        }
        Ok(started.elapsed().as_secs_f64())
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(WITHIN))
        .request_timeout(Some(WITHIN))
}
