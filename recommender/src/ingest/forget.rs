//! What the ingest thread forgets: customers who were erased, who refuse, and ids that turned out to be another's.
//!
//! All of it waits until the batch that it came with has been read. While events are still gathered for the engine's
//! bulk path it waits for that too; and before the first of them nothing has been learned that could be forgotten.
//! Customers are looked up by what an erasure tells of them, however many there are.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use recommendation_api::EventError;
use recommendation_api::records::{Erasure, ErasureScope};

use super::learner::Learner;
use crate::clock::now_ms;
use crate::model;
use crate::privacy::Subject;
use crate::privacy::erasures::Erasures;
use crate::ratelimit::RedisError;
use crate::source::Record;
use crate::source::positions::Partitions;

/// What is forgotten together: where histories are elsewhere, those of all have to be brought back first.
const AT_ONCE: usize = 500;

/// What is to be forgotten.
pub(super) enum Forget {
    /// A customer of an erasure.
    Erased {
        subject: Subject,
        owner: u64,
        scope: ErasureScope,
        /// Up to where their events are forgotten, by partition.
        ends: Option<BTreeMap<i32, i64>>,
    },
    /// A customer who refuses, by id.
    Refused(String),
    /// An id that was an anonymous visit, and whose it is.
    Alias { from: String, whose: String },
}

/// What has been forgotten, and what is to be.
#[derive(Default)]
pub(super) struct Forgetting {
    /// Whose records are not learned, up to where.
    pub erasures: Erasures,
    /// Up to where erasures were applied to the snapshot that the state began with.
    pub applied: Partitions,
    waiting: Vec<Forget>,
}

impl Learner {
    /// Takes up a record of the erasures topic.
    pub(super) fn take_erasure(&mut self, record: Record<'_>) -> Result<(), EventError> {
        let Some(subject) = record.key.and_then(Subject::parse) else {
            tracing::warn!(offset = record.offset, "erasure without an HMAC as its key");
            return Err(EventError::MissingField("key"));
        };
        // A tombstone: the topic's own clean-up, long after.
        let Some(value) = record.value else { return Ok(()) };
        let privacy = &self.lookups.privacy;
        let erasure: Erasure =
            serde_json::from_slice(value).map_err(|_| EventError::NotJson("an erasure".into()))?;
        let Some(owner) = privacy.owner(&subject, &erasure) else {
            tracing::warn!(offset = record.offset, "erasure not understood");
            return Err(EventError::NotJson("an erasure".into()));
        };
        self.forgetting
            .erasures
            .insert(subject, owner, &privacy.events, &erasure);
        // Also where the snapshot knows of it already: impressions are read on their own.
        self.insights.bar(owner, erasure.time_ms);
        let applied = self.forgetting.applied.get(&record.partition);
        if applied.is_none_or(|position| record.offset >= position.next) {
            let scope = erasure.scope;
            // Figures are forgotten at once: no bulk path waits for them.
            self.insights.erase(owner, erasure.time_ms);
            let ends = erasure.ends.get(&self.lookups.privacy.events).cloned();
            self.forget_soon(Forget::Erased {
                subject,
                owner,
                scope,
                ends,
            });
        }
        Ok(())
    }

    /// Takes up a record of the salts topic.
    pub(super) fn take_salt(&mut self, record: Record<'_>) -> Result<(), EventError> {
        let Some(salts) = &self.lookups.privacy.salts else {
            return Ok(()); // of other times
        };
        let subject = record.key.and_then(Subject::parse);
        if subject.is_some_and(|subject| salts.take(subject, record.value)) {
            return Ok(());
        }
        tracing::warn!(offset = record.offset, "salt not understood");
        Err(EventError::NotJson("a salt".into()))
    }

    pub(super) fn forget_soon(&mut self, forget: Forget) {
        self.forgetting.waiting.push(forget);
    }

    /// Forgets what waits; to be called after each batch. After an error it waits on.
    pub fn forget_waiting(&mut self) -> Result<(), RedisError> {
        if self.forgetting.waiting.is_empty() || self.waiting() > 0 {
            return Ok(());
        }
        let mut waiting = std::mem::take(&mut self.forgetting.waiting);
        if !self.learns_live() {
            return Ok(()); // nothing was learned yet, and nothing that was forgotten will be
        }
        while !waiting.is_empty() {
            let some = waiting.len().min(AT_ONCE);
            match self.recall_forgotten(&waiting[..some]) {
                Ok(recalled) => self.forget(waiting.drain(..some), &recalled),
                Err(e) => {
                    waiting.append(&mut self.forgetting.waiting);
                    self.forgetting.waiting = waiting;
                    return Err(e);
                }
            }
        }
        Ok(())
    }

    /// Those who were `recalled` are known to the engine by their HMAC.
    fn forget(&mut self, all: impl Iterator<Item = Forget>, recalled: &HashSet<Subject>) {
        let mut erased = Vec::new();
        for forget in all {
            match forget {
                Forget::Erased {
                    subject,
                    owner,
                    scope,
                    ends,
                } => {
                    self.forget_elsewhere(subject, ends);
                    erased.push((subject, owner, scope));
                }
                Forget::Refused(customer) => self.forget_known(&customer),
                Forget::Alias { from, whose } => self.take_in(&from, &whose),
            }
        }
        if !erased.is_empty() {
            self.erase(&erased, recalled);
        }
        self.writer.let_go();
    }

    /// Forgets what was learned of a customer, if anything was.
    fn forget_known(&mut self, customer: &str) {
        // Answers may have been shown to somebody of whom nothing was ever learned.
        self.insights.erase(recommender_engine::owner(customer), now_ms());
        self.forget_elsewhere(self.lookups.privacy.subject(customer), None);
        if self.writer.reader().knows(customer) {
            self.writer.erase(customer);
            self.lookups.baskets.forget(&HashSet::from([customer.into()]));
            self.forget_answers(recommender_engine::owner(customer));
        }
    }

    fn take_in(&mut self, from: &str, whose: &str) {
        if !self.lookups.privacy.tracks(&self.lookups.directory, whose) {
            self.forget_known(from);
            return;
        }
        self.insights.fold(from, whose);
        let privacy = &self.lookups.privacy;
        if let Some(elsewhere) = &mut self.elsewhere {
            elsewhere.merged(privacy.subject(from), privacy.subject(whose));
        }
        if self.writer.merge(from, whose) {
            self.lookups.baskets.rename(from, whose);
            self.forget_answers(recommender_engine::owner(from));
        }
    }

    fn forget_answers(&self, owner: u64) {
        if let Some(erased) = &self.lookups.erased {
            // Nobody listens any more where the service ends.
            let _ = erased.send(self.lookups.privacy.tag(owner));
        }
    }

    fn erase(&mut self, erased: &[(Subject, u64, ErasureScope)], recalled: &HashSet<Subject>) {
        let mut found: HashMap<Arc<str>, ErasureScope> = HashMap::new();
        for (subject, owner, scope) in erased {
            if recalled.contains(subject) {
                self.writer.erase(&subject.hex());
            }
            let known = self.writer.names_of(*owner).into_iter();
            // The hash may be another's too: the HMAC decides.
            let names = known
                .chain(self.lookups.directory.ids_of(*owner))
                .filter(|name| self.lookups.privacy.subject(name) == *subject);
            found.extend(names.map(|name| (name, *scope)));
            self.writer.erase_visits(*owner);
            self.forget_answers(*owner);
        }
        for (name, scope) in &found {
            self.writer.erase(name);
            match scope {
                ErasureScope::Everything => {
                    self.lookups.directory.set_profile(name, None);
                }
                // The profile may have come before the erasure: it stays, and so do the rules on it.
                ErasureScope::Learned => self.show_attributes(name),
            }
        }
        self.lookups.baskets.forget(&found.into_keys().collect());
        let n = erased.len();
        self.metrics.erasures.inc_by(n as u64);
        tracing::info!(customers = n, "erasures applied");
    }

    /// Hands the engine what rules may know of a customer: the attributes of a profile that allows it.
    pub(super) fn show_attributes(&mut self, customer: &str) {
        let profile = self.lookups.directory.profile(customer);
        let allowed = profile
            .filter(|profile| profile.alias_of.is_none() && self.lookups.privacy.allows(profile.consent));
        let attributes = allowed.map(|profile| model::attributes(profile.attributes));
        self.writer
            .set_profile(customer, attributes.filter(|attributes| !attributes.is_empty()));
    }

    /// Once the log was caught up with: forgets erasures that decide nothing any more, and, where only those are
    /// tracked who agreed, whoever a snapshot of other times knows and did not.
    pub fn settle(&mut self, events: Option<&Partitions>) {
        if let Some(events) = events {
            let next = |partition: i32| events.get(&partition).map_or(0, |position| position.next);
            self.forgetting.erasures.forget_passed(next);
        }
        if self.lookups.privacy.is_opt_in() && self.restored {
            let mut unasked = Vec::new();
            let lookups = &self.lookups;
            self.writer.reader().each_name(|name| {
                if !lookups.privacy.tracks(&lookups.directory, name) {
                    unasked.push(name.to_string());
                }
            });
            for name in unasked {
                self.forget_known(&name);
            }
        }
    }
}
