//! Topics of one test, and what writes to and reads from them directly.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer as _};
use recommendation_api::config::{KafkaConfig, RecommenderConfig, RedisConfig, TopicNames};
use recommender::service::{Mode, Options};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::support::options;

/// What `cargo xtask test` says of its servers.
pub fn server(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
}

/// Kafka's address.
pub fn kafka() -> String {
    server("TEST_KAFKA")
}

/// Redis's URL.
pub fn redis() -> String {
    server("TEST_REDIS")
}

/// Redis's address, for what stands before it.
pub fn redis_address() -> String {
    let url = redis();
    url.trim_start_matches("redis://")
        .trim_end_matches('/')
        .to_owned()
}

/// Topics, and a folder for secrets.
pub struct Shop {
    pub config: RecommenderConfig,
    pub dir: TempDir,
    client: ClientConfig,
}

/// A dead letter: value and headers.
pub struct Letter {
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub headers: Vec<(String, String)>,
}

impl Shop {
    /// A shop with this many partitions of events.
    pub async fn new(partitions: i32) -> Self {
        Self::on(&kafka(), partitions, 1).await
    }

    /// The same on other brokers, with so many copies of each topic.
    pub async fn on(brokers: &str, partitions: i32, copies: i32) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let name = |topic: &str| format!("{topic}_{id}");
        let config = RecommenderConfig {
            pipeline: format!("test/{id}"),
            kafka: Some(KafkaConfig {
                bootstrap_servers: vec![brokers.to_owned()],
                ..KafkaConfig::default()
            }),
            topics: TopicNames {
                events: name("events"),
                catalog: name("products"),
                dead_letter: name("dead"),
                impressions: name("impressions"),
                profiles: name("profiles"),
                erasures: name("erasures"),
                salts: name("salts"),
                ..TopicNames::default()
            },
            ..RecommenderConfig::default()
        };
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", brokers);
        let shop = Self {
            config,
            dir: tempfile::tempdir().unwrap(),
            client,
        };
        let topics = &shop.config.topics;
        let copies = || TopicReplication::Fixed(copies);
        let created = shop
            .admin()
            .create_topics(
                &[
                    NewTopic::new(&topics.events, partitions, copies()),
                    NewTopic::new(&topics.catalog, 1, copies()).set("cleanup.policy", "compact"),
                    NewTopic::new(&topics.profiles, 1, copies()).set("cleanup.policy", "compact"),
                    NewTopic::new(&topics.erasures, 2, copies()).set("cleanup.policy", "compact"),
                    NewTopic::new(&topics.salts, 1, copies()).set("cleanup.policy", "compact"),
                    NewTopic::new(&topics.dead_letter, 1, copies()),
                    NewTopic::new(&topics.impressions, 2, copies()),
                ],
                &AdminOptions::new().operation_timeout(Some(Duration::from_secs(10))),
            )
            .await
            .unwrap();
        assert!(created.iter().all(Result::is_ok), "{created:?}");
        shop
    }

    /// How to read, in a group of one's own.
    fn consumer(&self) -> ClientConfig {
        let mut config = self.client.clone();
        config.set("group.id", uuid::Uuid::new_v4().to_string());
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client.create().unwrap()
    }

    /// Options of one replica.
    pub fn replica(&self) -> Options {
        options(self.config.clone(), Mode::Kafka, self.dir.path())
    }

    /// The same with Redis.
    pub fn with_redis(mut self, url: &str) -> Self {
        self.config.redis = Some(RedisConfig {
            url: url.to_owned(),
            ..RedisConfig::default()
        });
        self
    }

    /// Grows the events topic.
    pub async fn grow(&self, partitions: usize) {
        let new = NewPartitions::new(&self.config.topics.events, partitions);
        let grown = self
            .admin()
            .create_partitions(&[new], &AdminOptions::new())
            .await
            .unwrap();
        assert!(grown.iter().all(Result::is_ok), "{grown:?}");
    }

    /// Removes the events topic and makes it anew, with one partition.
    pub async fn recreate(&self) {
        let (admin, topic) = (self.admin(), self.config.topics.events.clone());
        admin
            .delete_topics(&[&topic], &AdminOptions::new())
            .await
            .unwrap();
        for _ in 0..100 {
            let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
            let made = admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
            if made.iter().all(Result::is_ok) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await; // its removal takes a moment
        }
        panic!("{topic} cannot be made anew");
    }

    /// Writes bytes to the events topic, past the service.
    pub async fn put(&self, partition: Option<i32>, key: &str, value: &[u8]) {
        let producer: FutureProducer = self.client.create().unwrap();
        let mut record = FutureRecord::to(&self.config.topics.events)
            .key(key)
            .payload(value);
        record.partition = partition;
        producer
            .send(record, Duration::from_secs(5))
            .await
            .map_err(|(e, _)| e)
            .unwrap();
    }

    /// The same, in a transaction.
    pub async fn put_in_transaction(&self, key: &str, value: &[u8]) {
        let mut config = self.client.clone();
        config.set("transactional.id", uuid::Uuid::new_v4().to_string());
        let producer: BaseProducer = config.create().unwrap();
        let (topic, key, value) = (
            self.config.topics.events.clone(),
            key.to_owned(),
            value.to_owned(),
        );
        let wait = Duration::from_secs(10);
        let put = move || {
            producer.init_transactions(wait).unwrap();
            producer.begin_transaction().unwrap();
            producer
                .send(BaseRecord::to(&topic).key(&key).payload(&value))
                .map_err(|(e, _)| e)
                .unwrap();
            producer.commit_transaction(wait).unwrap();
        };
        tokio::task::spawn_blocking(put).await.unwrap();
    }

    /// Everything that stands in a topic now: keys and values.
    pub async fn records(&self, topic: &str) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let (config, topic) = (self.consumer(), topic.to_owned());
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let wait = Duration::from_secs(5);
            let metadata = consumer.fetch_metadata(Some(&topic), wait).unwrap();
            let mut list = rdkafka::TopicPartitionList::new();
            let mut left = 0;
            for partition in metadata.topics()[0].partitions() {
                let id = partition.id();
                let (low, high) = consumer.fetch_watermarks(&topic, id, wait).unwrap();
                left += high - low;
                list.add_partition_offset(&topic, id, rdkafka::Offset::Beginning)
                    .unwrap();
            }
            consumer.assign(&list).unwrap();
            let mut records = Vec::new();
            let until = Instant::now() + Duration::from_secs(20);
            while (records.len() as i64) < left {
                assert!(Instant::now() < until, "{topic} cannot be read");
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                    let key = message.key().unwrap_or_default().to_vec();
                    records.push((key, message.payload().map(<[u8]>::to_vec)));
                }
            }
            records
        })
        .await
        .unwrap()
    }

    /// Tells when so many tombstones were written to these topics, of one partition each, from now on.
    pub async fn tombstones(&self, topics: &[&String], number: usize) -> oneshot::Receiver<()> {
        let mut config = self.consumer();
        config.set("enable.auto.commit", "false");
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).clone()).collect();
        let ready = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let mut list = rdkafka::TopicPartitionList::new();
            for topic in &topics {
                let wait = Duration::from_secs(5);
                let (_, end) = consumer.fetch_watermarks(topic, 0, wait).unwrap();
                list.add_partition_offset(topic, 0, rdkafka::Offset::Offset(end))
                    .unwrap();
            }
            consumer.assign(&list).unwrap();
            consumer
        });
        let consumer = ready.await.unwrap();
        let (told, moment) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let (mut gone, until) = (0, Instant::now() + Duration::from_secs(20));
            while gone < number && Instant::now() < until {
                let polled = consumer.poll(Duration::from_millis(100));
                gone +=
                    usize::from(polled.is_some_and(|record| record.is_ok_and(|of| of.payload().is_none())));
            }
            // At once: a consumer takes its time to close.
            if gone == number {
                let _ = told.send(());
            }
        });
        moment
    }

    /// Dead letters, waiting until there are `at_least`, and a little longer for one too many.
    pub async fn dead_letters(&self, at_least: usize) -> Vec<Letter> {
        let mut config = self.consumer();
        config.set("auto.offset.reset", "earliest");
        let topic = self.config.topics.dead_letter.clone();
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let mut list = rdkafka::TopicPartitionList::new();
            list.add_partition_offset(&topic, 0, rdkafka::Offset::Beginning)
                .unwrap();
            consumer.assign(&list).unwrap();
            let mut letters = Vec::new();
            let mut until = Instant::now() + Duration::from_secs(30);
            while Instant::now() < until {
                let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else {
                    continue;
                };
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let headers = message.headers().unwrap().iter();
                letters.push(Letter {
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().unwrap_or_default().to_vec(),
                    headers: headers
                        .map(|h| (h.key.to_owned(), text(h.value.unwrap())))
                        .collect(),
                });
                if letters.len() == at_least {
                    until = Instant::now() + Duration::from_secs(2);
                }
            }
            letters
        })
        .await
        .unwrap()
    }
}

impl Letter {
    /// The value of a header.
    pub fn header(&self, name: &str) -> &str {
        &self.headers.iter().find(|(key, _)| key == name).unwrap().1
    }
}
