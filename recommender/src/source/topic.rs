//! Reads every partition of one Kafka topic from its start. A thread of its own asks the cluster about
//! partitions and end offsets, because those calls block; the reading side only polls.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use recommendation_api::report::DependencyState;
use tokio_util::sync::CancellationToken;

use super::{Lag, Record, SourceError};
use crate::log::context::Quiet;

/// Longest a question to the cluster may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// How often end offsets are asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How often offsets are published for lag tools.
const PUBLISH_EVERY: Duration = Duration::from_secs(5);
/// Records handed over by one poll at most, so that the model is published in between.
const BATCH: usize = 5_000;

/// What the asking thread knows of the topic.
#[derive(Default)]
struct Known {
    /// Partitions with their end offsets.
    ends: BTreeMap<i32, i64>,
    state: Option<DependencyState>,
    /// The cluster answered and has no such topic.
    absent: bool,
}

/// Where reading stands in one partition.
struct Place {
    next: i64,
    /// Everything that stands in the partition was handed over, by the client's own account.
    at_end: bool,
    /// How far the client had read when it last said so; see [`Quiet::ends_reached`].
    end_reached: i64,
    /// The end at the time of assignment; catching up means to get there.
    first_end: i64,
    caught_up: bool,
    record_ms: i64,
    behind_since: Option<Instant>,
}

impl Place {
    /// Up to where nothing is left to hand over.
    fn reached(&self) -> i64 {
        if self.at_end {
            self.next.max(self.end_reached)
        } else {
            self.next
        }
    }
}

/// A reader of one topic.
pub(super) struct TopicReader {
    topic: String,
    consumer: Arc<BaseConsumer<Quiet>>,
    known: Arc<Mutex<Known>>,
    places: HashMap<i32, Place>,
    publish_offsets: bool,
    published: Instant,
    stop: CancellationToken,
    asking: Option<JoinHandle<()>>,
}

impl TopicReader {
    /// Starts to ask for the topic's partitions; nothing is read before they are known. With
    /// `publish_offsets` the group's offsets follow, for lag tools only: they are never read back.
    pub fn start(
        config: &ClientConfig,
        topic: &str,
        group: &str,
        publish_offsets: bool,
    ) -> Result<Self, SourceError> {
        let mut config = config.clone();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("allow.auto.create.topics", "false")
            .set("enable.partition.eof", "true")
            // No member of the group: of it, this only bounds how long the end of the program waits for a last
            // commit while Kafka is away (45 seconds by default, which is longer than a pod is given).
            .set("session.timeout.ms", "3000")
            // Tells how far it has read where no record is handed over for it.
            .set("statistics.interval.ms", "1000")
            // An answer as soon as there is one byte; the wait only bounds an idle fetch.
            .set("fetch.min.bytes", "1")
            .set("fetch.wait.max.ms", "100")
            // By default a full local queue stops fetching for a whole second.
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.error.backoff.ms", "200")
            .set("queued.max.messages.kbytes", "65536");
        let consumer: Arc<BaseConsumer<Quiet>> = Arc::new(config.create_with_context(Quiet::default())?);
        let known = Arc::new(Mutex::new(Known::default()));
        let stop = CancellationToken::new();
        let asking = {
            let (consumer, known, stop) = (Arc::clone(&consumer), Arc::clone(&known), stop.clone());
            let topic = topic.to_owned();
            std::thread::Builder::new()
                .name("kafka-ask".into())
                .spawn(move || ask(&consumer, &topic, &known, &stop))
                .map_err(|_| SourceError::Thread("kafka-ask"))?
        };
        Ok(Self {
            topic: topic.to_owned(),
            consumer,
            known,
            places: HashMap::new(),
            publish_offsets,
            published: Instant::now(),
            stop,
            asking: Some(asking),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Assigns partitions that have appeared; those read already go on where they are.
    fn assign_new(&mut self) -> Result<(), SourceError> {
        let ends = {
            let known = self.known();
            if known.ends.len() == self.places.len() {
                return Ok(());
            }
            known.ends.clone()
        };
        for (&partition, &end) in &ends {
            self.places.entry(partition).or_insert_with(|| Place {
                next: 0,
                at_end: false,
                end_reached: 0,
                first_end: end,
                caught_up: end == 0,
                record_ms: 0,
                behind_since: None,
            });
        }
        let mut list = TopicPartitionList::new();
        for (&partition, place) in &self.places {
            let from = if place.next == 0 {
                Offset::Beginning
            } else {
                Offset::Offset(place.next)
            };
            list.add_partition_offset(&self.topic, partition, from)?;
        }
        self.consumer.assign(&list)?;
        tracing::info!(
            topic = self.topic,
            partitions = self.places.len(),
            "reading topic"
        );
        Ok(())
    }

    /// Hands over what has arrived; see [`super::Source::poll`].
    pub fn poll(&mut self, wait: Duration, take: &mut dyn FnMut(Record<'_>)) -> Result<usize, SourceError> {
        // Nobody told it to: it panicked.
        if self.asking.as_ref().is_some_and(JoinHandle::is_finished) && !self.stop.is_cancelled() {
            return Err(SourceError::Thread("kafka-ask"));
        }
        self.assign_new()?;
        if self.places.is_empty() {
            std::thread::sleep(wait.min(Duration::from_millis(20)));
            return Ok(0);
        }
        let mut taken = 0;
        while taken < BATCH {
            let wait = if taken == 0 { wait } else { Duration::ZERO };
            let message = match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => message,
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if let Some(place) = self.places.get_mut(&partition) {
                        place.at_end = true;
                        place.caught_up = true;
                    }
                    continue;
                }
                Some(Err(e)) => return Err(e.into()),
            };
            let time_ms = message
                .timestamp()
                .to_millis()
                .unwrap_or_else(crate::clock::now_ms);
            take(Record {
                partition: message.partition(),
                offset: message.offset(),
                time_ms,
                key: message.key(),
                value: message.payload(),
            });
            if let Some(place) = self.places.get_mut(&message.partition()) {
                place.next = message.offset() + 1;
                place.at_end = false;
                place.record_ms = time_ms;
                place.caught_up |= place.next >= place.first_end;
            }
            taken += 1;
        }
        self.watch_lag();
        self.publish();
        Ok(taken)
    }

    /// Notes since when each partition has been behind.
    fn watch_lag(&mut self) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = self.consumer.context().ends_reached();
        for (partition, place) in &mut self.places {
            place.end_reached = reached.get(partition).copied().unwrap_or(0);
            let end = known.ends.get(partition).copied().unwrap_or(0);
            if end <= place.reached() {
                place.behind_since = None;
            } else {
                place.behind_since.get_or_insert_with(Instant::now);
            }
        }
    }

    fn publish(&mut self) {
        if !self.publish_offsets || self.published.elapsed() < PUBLISH_EVERY {
            return;
        }
        self.published = Instant::now();
        let mut list = TopicPartitionList::new();
        for (&partition, place) in self.places.iter().filter(|(_, place)| place.next > 0) {
            // Cannot fail: partition numbers come from the cluster and the offset is absolute.
            let _ = list.add_partition_offset(&self.topic, partition, Offset::Offset(place.next));
        }
        if list.count() > 0
            && let Err(e) = self.consumer.commit(&list, CommitMode::Async)
        {
            tracing::debug!(error = %e, "offsets for lag tools were not published");
        }
    }

    /// How far behind; see [`super::Source::lag`].
    pub fn lag(&self, now_ms: i64) -> Lag {
        let known = self.known();
        let (mut records, mut seconds) = (0u64, 0f64);
        for (partition, place) in &self.places {
            let end = known.ends.get(partition).copied().unwrap_or(0);
            let behind = end - place.reached();
            if behind <= 0 {
                continue;
            }
            records += u64::try_from(behind).unwrap_or(0);
            // The oldest record not applied came after the last one applied and, once caught up, after we
            // fell behind: the smaller of the two bounds its age.
            let since_behind = place
                .behind_since
                .map_or(f64::MAX, |since| since.elapsed().as_secs_f64());
            let since_record = (now_ms - place.record_ms).max(0) as f64 / 1000.0;
            let age = if place.caught_up {
                since_record.min(since_behind)
            } else {
                since_record
            };
            // Before the first record nothing bounds its age but how long we have been reading.
            seconds = seconds.max(if place.record_ms == 0 {
                since_behind.min(since_record)
            } else {
                age
            });
        }
        Lag {
            records,
            seconds,
            caught_up: self.caught_up(),
        }
    }

    /// Whether everything that stood in the topic when it was first seen has been read.
    pub fn caught_up(&self) -> bool {
        !self.places.is_empty() && self.places.values().all(|place| place.caught_up)
    }

    /// Whether the cluster answers and has no such topic.
    pub fn is_absent(&self) -> bool {
        self.known().absent
    }

    /// Whether the cluster answers.
    pub fn state(&self) -> DependencyState {
        self.known().state.unwrap_or(DependencyState::Down)
    }

    /// Ends and joins the asking thread.
    pub fn close(&mut self) {
        self.stop.cancel();
        if let Some(asking) = self.asking.take() {
            let _ = asking.join();
        }
    }
}

/// Asks for partitions and ends until stopped. Unreachable at first: again after 1, 2 and 4 seconds, then
/// every 4 seconds for good.
fn ask(consumer: &BaseConsumer<Quiet>, topic: &str, known: &Mutex<Known>, stop: &CancellationToken) {
    let mut failures = 0u32;
    while !stop.is_cancelled() {
        let pause = match ask_once(consumer, topic) {
            Ok(ends) => {
                if failures > 0 {
                    tracing::info!(topic, "Kafka answers again");
                }
                failures = 0;
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                known.state = Some(DependencyState::Up);
                known.absent = ends.is_empty();
                known.ends.extend(ends);
                ASK_EVERY
            }
            Err(e) => {
                let again = Duration::from_secs(1 << failures.min(2));
                if failures < 3 || failures.is_multiple_of(15) {
                    tracing::warn!(topic, error = %e, again_in = ?again, "Kafka does not answer");
                }
                failures += 1;
                known.lock().unwrap_or_else(PoisonError::into_inner).state = Some(DependencyState::Down);
                again
            }
        };
        // Short steps, so that stopping does not wait for the pause.
        let until = Instant::now() + pause;
        while !stop.is_cancelled() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn ask_once(consumer: &BaseConsumer<Quiet>, topic: &str) -> Result<Vec<(i32, i64)>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), ASK_TIMEOUT)?;
    let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else {
        return Ok(Vec::new());
    };
    if let Some(error) = found.error() {
        return match RDKafkaErrorCode::from(error) {
            RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => Ok(Vec::new()),
            code => Err(KafkaError::MetadataFetch(code)),
        };
    }
    found
        .partitions()
        .iter()
        .map(|p| Ok((p.id(), consumer.fetch_watermarks(topic, p.id(), ASK_TIMEOUT)?.1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;

    #[test]
    fn ending_does_not_wait_long_for_a_kafka_that_has_gone_away() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("events", 1, 1).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        let mut reader = TopicReader::start(&config, "events", "group", true).unwrap();
        let started = Instant::now();
        while !reader.caught_up() {
            reader.poll(Duration::from_millis(50), &mut |_| {}).unwrap();
            assert!(started.elapsed() < Duration::from_secs(30), "no topic");
        }
        let offset = |next| {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset("events", 0, Offset::Offset(next))
                .unwrap();
            list
        };
        // The group's coordinator is known from now on, and then lost with a commit on its way.
        reader.consumer.commit(&offset(1), CommitMode::Sync).unwrap();
        cluster.broker_down(-1).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        reader.consumer.commit(&offset(2), CommitMode::Async).unwrap();
        let ending = Instant::now();
        reader.close();
        drop(reader);
        assert!(
            ending.elapsed() < Duration::from_secs(20),
            "{:?}",
            ending.elapsed()
        );
    }
}
