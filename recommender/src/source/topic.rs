//! Reads every partition of one Kafka topic from its start, or from where a snapshot ends. A thread of its
//! own asks the cluster about partitions and end offsets; the reading side only polls.

mod lag;
mod recognise;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use recommendation_api::EventType;
use tokio_util::sync::CancellationToken;

use super::ahead::{Ahead, Taken};
use super::ask::{Known, ask};
use super::positions::{Partitions, Position};
use super::{Record, SourceError};
use crate::log::context::Quiet;
use crate::traces::TRACEPARENT;

/// Records handed over by one poll at most, so that the model is published in between.
const BATCH: usize = 5_000;
/// How long the first readiness waits for a partition that has no leader.
const LEADERLESS_GRACE: Duration = Duration::from_secs(20);

/// Where reading stands in one partition.
#[derive(Default)]
struct Place {
    position: Position,
    /// Everything that stands in the partition was handed over, by the client's own account.
    at_end: bool,
    /// How far the client had read when it last said so; see [`Quiet::ends_reached`].
    end_reached: i64,
    /// The end when it was first known; catching up means to get there.
    first_end: Option<i64>,
    caught_up: bool,
    behind_since: Option<Instant>,
}

impl Place {
    /// Up to where nothing is left to hand over.
    fn reached(&self) -> i64 {
        if self.at_end {
            self.position.next.max(self.end_reached)
        } else {
            self.position.next
        }
    }
}

/// A reader of one topic.
pub(super) struct TopicReader {
    topic: String,
    config: ClientConfig,
    consumer: Arc<BaseConsumer<Quiet>>,
    known: Arc<Mutex<Known>>,
    places: HashMap<i32, Place>,
    /// How many of them the client reads.
    assigned: usize,
    /// Reads ahead of what is learned, while there is much of it.
    ahead: Option<Ahead>,
    /// Whether records are events that are parsed while reading ahead, and the type of those that carry none.
    events: Option<Option<EventType>>,
    publish_offsets: bool,
    traced: bool,
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
        let mut reader = Self::start_at(config, topic, group, None)?;
        reader.publish_offsets = publish_offsets;
        Ok(reader)
    }

    /// The same, from the first record that is not older than `since_ms`, unless it is resumed elsewhere; offsets are
    /// not published.
    pub fn start_at(
        config: &ClientConfig,
        topic: &str,
        group: &str,
        since_ms: Option<i64>,
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
            .set("statistics.interval.ms", "3000")
            // An answer as soon as there is one byte; the wait only bounds an idle fetch, so it may be long.
            .set("fetch.min.bytes", "1")
            .set("fetch.wait.max.ms", "1000")
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
                .spawn(move || ask(&consumer, &topic, since_ms, &known, &stop))
                .map_err(|_| SourceError::Thread("kafka-ask"))?
        };
        Ok(Self {
            topic: topic.to_owned(),
            config,
            consumer,
            known,
            places: HashMap::new(),
            assigned: 0,
            ahead: None,
            events: None,
            publish_offsets: false,
            traced: false,
            published: Instant::now(),
            stop,
            asking: Some(asking),
        })
    }

    /// Whether records are handed over with the trace that they belong to: looking for it costs each of them.
    pub fn traced(self, traced: bool) -> Self {
        Self { traced, ..self }
    }

    /// Its records are events, `default_type` that of records that carry none: until everything that stood in the
    /// topic was read they are parsed ahead, on a thread of its own.
    pub fn of_events(self, default_type: Option<EventType>) -> Self {
        Self {
            events: Some(default_type),
            ..self
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on from where a snapshot ends; to be called before the first poll.
    pub fn resume(&mut self, from: &Partitions) {
        for (&partition, &position) in from {
            self.places.entry(partition).or_default().position = position;
        }
    }

    /// Where reading stands, and the id of the cluster.
    pub fn positions(&self) -> (Option<String>, Partitions) {
        let all = self
            .places
            .iter()
            .map(|(partition, place)| (*partition, place.position));
        (self.known().cluster.clone(), all.collect())
    }

    /// Notes partitions that have appeared.
    fn note_new(&mut self) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.since.is_none() {
            return;
        }
        for partition in known.partitions() {
            let place = self.places.entry(partition).or_default();
            if place.first_end.is_none()
                && let Some(&(_, end)) = known.ends.get(&partition)
            {
                place.first_end = Some(end);
                place.caught_up |= place.position.next >= end;
            }
        }
        if known
            .since
            .is_some_and(|since| since.elapsed() > LEADERLESS_GRACE)
        {
            for partition in &known.leaderless {
                if let Some(place) = self.places.get_mut(partition) {
                    place.caught_up = true;
                }
            }
        }
    }

    /// Assigns all partitions, those read already from where they are: nobody may be ahead of that.
    fn assign(&mut self) -> Result<(), SourceError> {
        let mut list = TopicPartitionList::new();
        let begins = self.known().begins.clone();
        for (&partition, place) in &self.places {
            let from = match place.position.next {
                0 => begins
                    .get(&partition)
                    .map_or(Offset::Beginning, |begin| Offset::Offset(*begin)),
                next => Offset::Offset(next),
            };
            list.add_partition_offset(&self.topic, partition, from)?;
        }
        self.consumer.assign(&list)?;
        self.assigned = self.places.len();
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
        self.note_new();
        if self.places.is_empty() {
            std::thread::sleep(wait.min(Duration::from_millis(20)));
            return Ok(0);
        }
        let grown = self.assigned != self.places.len();
        let taken = match self.ahead.take() {
            Some(ahead) if grown || self.caught_up() => ahead.finish(&mut self.taking(take))?,
            Some(ahead) => {
                let taken = ahead.next(wait, &mut self.taking(take));
                self.ahead = Some(ahead);
                taken?
            }
            None if grown => 0,
            None => self.poll_client(wait, take)?,
        };
        if grown {
            self.assign()?;
            if let Some(default_type) = self.events.clone().filter(|_| !self.caught_up()) {
                self.ahead = Some(Ahead::start(
                    Arc::clone(&self.consumer),
                    default_type,
                    self.traced,
                )?);
            }
        }
        self.watch_lag();
        self.publish();
        Ok(taken)
    }

    /// Hands over what was read ahead, and notes where that leaves the partitions.
    fn taking<'s>(&'s mut self, take: &'s mut dyn FnMut(Record<'_>)) -> impl FnMut(Taken<'_>) + 's {
        |taken| match taken {
            Taken::Record(record, position) => {
                let partition = record.partition;
                take(record);
                self.stands(partition, position);
            }
            Taken::End(partition) => self.ended(partition),
        }
    }

    /// Notes where reading stands in a partition.
    fn stands(&mut self, partition: i32, position: Position) {
        if let Some(place) = self.places.get_mut(&partition) {
            place.position = position;
            place.at_end = false;
            place.caught_up |= place.first_end.is_some_and(|end| place.position.next >= end);
        }
    }

    fn ended(&mut self, partition: i32) {
        if let Some(place) = self.places.get_mut(&partition) {
            place.at_end = true;
            place.caught_up = true;
        }
    }

    fn poll_client(
        &mut self,
        wait: Duration,
        take: &mut dyn FnMut(Record<'_>),
    ) -> Result<usize, SourceError> {
        // Not a field of what is changed meanwhile.
        let consumer = Arc::clone(&self.consumer);
        let mut taken = 0;
        while taken < BATCH {
            let wait = if taken == 0 { wait } else { Duration::ZERO };
            let message = match consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => message,
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.ended(partition);
                    continue;
                }
                Some(Err(e)) => return Err(e.into()),
            };
            take(Record {
                partition: message.partition(),
                offset: message.offset(),
                time_ms: message.timestamp().to_millis().unwrap_or(0),
                key: message.key(),
                value: message.payload(),
                event: None,
                traceparent: self.traced.then(|| traceparent(&message)).flatten(),
            });
            self.stands(message.partition(), position(&message));
            taken += 1;
        }
        Ok(taken)
    }

    /// Ends and joins the asking thread.
    pub fn close(&mut self) {
        self.stop.cancel();
        if let Some(ahead) = self.ahead.take() {
            // What it has read is read again by whoever goes on.
            let _ = ahead.finish(&mut |_| {});
        }
        if let Some(asking) = self.asking.take() {
            let _ = asking.join();
        }
    }
}

pub(super) fn traceparent<'m>(message: &'m BorrowedMessage<'_>) -> Option<&'m str> {
    let header = message
        .headers()?
        .iter()
        .find(|header| header.key == TRACEPARENT)?;
    std::str::from_utf8(header.value?).ok()
}

/// Where reading stands after a record.
pub(super) fn position(message: &BorrowedMessage<'_>) -> Position {
    let bytes = message
        .payload()
        .map_or(-1, |value| i64::try_from(value.len()).unwrap_or(i64::MAX));
    Position {
        next: message.offset() + 1,
        last: message.offset(),
        last_ms: message.timestamp().to_millis().unwrap_or(0),
        last_bytes: bytes,
    }
}

#[cfg(test)]
mod tests;
