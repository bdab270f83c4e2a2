//! Histories that are kept in Redis, as the ingest thread has them: what waits for them, and what was counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use recommender_engine::{EventKind, Interaction};
use tokio::runtime::Handle;

use super::forget::Forget;
use super::learner::Live;
use crate::clock::now_ms;
use crate::histories::{Forgotten, Histories, Kept, Ledger, Offsets, Part, Written};
use crate::privacy::{Privacy, Subject};
use crate::ratelimit::RedisError;
use crate::snapshot::Manifest;

/// Longer than a request waits for a history.
pub(super) const SETTLES_WITHIN: Duration = Duration::from_secs(1);
/// Histories that requests brought back are let go of this often: what they show must not be of long ago.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(60);
/// What is kept may outlast the retention by so much: see [`Histories::exchange`].
const OUTLASTS_MS: i64 = 2 * 24 * 3_600_000;
/// Events, or customers, of one round trip at most.
const AT_ONCE: usize = 2_000;
/// And at least, however late the answers come.
const FEWEST_AT_ONCE: usize = 20;
/// Customers forgotten in one round trip at most: a script runs for each.
const FORGOTTEN_AT_ONCE: usize = 100;

/// What was read, and waits for histories.
pub(super) enum Waiting {
    Event {
        at: (i32, i64),
        event: Event,
        live: Live,
    },
    /// An event that is not learned; others may have.
    Skip { at: (i32, i64), id: Box<str> },
    /// To be forgotten, and up to where events had been read.
    Forget(Forget, Offsets),
}

impl Waiting {
    pub(super) fn is_event(&self) -> bool {
        matches!(self, Self::Event { .. } | Self::Skip { .. })
    }
}

/// An event, as it waits.
pub(super) struct Event {
    pub customer: Box<str>,
    /// As the log names them, where that is not the customer.
    alias: Option<Box<str>>,
    product: Box<str>,
    session: Option<Box<str>>,
    kind: EventKind,
    pub time_ms: i64,
}

impl Event {
    pub(super) fn id(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.customer)
    }

    pub(super) fn interaction(&self) -> Interaction<'_> {
        Interaction {
            session: self.session.as_deref(),
            ..Interaction::new(&self.customer, &self.product, self.kind, self.time_ms)
        }
    }
}

/// Histories that are kept elsewhere, as the ingest thread sees them.
pub struct Elsewhere {
    histories: Arc<Histories>,
    runtime: Handle,
    pub(super) ledger: Ledger,
    pub(super) waiting: Vec<Waiting>,
    /// Up to where events were learned, by partition: what another replica has learned beyond is not ours yet.
    pub(super) learned: Offsets,
    /// Up to where they were read.
    pub(super) read: Offsets,
    /// Taken back here, and not yet forgotten there.
    pub(super) forgotten: Vec<Forgotten>,
    /// Events, or customers, of the next round trip at most.
    at_once: usize,
    /// When those whom requests brought back are let go of next.
    pub(super) stale: Instant,
    /// Whether what was counted as whose is what the tables say.
    pub(super) reconciled: bool,
    /// How long the log's events outlast what is raised for them, milliseconds.
    retention_ms: i64,
}

impl Elsewhere {
    /// Nothing is kept longer than the retention after it was written.
    pub fn new(histories: Arc<Histories>, runtime: Handle, retention_ms: i64) -> Self {
        Self {
            ledger: histories.ledger(),
            histories,
            runtime,
            waiting: Vec::new(),
            learned: Offsets::new(),
            read: Offsets::new(),
            forgotten: Vec::new(),
            at_once: AT_ONCE,
            stale: Instant::now() + STALE_AFTER,
            reconciled: false,
            retention_ms,
        }
    }

    /// Goes on from a snapshot.
    pub(super) fn restore(&mut self, manifest: &Manifest, written: Written, privacy: &Privacy) {
        let events = manifest.positions.topics.get(&privacy.events);
        let next = events.into_iter().flatten();
        self.learned = next.map(|(partition, at)| (*partition, at.next)).collect();
        self.read = self.learned.clone();
        self.ledger.restore(written);
    }

    /// What was counted, for a snapshot.
    pub(super) fn write(&self) -> Written {
        let oldest_ms = now_ms().saturating_sub(self.retention_ms + OUTLASTS_MS);
        self.ledger.write(oldest_ms)
    }

    /// A record of the events topic was read.
    pub(super) fn read(&mut self, partition: i32, offset: i64) {
        self.read.insert(partition, offset + 1);
        self.ledger.read(partition, offset);
    }

    /// `id` is what the log calls the customer.
    pub(super) fn wait(&mut self, event: &Interaction<'_>, id: &str, at: (i32, i64), live: Live) {
        let event = Event {
            customer: event.customer.into(),
            alias: (id != event.customer).then(|| id.into()),
            product: event.product.into(),
            session: event.session.map(Into::into),
            kind: event.kind,
            time_ms: event.time_ms,
        };
        self.waiting.push(Waiting::Event { at, event, live });
    }

    /// An event of somebody who refuses was read.
    pub(super) fn skip(&mut self, id: &str, at: (i32, i64)) {
        let id = id.into();
        self.waiting.push(Waiting::Skip { at, id });
    }

    pub(super) fn forget_soon(&mut self, forget: Forget) {
        self.waiting.push(Waiting::Forget(forget, self.read.clone()));
    }

    /// An id is nobody else's any more: what comes from now on is its own.
    pub(super) fn part_soon(&mut self, subject: Subject) {
        let read = self.read.clone();
        self.forget_soon(Forget::Parted { subject, read });
    }

    /// How many of those that wait longest are events, or are to be forgotten; so many as one round trip takes.
    pub(super) fn run(&self) -> usize {
        let is_event = self.waiting.first().is_some_and(Waiting::is_event);
        let alike = self.waiting.iter().take(self.at_once);
        alike.take_while(|waiting| waiting.is_event() == is_event).count()
    }

    /// Whether events wait, or customers to be forgotten there.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty() || !self.forgotten.is_empty()
    }

    /// Whether so many wait that no more should be read.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= AT_ONCE
    }

    /// A round trip of so many was answered, or was not: then fewer are asked for.
    pub(super) fn settled(&mut self, n: usize, answered: bool) {
        self.at_once = match answered {
            true => (self.at_once * 2).min(AT_ONCE),
            false => (n / 2).max(FEWEST_AT_ONCE),
        };
    }

    pub(super) fn exchange(
        &self,
        wanted: &[Vec<Part>],
        new: &[(Subject, Vec<Kept>)],
    ) -> Result<Vec<Vec<Kept>>, RedisError> {
        let mut found = self.runtime.block_on(self.histories.exchange(wanted, new))?;
        for history in &mut found {
            history.retain(|event| self.ledger.counts(event, &self.learned));
        }
        Ok(found)
    }

    pub(super) fn forget(&mut self) -> Result<(), RedisError> {
        while !self.forgotten.is_empty() {
            let n = self.forgotten.len().min(self.at_once).min(FORGOTTEN_AT_ONCE);
            let forgotten = self.histories.forget(&self.forgotten[..n]);
            let forgotten = self.runtime.block_on(forgotten);
            self.settled(n, forgotten.is_ok());
            forgotten?;
            self.forgotten.drain(..n);
            // A request may have asked before.
            self.stale = Instant::now() + SETTLES_WITHIN;
        }
        Ok(())
    }
}
