//! Learning where histories are kept in Redis: events wait until those of their customers who are not at hand have been
//! brought back, many in one round trip, and with it they are kept themselves. What is to be forgotten waits among them, so
//! that it takes back what was read before it, and nothing else.
//!
//! While Redis is away nothing is learned and nothing is forgotten; the log waits. What was read before is not lost:
//! it waits here, and no snapshot is taken meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use recommender_engine::{Applied, EventKind, Interaction, Writer, owner};
use tokio::runtime::Handle;

use super::forget::Forget;
use super::learner::{Learner, Live};
use crate::clock::now_ms;
use crate::histories::{Forgotten, Histories, Kept, Ledger, Offsets, Part, Written, earlier, later};
use crate::privacy::{Privacy, Subject};
use crate::ratelimit::RedisError;
use crate::snapshot::Manifest;

/// Longer than a request waits for a history.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);
/// Histories that requests brought back are let go of this often: what they show must not be of long ago.
const STALE_AFTER: Duration = Duration::from_secs(60);
/// What is kept may outlast the retention by so much: see [`Histories::exchange`].
const OUTLASTS_MS: i64 = 2 * 24 * 3_600_000;
/// Events, or customers, of one round trip at most.
const AT_ONCE: usize = 2_000;
/// And at least, however late the answers come.
const FEWEST_AT_ONCE: usize = 20;
/// Customers forgotten in one round trip at most: a script runs for each.
const FORGOTTEN_AT_ONCE: usize = 100;

/// What was read, and waits for histories.
enum Waiting {
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
    fn is_event(&self) -> bool {
        matches!(self, Self::Event { .. } | Self::Skip { .. })
    }
}

struct Event {
    customer: Box<str>,
    /// As the log names them, where that is not the customer.
    alias: Option<Box<str>>,
    product: Box<str>,
    session: Option<Box<str>>,
    kind: EventKind,
    time_ms: i64,
}

impl Event {
    fn id(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.customer)
    }

    fn interaction(&self) -> Interaction<'_> {
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
    waiting: Vec<Waiting>,
    /// Up to where events were learned, by partition: what another replica has learned beyond is not ours yet.
    learned: Offsets,
    /// Up to where they were read.
    pub(super) read: Offsets,
    /// Taken back here, and not yet forgotten there.
    forgotten: Vec<Forgotten>,
    /// Events, or customers, of the next round trip at most.
    at_once: usize,
    /// When those whom requests brought back are let go of next.
    stale: Instant,
    /// Whether what was counted as whose is what the tables say.
    reconciled: bool,
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

    /// How many of those that wait longest are events, or are to be forgotten; so many as one round trip takes.
    fn run(&self) -> usize {
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
    fn settled(&mut self, n: usize, answered: bool) {
        self.at_once = match answered {
            true => (self.at_once * 2).min(AT_ONCE),
            false => (n / 2).max(FEWEST_AT_ONCE),
        };
    }

    fn exchange(
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

    fn forget(&mut self) -> Result<(), RedisError> {
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

    /// Brings back those of the first events' customers who are not at hand, and keeps the events.
    fn recall_for(&self, events: usize, writer: &mut Writer, privacy: &Privacy) -> Result<(), RedisError> {
        let now = now_ms();
        let reader = writer.reader();
        let mut customers: HashSet<&str> = HashSet::new();
        let mut ids: HashMap<&str, usize> = HashMap::new();
        let mut new: Vec<(Subject, Vec<Kept>)> = Vec::new();
        let (mut wanted, mut missing) = (Vec::new(), Vec::new());
        for waiting in &self.waiting[..events] {
            let Waiting::Event {
                at: (partition, offset),
                event,
                ..
            } = waiting
            else {
                continue;
            };
            if customers.insert(&event.customer) && !reader.knows(&event.customer) {
                wanted.push(self.ledger.history(privacy.subject(&event.customer)));
                missing.push(&*event.customer);
            }
            let at = *ids.entry(event.id()).or_insert_with(|| {
                new.push((privacy.subject(event.id()), Vec::new()));
                new.len() - 1
            });
            if let Some(past) = writer.past(&event.interaction(), now.max(event.time_ms)) {
                new[at].1.push(Kept {
                    partition: *partition,
                    offset: *offset,
                    kind: past.kind,
                    units: past.units,
                    time_ms: past.time_ms,
                    product: past.product.into(),
                });
            }
        }
        self.ledger.renew(new.iter().map(|(subject, _)| *subject), now);
        let found = self.exchange(&wanted, &new)?;
        for (customer, history) in missing.into_iter().zip(&found) {
            writer.recall(customer, history.iter().map(Kept::past));
        }
        Ok(())
    }

    /// Brings back those who are first to be forgotten or merged, because what was counted of them has to be taken back.
    /// Customers who are known by their HMAC alone are called by it in the engine; which of them came back is returned.
    fn recall_forgotten(
        &self,
        n: usize,
        writer: &mut Writer,
        privacy: &Privacy,
    ) -> Result<HashSet<Subject>, RedisError> {
        if self.learned.is_empty() {
            return Ok(HashSet::new()); // nothing was counted
        }
        let reader = writer.reader();
        let (mut missing, mut wanted) = (Vec::new(), Vec::new());
        let mut asked = HashSet::new();
        let mut want = |name: String, subject: Subject| {
            if !reader.knows(&name) && asked.insert(subject) {
                wanted.push(self.ledger.history(subject));
                missing.push((name, subject));
            }
        };
        let all = self.waiting[..n].iter().filter_map(|waiting| match waiting {
            Waiting::Forget(forget, _) => Some(forget),
            Waiting::Event { .. } | Waiting::Skip { .. } => None,
        });
        // By their names first: who came back twice would be taken back twice.
        for one in all.clone() {
            match one {
                Forget::Refused(customer) => want(customer.clone(), privacy.subject(customer)),
                Forget::Alias { from, whose } => {
                    want(from.clone(), privacy.subject(from));
                    want(whose.clone(), privacy.subject(whose));
                }
                Forget::Erased { .. } | Forget::Parted { .. } => {}
            }
        }
        for one in all {
            if let Forget::Erased { subject, owner, .. } = one {
                let known = writer.names_of(*owner).into_iter();
                let mut known = known.filter(|name| reader.knows(name));
                if !known.any(|name| privacy.subject(&name) == *subject) {
                    want(subject.hex(), *subject);
                }
            }
        }
        let found = self.exchange(&wanted, &[])?;
        let mut back = HashSet::new();
        for ((name, subject), history) in missing.into_iter().zip(&found) {
            writer.recall(&name, history.iter().map(Kept::past));
            if !history.is_empty() {
                back.insert(subject);
            }
        }
        Ok(back)
    }
}

impl Learner {
    /// Learns the events that wait for histories, and forgets. After an error they wait on.
    pub fn learn_waiting(&mut self) -> Result<(), RedisError> {
        loop {
            let Some(elsewhere) = &mut self.elsewhere else {
                return Ok(());
            };
            if !elsewhere.forgotten.is_empty() {
                elsewhere.forget()?;
                self.writer.drop_recalled();
            }
            if Instant::now() >= elsewhere.stale {
                elsewhere.stale = Instant::now() + STALE_AFTER;
                self.writer.drop_recalled();
            }
            if !self.has_tables {
                return Ok(());
            }
            let n = elsewhere.run();
            if n == 0 {
                elsewhere.learned.clone_from(&elsewhere.read);
                if std::mem::replace(&mut elsewhere.reconciled, true) {
                    return Ok(());
                }
                self.reconcile();
                continue;
            }
            if elsewhere.waiting[0].is_event() {
                self.learn_run(n)?;
            } else {
                self.forget_run(n)?;
            }
            self.writer.let_go();
        }
    }

    /// Learns the events that wait longest.
    fn learn_run(&mut self, n: usize) -> Result<(), RedisError> {
        let Some(elsewhere) = &mut self.elsewhere else {
            return Ok(());
        };
        let recalled = elsewhere.recall_for(n, &mut self.writer, &self.lookups.privacy);
        elsewhere.settled(n, recalled.is_ok());
        recalled?;
        let now = now_ms();
        let mut excluded = Vec::new();
        let mut learned = Offsets::new();
        for waiting in elsewhere.waiting.drain(..n).collect::<Vec<_>>() {
            let (at, skipped) = match waiting {
                Waiting::Event { at, event, live } => {
                    let applied = self.learn_live(&event.interaction(), live, now);
                    if applied == Applied::Damped && self.writer.excludes(owner(&event.customer)) {
                        excluded.push(self.lookups.privacy.subject(&event.customer));
                    }
                    let skipped = applied == Applied::Excluded;
                    (at, skipped.then(|| self.lookups.privacy.subject(event.id())))
                }
                Waiting::Skip { at, id } => (at, Some(self.lookups.privacy.subject(&id))),
                Waiting::Forget(..) => continue,
            };
            learned.insert(at.0, at.1 + 1);
            if let (Some(subject), Some(elsewhere)) = (skipped, &mut self.elsewhere) {
                elsewhere.ledger.skip(subject, at, now);
            }
        }
        if let Some(elsewhere) = &mut self.elsewhere {
            later(&mut elsewhere.learned, &learned);
            // What was counted of who is too fast has been taken back; others of these events were kept, and not learned.
            for subject in excluded {
                elsewhere.ledger.take_back(subject, &elsewhere.learned, now);
            }
        }
        Ok(())
    }

    /// Forgets those who wait longest to be.
    fn forget_run(&mut self, n: usize) -> Result<(), RedisError> {
        let Some(elsewhere) = &mut self.elsewhere else {
            return Ok(());
        };
        let recalled = elsewhere.recall_forgotten(n, &mut self.writer, &self.lookups.privacy);
        elsewhere.settled(n, recalled.is_ok());
        let recalled = recalled?;
        let forget = elsewhere.waiting.drain(..n).filter_map(|waiting| match waiting {
            Waiting::Forget(forget, read) => Some((forget, read)),
            Waiting::Event { .. } | Waiting::Skip { .. } => None,
        });
        let (forget, read): (Vec<Forget>, Vec<Offsets>) = forget.unzip();
        // Events were read and not learned, too.
        for read in &read {
            later(&mut elsewhere.learned, read);
        }
        self.forget(forget.into_iter(), &recalled);
        // Though Redis may not have heard of it for a while, and a request may have asked before.
        self.writer.drop_recalled();
        if let Some(elsewhere) = &mut self.elsewhere {
            elsewhere.stale = Instant::now() + SETTLES_WITHIN;
            let hides = |waiting: &Waiting| {
                matches!(
                    waiting,
                    Waiting::Forget(Forget::Erased { .. } | Forget::Refused(_), _)
                )
            };
            if !elsewhere.waiting.iter().any(hides) {
                self.writer.show_hidden();
            }
        }
        Ok(())
    }

    /// What was counted of a customer, and of the visits that were theirs, has been taken back; and before `ends` nothing
    /// of it will be counted. What is kept of it is forgotten too, if so wanted.
    pub(super) fn forget_elsewhere(&mut self, subject: Subject, ends: Option<&Offsets>, there: bool) {
        let Some(elsewhere) = &mut self.elsewhere else {
            return;
        };
        let mut until = elsewhere.learned.clone();
        if let Some(ends) = ends {
            later(&mut until, ends);
        }
        let all = elsewhere.ledger.take_back(subject, &until, now_ms());
        if there {
            // What came after an erasure may be counted by others, and is left to them.
            let ends = ends.unwrap_or(&elsewhere.learned);
            elsewhere
                .forgotten
                .extend(all.into_iter().map(|(subject, until)| Forgotten {
                    subject,
                    ends: earlier(ends, &until),
                }));
        }
    }
}
