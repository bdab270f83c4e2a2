//! Learning where histories are kept in Redis: events wait until those of their customers who are not at hand have been
//! brought back, many in one round trip, and with it they are kept themselves. What is to be forgotten waits among them, so
//! that it takes back what was read before it, and nothing else.
//!
//! While Redis is away nothing is learned and nothing is forgotten; the log waits. What was read before is not lost:
//! it waits here, and no snapshot is taken meanwhile.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use recommender_engine::{Applied, Rate, Writer, owner};

use super::elsewhere::{Elsewhere, SETTLES_WITHIN, STALE_AFTER, Waiting};
use super::forget::Forget;
use super::learner::Learner;
use crate::clock::now_ms;
use crate::histories::{Forgotten, Kept, Offsets, earlier, later};
use crate::privacy::{Privacy, Subject};
use crate::ratelimit::RedisError;

impl Elsewhere {
    /// Brings back those of the first events' customers who are not at hand, and keeps the events.
    fn recall_for(&self, events: usize, writer: &mut Writer, privacy: &Privacy) -> Result<(), RedisError> {
        let now = now_ms();
        let reader = writer.reader();
        let mut customers: HashMap<&str, Rate> = HashMap::new();
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
            let rate = customers.entry(&event.customer).or_insert_with(|| {
                if !reader.knows(&event.customer) {
                    wanted.push(self.ledger.history(privacy.subject(&event.customer)));
                    missing.push(&*event.customer);
                }
                writer.rate(&event.customer)
            });
            let at = *ids.entry(event.id()).or_insert_with(|| {
                new.push((privacy.subject(event.id()), Vec::new()));
                new.len() - 1
            });
            if let Some(past) = writer.past(&event.interaction(), rate, now.max(event.time_ms)) {
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
