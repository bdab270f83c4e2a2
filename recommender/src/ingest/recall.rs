//! Learning where histories are kept in Redis: events wait until those of their customers who are not at hand have been
//! brought back, many in one round trip, and with it they are kept themselves.
//!
//! While Redis is away nothing is learned and nothing is forgotten; the log waits. What was read before is not lost:
//! it waits here, and no snapshot is taken meanwhile.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use recommender_engine::{Applied, EventKind, Interaction, owner};
use tokio::runtime::Handle;

use super::forget::Forget;
use super::learner::{Learner, Live};
use crate::clock::now_ms;
use crate::histories::{Forgotten, Histories, Kept, Wanted};
use crate::privacy::{Privacy, Subject};
use crate::ratelimit::RedisError;
use crate::snapshot::Manifest;
use crate::source::positions::Partitions;

/// Longer than a request waits for a history.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);
/// Events of one round trip at most.
const AT_ONCE: usize = 2_000;

/// An event whose customer may have to be brought back first.
struct Waiting {
    partition: i32,
    offset: i64,
    event: Event,
    live: Live,
}

struct Event {
    customer: Box<str>,
    product: Box<str>,
    session: Option<Box<str>>,
    kind: EventKind,
    time_ms: i64,
}

impl Event {
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
    waiting: Vec<Waiting>,
    /// Up to where events were learned, by partition: what another replica has learned beyond is not ours yet.
    learned: BTreeMap<i32, i64>,
    /// Up to where they were read.
    read: BTreeMap<i32, i64>,
    /// From where on: what was removed from the log before was never counted here.
    begun: BTreeMap<i32, i64>,
    /// Whose events are counted as whose, besides their own.
    aliases: HashMap<Subject, Vec<Subject>>,
    /// All of those.
    merged: HashSet<Subject>,
    profiles_topic: String,
    /// Up to where it was applied to the snapshot that the state began with.
    profiles: Partitions,
    /// Forgotten here, and not yet there.
    forgotten: Vec<Forgotten>,
    /// When no request is left that asked before they were forgotten there too.
    settled: Option<Instant>,
}

impl Elsewhere {
    /// `profiles` is the topic of aliases.
    pub fn new(histories: Arc<Histories>, runtime: Handle, profiles: &str) -> Self {
        Self {
            histories,
            runtime,
            profiles_topic: profiles.to_owned(),
            waiting: Vec::new(),
            learned: BTreeMap::new(),
            read: BTreeMap::new(),
            begun: BTreeMap::new(),
            aliases: HashMap::new(),
            merged: HashSet::new(),
            profiles: Partitions::new(),
            forgotten: Vec::new(),
            settled: None,
        }
    }

    /// Goes on from a snapshot.
    pub(super) fn restore(&mut self, manifest: &Manifest, privacy: &Privacy) {
        let positions = &manifest.positions;
        self.begun.clone_from(&manifest.begun);
        let of = |topic: &str| positions.topics.get(topic).cloned().unwrap_or_default();
        let next = of(&privacy.events).into_iter();
        self.learned = next.map(|(partition, at)| (partition, at.next)).collect();
        self.read = self.learned.clone();
        self.profiles = of(&self.profiles_topic);
    }

    /// A record of the events topic was read.
    pub(super) fn read(&mut self, partition: i32, offset: i64) {
        self.read.insert(partition, offset + 1);
        self.begun.entry(partition).or_insert(offset);
    }

    /// The first event that was counted, by partition; for a snapshot.
    pub(super) fn begun(&self) -> BTreeMap<i32, i64> {
        self.begun.clone()
    }

    pub(super) fn wait(&mut self, event: &Interaction<'_>, at: (i32, i64), live: Live) {
        self.waiting.push(Waiting {
            partition: at.0,
            offset: at.1,
            event: Event {
                customer: event.customer.into(),
                product: event.product.into(),
                session: event.session.map(Into::into),
                kind: event.kind,
                time_ms: event.time_ms,
            },
            live,
        });
    }

    /// Whether events wait, or customers to be forgotten there.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty() || !self.forgotten.is_empty()
    }

    /// Whether so many wait that no more should be read.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= AT_ONCE
    }

    /// Whether an alias of the profiles' topic was merged before the snapshot; then only whose it is has to be known.
    pub(super) fn knows_alias(&self, partition: i32, offset: i64) -> bool {
        let applied = self.profiles.get(&partition);
        applied.is_some_and(|position| offset < position.next)
    }

    /// The first's events are from now on counted as the second's.
    pub(super) fn merged(&mut self, from: Subject, whose: Subject) {
        let mut all = self.aliases.remove(&from).unwrap_or_default();
        all.push(from);
        let known = self.aliases.entry(whose).or_default();
        for alias in all {
            if !known.contains(&alias) {
                known.push(alias);
            }
            self.merged.insert(alias);
        }
    }

    fn wanted(&self, subject: Subject, forgotten: bool) -> Wanted {
        let aliases = self.aliases.get(&subject).into_iter().flatten();
        Wanted {
            subjects: std::iter::once(subject).chain(aliases.copied()).collect(),
            forgotten,
        }
    }

    fn exchange(
        &self,
        wanted: &[Wanted],
        new: &[(Subject, Vec<Kept>)],
    ) -> Result<Vec<Vec<Kept>>, RedisError> {
        let mut found = self.runtime.block_on(self.histories.exchange(wanted, new))?;
        for history in &mut found {
            history.retain(|event| {
                let (begun, learned) = (
                    self.begun.get(&event.partition),
                    self.learned.get(&event.partition),
                );
                begun.is_some_and(|first| event.offset >= *first)
                    && learned.is_some_and(|next| event.offset < *next)
            });
        }
        Ok(found)
    }

    fn forget(&mut self) -> Result<(), RedisError> {
        self.runtime.block_on(self.histories.forget(&self.forgotten))?;
        self.forgotten.clear();
        Ok(())
    }
}

impl Learner {
    /// Learns the events that wait for histories. After an error they wait on, and so does whatever is to be forgotten.
    pub fn learn_waiting(&mut self) -> Result<(), RedisError> {
        let Some(mut elsewhere) = self.elsewhere.take() else {
            return Ok(());
        };
        let learned = self.learn_from(&mut elsewhere);
        self.elsewhere = Some(elsewhere);
        learned
    }

    fn learn_from(&mut self, elsewhere: &mut Elsewhere) -> Result<(), RedisError> {
        if !elsewhere.forgotten.is_empty() {
            elsewhere.forget()?;
            elsewhere.settled = Some(Instant::now() + SETTLES_WITHIN);
            self.writer.drop_recalled();
        }
        if elsewhere.settled.is_some_and(|at| Instant::now() >= at) {
            elsewhere.settled = None;
            self.writer.drop_recalled();
        }
        while !elsewhere.waiting.is_empty() {
            let now = now_ms();
            let n = elsewhere.waiting.len().min(AT_ONCE);
            let batch = &elsewhere.waiting[..n];
            let privacy = Arc::clone(&self.lookups.privacy);
            let mut subjects: HashMap<&str, usize> = HashMap::new();
            let mut new: Vec<(Subject, Vec<Kept>)> = Vec::new();
            let (mut wanted, mut missing) = (Vec::new(), Vec::new());
            let reader = self.writer.reader();
            for Waiting {
                partition,
                offset,
                event,
                ..
            } in batch
            {
                let at = *subjects.entry(&event.customer).or_insert_with(|| {
                    let subject = privacy.subject(&event.customer);
                    if !reader.knows(&event.customer) {
                        wanted.push(elsewhere.wanted(subject, false));
                        missing.push(&*event.customer);
                    }
                    new.push((subject, Vec::new()));
                    new.len() - 1
                });
                if let Some(past) = self.writer.past(&event.interaction(), now.max(event.time_ms)) {
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
            let found = elsewhere.exchange(&wanted, &new)?;
            for (customer, history) in missing.into_iter().zip(&found) {
                self.writer.recall(customer, history.iter().map(Kept::past));
            }
            drop(subjects);
            let now = now_ms();
            for waiting in elsewhere.waiting.drain(..n) {
                let Waiting { event, live, .. } = waiting;
                elsewhere.learned.insert(waiting.partition, waiting.offset + 1);
                let applied = self.learn_live(&event.interaction(), live, now);
                // What was counted of who is too fast has been taken back: nothing is to be brought back.
                if applied == Applied::Damped && self.writer.excludes(owner(&event.customer)) {
                    elsewhere.forgotten.push(Forgotten {
                        subject: privacy.subject(&event.customer),
                        ends: None,
                    });
                }
            }
            self.writer.let_go();
        }
        elsewhere.learned.clone_from(&elsewhere.read);
        Ok(())
    }

    /// Brings back what is to be forgotten or merged, because what was counted of it has to be taken back. Customers who
    /// are known by their HMAC alone are called by it in the engine; which of them came back is returned.
    pub(super) fn recall_forgotten(&mut self, forget: &[Forget]) -> Result<HashSet<Subject>, RedisError> {
        let Some(elsewhere) = &self.elsewhere else {
            return Ok(HashSet::new());
        };
        let privacy = &self.lookups.privacy;
        let reader = self.writer.reader();
        let (mut names, mut wanted) = (Vec::new(), Vec::new());
        let mut want = |name: String, subject: Subject| {
            if !reader.knows(&name) && !names.contains(&(name.clone(), subject)) {
                names.push((name, subject));
                wanted.push(elsewhere.wanted(subject, true));
            }
        };
        for one in forget {
            match one {
                Forget::Erased { subject, owner, .. } => {
                    let known = self.writer.names_of(*owner).into_iter();
                    let mut known = known.filter(|name| reader.knows(name));
                    let is_there = known.any(|name| privacy.subject(&name) == *subject);
                    // What was an alias is taken back with whose it was, and of the excluded it was already.
                    let is_counted = !elsewhere.merged.contains(subject) && !self.writer.excludes(*owner);
                    if !is_there && is_counted {
                        want(subject.hex(), *subject);
                    }
                }
                Forget::Refused(customer) => want(customer.clone(), privacy.subject(customer)),
                Forget::Alias { from, whose } => {
                    want(from.clone(), privacy.subject(from));
                    want(whose.clone(), privacy.subject(whose));
                }
            }
        }
        let found = elsewhere.exchange(&wanted, &[])?;
        let mut back = HashSet::new();
        for ((name, subject), history) in names.into_iter().zip(&found) {
            self.writer.recall(&name, history.iter().map(Kept::past));
            if !history.is_empty() {
                back.insert(subject);
            }
        }
        Ok(back)
    }

    /// Has what is kept of a customer forgotten too, and of the visits that were theirs: up to where each partition ended,
    /// or all of it.
    pub(super) fn forget_elsewhere(&mut self, subject: Subject, ends: Option<BTreeMap<i32, i64>>) {
        let Some(elsewhere) = &mut self.elsewhere else {
            return;
        };
        // An alias that is erased may come back as somebody of their own.
        elsewhere.merged.remove(&subject);
        let aliases = elsewhere.aliases.remove(&subject).unwrap_or_default();
        let all = aliases.into_iter().chain([subject]);
        let forgotten = all.map(|subject| Forgotten {
            subject,
            ends: ends.clone(),
        });
        elsewhere.forgotten.extend(forgotten);
    }
}
