//! Customers' histories in Redis (`histories: Redis`), for more customers than one pod can hold.
//!
//! What is kept of a customer is the events that were learned, each with its place in the log, in a sorted set under the
//! HMAC of the customer's id. Whoever folds them has the history that a replica would hold in memory. Every replica
//! writes every event, which changes nothing where another has written it; and takes only what it has learned itself
//! from what is there, so that one that is behind is not confused by one that is ahead. The counts between products
//! stay in the memory of each replica.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounterVec;
use recommendation_api::RecommenderConfig;
use recommender_engine::{EventKind, PastEvent};
use redis::Pipeline;
use redis::aio::ConnectionManager;

use crate::privacy::Subject;
use crate::privacy::places::lasts;
use crate::ratelimit::{RedisError, answered};
use crate::resilience::breaker::Breaker;

/// Longest a request waits; without an answer it is told what is popular.
const ASK_WITHIN: Duration = Duration::from_millis(20);
/// Longest learning waits for a batch before it looks around and tries again.
pub const LEARN_WITHIN: Duration = Duration::from_secs(2);
/// How long what was forgotten is left at least for replicas that are about to forget it too: they take back what they
/// counted of it.
const GRACE: Duration = Duration::from_secs(60);
/// Customers forgotten in one round trip.
const FORGOTTEN_AT_ONCE: usize = 100;
/// Events kept of a customer, for each product that a history may have.
const EVENTS_PER_PRODUCT: usize = 4;
/// Bytes of an event before its product.
const HEAD: usize = 25;

/// An event as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where it stands in the events topic.
    pub partition: i32,
    /// See `partition`.
    pub offset: i64,
    /// What was done.
    pub kind: EventKind,
    /// See [`PastEvent::units`].
    pub units: i32,
    /// Milliseconds since 1970.
    pub time_ms: i64,
    /// The product.
    pub product: Box<str>,
}

const KINDS: [EventKind; 7] = [
    EventKind::View,
    EventKind::Click,
    EventKind::Cart,
    EventKind::Purchase,
    EventKind::Return,
    EventKind::Email,
    EventKind::Other,
];

impl Kept {
    /// As the engine takes it.
    pub fn past(&self) -> PastEvent<'_> {
        PastEvent {
            product: &self.product,
            kind: self.kind,
            units: self.units,
            time_ms: self.time_ms,
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let kind = KINDS
            .iter()
            .position(|kind| *kind == self.kind)
            .unwrap_or_default();
        let mut bytes = Vec::with_capacity(HEAD + self.product.len());
        bytes.push(kind as u8);
        bytes.extend(self.partition.to_le_bytes());
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend(self.units.to_le_bytes());
        bytes.extend(self.time_ms.to_le_bytes());
        bytes.extend(self.product.as_bytes());
        bytes
    }

    /// `None` for bytes of something else.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        fn next<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
            let (head, tail) = rest.split_first_chunk::<N>()?;
            *rest = tail;
            Some(*head)
        }
        let mut rest = bytes;
        let [kind] = next(&mut rest)?;
        Some(Self {
            kind: *KINDS.get(usize::from(kind))?,
            partition: i32::from_le_bytes(next(&mut rest)?),
            offset: i64::from_le_bytes(next(&mut rest)?),
            units: i32::from_le_bytes(next(&mut rest)?),
            time_ms: i64::from_le_bytes(next(&mut rest)?),
            product: std::str::from_utf8(rest).ok()?.into(),
        })
    }
}

/// How long what was forgotten is left. A replica that starts from a snapshot of before has to take back what it counted
/// too: as long as there may be one.
pub fn grace(config: &RecommenderConfig) -> Duration {
    let snapshots = config.snapshots.as_ref();
    let lasts = snapshots.map_or(Duration::ZERO, |snapshots| lasts(snapshots.interval.0));
    lasts.max(GRACE)
}

/// What is to be forgotten there.
#[derive(Clone, Debug)]
pub struct Forgotten {
    /// Whose.
    pub subject: Subject,
    /// Up to where, by partition; everything without it.
    pub ends: Option<BTreeMap<i32, i64>>,
}

/// What is wanted of whom.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Everybody whose events make one history: a customer and the visits that turned out to be theirs.
    pub subjects: Vec<Subject>,
    /// Whether what was just forgotten is wanted too.
    pub forgotten: bool,
}

/// The histories of one pipeline.
pub struct Histories {
    /// One for each side: what many events need must not stand in a request's way.
    learning: ConnectionManager,
    asking: ConnectionManager,
    prefix: String,
    breaker: Breaker,
    capacity: isize,
    /// Seconds after a customer's last event for which a history is kept.
    lifetime: i64,
    grace: Duration,
    recalls: IntCounterVec,
}

impl Histories {
    /// `products` is how many a history may have; `recalls` counts who asked and what came of it.
    pub fn new(
        [learning, asking]: [ConnectionManager; 2],
        config: &RecommenderConfig,
        products: usize,
        breaker: Breaker,
        recalls: IntCounterVec,
    ) -> Arc<Self> {
        let capacity = products.saturating_mul(EVENTS_PER_PRODUCT);
        Arc::new(Self {
            learning,
            asking,
            prefix: format!("recommender:{}:history:", config.pipeline),
            breaker,
            lifetime: (config.privacy.retention.as_millis() / 1_000).max(1),
            grace: grace(config),
            capacity: isize::try_from(capacity).unwrap_or(isize::MAX - 1),
            recalls,
        })
    }

    fn key(&self, subject: &Subject) -> String {
        format!("{}{}", self.prefix, subject.hex())
    }

    fn forgotten_key(&self, subject: &Subject) -> String {
        format!("{}{}:forgotten", self.prefix, subject.hex())
    }

    fn read(&self, pipe: &mut Pipeline, wanted: &Wanted) -> usize {
        let mut reads = 0;
        let mut read = |key: String| {
            pipe.cmd("ZRANGE").arg(key).arg(0).arg(-1);
            reads += 1;
        };
        for subject in &wanted.subjects {
            read(self.key(subject));
            if wanted.forgotten {
                read(self.forgotten_key(subject));
            }
        }
        reads
    }

    /// What is kept of each, and keeps what is new, in one round trip. What is new may be among what is found.
    pub async fn exchange(
        &self,
        wanted: &[Wanted],
        new: &[(Subject, Vec<Kept>)],
    ) -> Result<Vec<Vec<Kept>>, RedisError> {
        let mut pipe = redis::pipe();
        let reads: Vec<usize> = wanted.iter().map(|one| self.read(&mut pipe, one)).collect();
        for (subject, events) in new.iter().filter(|(_, events)| !events.is_empty()) {
            let key = self.key(subject);
            let add = pipe.cmd("ZADD").arg(&key);
            for event in events {
                add.arg(event.offset).arg(event.to_bytes());
            }
            add.ignore();
            // The oldest go.
            let trim = pipe.cmd("ZREMRANGEBYRANK").arg(&key).arg(0);
            trim.arg(-(self.capacity + 1)).ignore();
            pipe.cmd("EXPIRE").arg(&key).arg(self.lifetime).ignore();
        }
        if pipe.is_empty() {
            return Ok(vec![Vec::new(); wanted.len()]);
        }
        let mut connection = self.learning.clone();
        let call = pipe.query_async::<Vec<Vec<Vec<u8>>>>(&mut connection);
        let mut found = answered(LEARN_WITHIN, call).await?.into_iter();
        let histories: Vec<Vec<Kept>> = reads
            .into_iter()
            .map(|reads| ordered(found.by_ref().take(reads)))
            .collect();
        for history in &histories {
            self.count("learning", if history.is_empty() { "none" } else { "found" });
        }
        Ok(histories)
    }

    /// What is kept of a customer, for a request: one attempt. `None` where Redis does not answer.
    pub async fn of(&self, wanted: &Wanted) -> Option<Vec<Kept>> {
        let Some(permit) = self.breaker.admit() else {
            self.count("request", "failed");
            return None;
        };
        let mut pipe = redis::pipe();
        self.read(&mut pipe, wanted);
        let mut connection = self.asking.clone();
        let call = pipe.query_async::<Vec<Vec<Vec<u8>>>>(&mut connection);
        let Ok(found) = answered(ASK_WITHIN, call).await else {
            permit.failed();
            self.count("request", "failed");
            return None;
        };
        permit.succeeded();
        let found = ordered(found.into_iter());
        self.count("request", if found.is_empty() { "none" } else { "found" });
        Some(found)
    }

    /// Forgets customers. What was kept goes after [`grace`], and is found until then only by who asks for what was
    /// forgotten.
    pub async fn forget(&self, forgotten: &[Forgotten]) -> Result<(), RedisError> {
        let mut connection = self.learning.clone();
        for some in forgotten.chunks(FORGOTTEN_AT_ONCE) {
            let mut pipe = redis::pipe();
            for Forgotten { subject, ends } in some {
                let call = pipe.cmd("EVAL").arg(include_str!("histories.lua")).arg(2);
                call.arg(self.key(subject)).arg(self.forgotten_key(subject));
                call.arg(self.grace.as_secs());
                call.arg(if ends.is_some() { "before" } else { "all" });
                for (partition, end) in ends.iter().flatten() {
                    call.arg(partition).arg(end);
                }
                call.ignore();
            }
            answered(LEARN_WITHIN, pipe.query_async::<()>(&mut connection)).await?;
        }
        Ok(())
    }

    fn count(&self, by: &str, result: &str) {
        self.recalls.with_label_values(&[by, result]).inc();
    }
}

/// Events in the order of the log, each once: one that belongs to a visit may stand with its customer too.
fn ordered(sets: impl Iterator<Item = Vec<Vec<u8>>>) -> Vec<Kept> {
    let mut events: Vec<Kept> = sets
        .flatten()
        .filter_map(|bytes| Kept::from_bytes(&bytes))
        .collect();
    let place = |event: &Kept| (event.partition, event.offset);
    events.sort_by_key(place);
    events.dedup_by_key(|event| place(event));
    events
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(partition: i32, offset: i64, product: &str) -> Kept {
        Kept {
            partition,
            offset,
            kind: EventKind::Return,
            units: -320,
            time_ms: 1_700_000_000_000,
            product: product.into(),
        }
    }

    #[test]
    fn events_of_several_sets_are_in_the_order_of_the_log_each_once() {
        let sets = [
            vec![kept(1, 5, "cup"), kept(0, 9, "mug")],
            vec![kept(0, 9, "mug"), kept(0, 2, "pot")],
        ];
        let sets = sets.map(|set| set.iter().map(Kept::to_bytes).collect::<Vec<_>>());
        let expected = [kept(0, 2, "pot"), kept(0, 9, "mug"), kept(1, 5, "cup")];
        assert_eq!(ordered(sets.into_iter()), expected);
    }

    proptest! {
        #[test]
        fn what_is_kept_is_read_back_and_any_bytes_without_a_panic(
            at in any::<(i32, i64, i32, i64)>(), kind in 0usize..7, product in ".{0,20}",
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let (partition, offset, units, time_ms) = at;
            let event = Kept { partition, offset, kind: KINDS[kind], units, time_ms, product: product.into() };
            prop_assert_eq!(Kept::from_bytes(&event.to_bytes()), Some(event));
            let _ = Kept::from_bytes(&bytes);
        }
    }
}
