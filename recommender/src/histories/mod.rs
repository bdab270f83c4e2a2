//! Customers' histories in Redis (`histories: Redis`), for more customers than one pod can hold.
//!
//! What is kept of a customer is the events that were learned, each with its place in the log, in a sorted set under the
//! HMAC of the customer's id. Whoever folds them has the history that a replica would hold in memory. Every replica
//! writes what it learns, which changes nothing where another has written it; and takes only what it has learned itself
//! from what is there, so that one that is behind is not confused by one that is ahead. The counts between products
//! stay in the memory of each replica, and what of it was taken back stands in its [`Ledger`].

mod kept;
mod ledger;

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounterVec;
use recommendation_api::RecommenderConfig;
use redis::Pipeline;
use redis::aio::ConnectionManager;

pub use self::kept::Kept;
use self::kept::ordered;
pub use self::ledger::{Floors, Ledger, Offsets, Part, Written, earlier, later};
use crate::clock::now_ms;
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
/// A history is kept for so long at least, in seconds: whoever reads old events again must not end one that goes on.
const SHORTEST_LIFE: i64 = 24 * 3_600;
/// Events kept of a customer, for each product that a history may have.
const EVENTS_PER_PRODUCT: usize = 4;

/// Sets of events, as Redis answers them.
type Found = Vec<Vec<Vec<u8>>>;

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
    /// Up to where, by partition.
    pub ends: Offsets,
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
    floors: Arc<Floors>,
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
            floors: Arc::default(),
            capacity: isize::try_from(capacity).unwrap_or(isize::MAX - 1),
            recalls,
        })
    }

    /// A ledger of what is counted here, which requests go by too.
    pub fn ledger(&self) -> Ledger {
        Ledger::new(Arc::clone(&self.floors))
    }

    fn key(&self, subject: &Subject) -> String {
        format!("{}{}", self.prefix, subject.hex())
    }

    fn forgotten_key(&self, subject: &Subject) -> String {
        format!("{}{}:forgotten", self.prefix, subject.hex())
    }

    /// Seconds from now on for which a history is kept whose newest event this is.
    fn lives(&self, newest_ms: i64) -> i64 {
        let age = now_ms().saturating_sub(newest_ms) / 1_000;
        let left = self.lifetime.saturating_sub(age);
        left.clamp(SHORTEST_LIFE.min(self.lifetime), self.lifetime)
    }

    /// What is kept of each, what was forgotten lately too, and keeps what is new, in one round trip. What is new may be
    /// among what is found.
    pub async fn exchange(
        &self,
        wanted: &[Vec<Part>],
        new: &[(Subject, Vec<Kept>)],
    ) -> Result<Vec<Vec<Kept>>, RedisError> {
        let mut pipe = redis::pipe();
        for part in wanted.iter().flatten() {
            read(&mut pipe, self.key(&part.subject));
            read(&mut pipe, self.forgotten_key(&part.subject));
        }
        for (subject, events) in new {
            let Some(newest_ms) = events.iter().map(|event| event.time_ms).max() else {
                continue;
            };
            let key = self.key(subject);
            let add = pipe.cmd("ZADD").arg(&key);
            for event in events {
                add.arg(event.offset).arg(event.to_bytes());
            }
            add.ignore();
            // The oldest go.
            let trim = pipe.cmd("ZREMRANGEBYRANK").arg(&key).arg(0);
            trim.arg(-(self.capacity + 1)).ignore();
            pipe.cmd("EXPIRE").arg(&key).arg(self.lives(newest_ms)).ignore();
        }
        if pipe.is_empty() {
            return Ok(vec![Vec::new(); wanted.len()]);
        }
        let mut connection = self.learning.clone();
        let call = pipe.query_async::<Found>(&mut connection);
        let mut found = answered(LEARN_WITHIN, call).await?.into_iter();
        let mut next = |part: &Part| parsed(found.by_ref().take(2), part);
        let histories: Vec<Vec<Kept>> = wanted
            .iter()
            .map(|parts| ordered(parts.iter().flat_map(&mut next).collect()))
            .collect();
        for history in &histories {
            self.count("learning", if history.is_empty() { "none" } else { "found" });
        }
        Ok(histories)
    }

    /// What is kept of a customer under these ids, for a request: one attempt. `None` where Redis does not answer.
    pub async fn of(&self, ids: &[Subject]) -> Option<Vec<Kept>> {
        let Some(permit) = self.breaker.admit() else {
            self.count("request", "failed");
            return None;
        };
        let mut pipe = redis::pipe();
        for id in ids {
            read(&mut pipe, self.key(id));
        }
        let mut connection = self.asking.clone();
        let call = pipe.query_async::<Found>(&mut connection);
        let Ok(found) = answered(ASK_WITHIN, call).await else {
            permit.failed();
            self.count("request", "failed");
            return None;
        };
        permit.succeeded();
        // What was taken back here may stand there still, for those who are about to take it back too.
        let own =
            |(id, events): (&Subject, Vec<Vec<u8>>)| parsed(std::iter::once(events), &self.floors.own(*id));
        let found = ordered(ids.iter().zip(found).flat_map(own).collect());
        self.count("request", if found.is_empty() { "none" } else { "found" });
        Some(found)
    }

    /// Forgets customers in one round trip. What was kept goes after [`grace`], and is found until then only by who learns.
    pub async fn forget(&self, forgotten: &[Forgotten]) -> Result<(), RedisError> {
        let mut connection = self.learning.clone();
        let mut pipe = redis::pipe();
        for Forgotten { subject, ends } in forgotten {
            let call = pipe.cmd("EVAL").arg(include_str!("forget.lua")).arg(2);
            call.arg(self.key(subject)).arg(self.forgotten_key(subject));
            call.arg(self.grace.as_secs());
            for (partition, end) in ends {
                call.arg(partition).arg(end);
            }
            call.ignore();
        }
        answered(LEARN_WITHIN, pipe.query_async::<()>(&mut connection)).await
    }

    fn count(&self, by: &str, result: &str) {
        self.recalls.with_label_values(&[by, result]).inc();
    }
}

fn read(pipe: &mut Pipeline, key: String) {
    pipe.cmd("ZRANGE").arg(key).arg(0).arg(-1);
}

/// The events in these sets that belong to a part of a history.
fn parsed(sets: impl Iterator<Item = Vec<Vec<u8>>>, part: &Part) -> Vec<Kept> {
    sets.flatten()
        .filter_map(|bytes| Kept::from_bytes(&bytes))
        .filter(|event| part.holds(event))
        .collect()
}
