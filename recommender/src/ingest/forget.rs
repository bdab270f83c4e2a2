//! What the ingest thread forgets: customers who were erased, who refuse, and ids that turned out to be another's.
//!
//! All of it waits until the next event is learned, or the batch that it came with has been read. While events are still
//! gathered for the engine's bulk path it waits for that too; and before the first of them nothing has been learned that
//! could be forgotten. Customers are looked up by what an erasure tells of them, however many there are.

use std::collections::{HashMap, HashSet};

use recommendation_api::EventError;
use recommendation_api::records::{Erasure, ErasureScope};

use super::Lookups;
use super::learner::Learner;
use crate::clock::now_ms;
use crate::histories::Offsets;
use crate::model;
use crate::privacy::Subject;
use crate::privacy::erasures::Erasures;
use crate::source::Record;
use crate::source::positions::Partitions;

/// What is to be forgotten.
pub(super) enum Forget {
    /// A customer of an erasure.
    Erased {
        subject: Subject,
        owner: u64,
        /// Up to where their events are forgotten, by partition.
        ends: Option<Offsets>,
    },
    /// A customer who refuses, by id.
    Refused(String),
    /// An id that was an anonymous visit, and whose it is.
    Alias { from: String, whose: String },
    /// An id that is nobody else's any more, since so much had been read.
    Parted { subject: Subject, read: Offsets },
}

/// What has been forgotten, and what is to be.
#[derive(Default)]
pub(super) struct Forgetting {
    /// Whose records are not learned, up to where.
    pub erasures: Erasures,
    /// Up to where erasures were applied to the snapshot that the state began with.
    pub applied: Partitions,
    /// Up to where profiles were.
    pub profiled: Partitions,
    waiting: Vec<Forget>,
}

impl Forgetting {
    /// Whether something was read that is still to be forgotten.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether what a record of the profiles topic says is in the snapshot that the state began with.
    pub(super) fn has_profile(&self, record: &Record<'_>) -> bool {
        let applied = self.profiled.get(&record.partition);
        applied.is_some_and(|position| record.offset < position.next)
    }
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
            // Figures are forgotten at once: no bulk path waits for them. And profiles, before a new one comes.
            self.insights.erase(owner, erasure.time_ms);
            let ends = erasure.ends.get(&privacy.events).cloned();
            if scope == ErasureScope::Everything {
                self.forget_profile(subject, owner, erasure.time_ms);
            }
            self.forget_soon(Forget::Erased { subject, owner, ends });
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
        match &mut self.elsewhere {
            Some(elsewhere) => {
                // It may take a while: they are not shown meanwhile.
                match &forget {
                    _ if !self.follows => {}
                    Forget::Erased { owner, .. } => self.writer.hide(*owner),
                    Forget::Refused(customer) => self.writer.hide(recommender_engine::owner(customer)),
                    Forget::Alias { .. } | Forget::Parted { .. } => {}
                }
                elsewhere.forget_soon(forget);
            }
            None => self.forgetting.waiting.push(forget),
        }
    }

    /// Forgets what waits; to be called after each batch, and before the next event is learned.
    pub fn forget_waiting(&mut self) {
        if self.forgetting.waiting.is_empty() || self.waiting() > 0 || !self.has_tables {
            return;
        }
        let waiting = std::mem::take(&mut self.forgetting.waiting);
        // Or nothing was learned yet, and nothing that was forgotten will be.
        if self.learns_live() {
            self.forget(waiting.into_iter(), &HashSet::new());
        }
    }

    /// Those who were `recalled` are known to the engine by their HMAC.
    pub(super) fn forget(&mut self, all: impl Iterator<Item = Forget>, recalled: &HashSet<Subject>) {
        let mut erased = Vec::new();
        for forget in all {
            if matches!(forget, Forget::Refused(_) | Forget::Alias { .. }) {
                // In their order: who was erased may have come back.
                self.erase(&std::mem::take(&mut erased), recalled);
            }
            match forget {
                Forget::Erased { subject, owner, ends } => {
                    self.forget_elsewhere(subject, ends.as_ref(), true);
                    erased.push((subject, owner));
                }
                Forget::Refused(customer) => {
                    let Lookups {
                        privacy, directory, ..
                    } = &self.lookups;
                    // Who has agreed again meanwhile is learned from by others: they forgot what was there before.
                    let refuses = !privacy.tracks(directory, &customer);
                    self.forget_known(&customer, refuses);
                }
                Forget::Alias { from, whose } => self.take_in(&from, &whose),
                Forget::Parted { subject, read } => {
                    if let Some(elsewhere) = &mut self.elsewhere {
                        elsewhere.ledger.part(subject, &read, now_ms());
                    }
                }
            }
        }
        self.erase(&erased, recalled);
    }

    /// Forgets the profile of somebody who is erased as of `until_ms`.
    fn forget_profile(&mut self, subject: Subject, owner: u64, until_ms: i64) {
        let Lookups {
            privacy, directory, ..
        } = &self.lookups;
        let mut ids = directory.ids_of(owner);
        ids.retain(|id| privacy.subject(id) == subject);
        if ids.iter().all(|id| directory.forget_profile(id, until_ms)) && self.has_tables {
            self.parted(subject, ids.first().map(|id| &**id));
        }
    }

    /// Once the tables were read: holds whose ids are against what was counted as whose, which may be of before.
    pub(super) fn reconcile(&mut self) {
        let Some(elsewhere) = &mut self.elsewhere else {
            return;
        };
        let Lookups {
            privacy, directory, ..
        } = &self.lookups;
        let mut counted: HashMap<Subject, Subject> = elsewhere.ledger.merged().collect();
        let mut aliases = Vec::new();
        for (from, whose) in directory.all_aliases() {
            let (subject, root) = (privacy.subject(&from), privacy.subject(&whose));
            if counted.get(&subject) == Some(&root) {
                counted.remove(&subject);
            } else {
                let (from, whose) = (from.to_string(), whose.to_string());
                aliases.push(Forget::Alias { from, whose });
            }
        }
        for subject in counted.into_keys() {
            elsewhere.part_soon(subject);
        }
        for alias in aliases {
            elsewhere.forget_soon(alias);
        }
    }

    /// An id is not that one's any more whose it was, and with it those that were its own. Of no interest where histories
    /// are in memory: there everything has its place already.
    pub(super) fn parted(&mut self, subject: Subject, id: Option<&str>) {
        let Some(elsewhere) = &mut self.elsewhere else {
            return;
        };
        let Lookups {
            privacy, directory, ..
        } = &self.lookups;
        elsewhere.part_soon(subject);
        for alias in id.map(|id| directory.aliases(id)).unwrap_or_default() {
            elsewhere.part_soon(privacy.subject(&alias));
            if let Some(whose) = directory.canonical(&alias) {
                let (from, whose) = (alias.to_string(), whose.to_string());
                elsewhere.forget_soon(Forget::Alias { from, whose });
            }
        }
    }

    /// Forgets what was learned of a customer, if anything was; and what is kept of it elsewhere, if so wanted.
    fn forget_known(&mut self, customer: &str, there: bool) {
        let owner = recommender_engine::owner(customer);
        // Answers may have been shown to somebody of whom nothing was ever learned.
        self.insights.erase(owner, now_ms());
        self.forget_elsewhere(self.lookups.privacy.subject(customer), None, there);
        let known = self.writer.reader().knows(customer);
        if known {
            self.writer.erase(customer);
            self.forget_answers(owner);
        }
        if known || self.elsewhere.is_some() {
            self.lookups.baskets.forget(&[owner], |name| name == customer);
        }
    }

    fn take_in(&mut self, from: &str, whose: &str) {
        let tracked = self.lookups.privacy.tracks(&self.lookups.directory, whose);
        // Nor is anything learned from who is excluded.
        let excluded = self.writer.excludes(recommender_engine::owner(whose));
        if !tracked || excluded {
            self.forget_known(from, !tracked);
        }
        let privacy = &self.lookups.privacy;
        if let Some(elsewhere) = &mut self.elsewhere {
            let ledger = &mut elsewhere.ledger;
            ledger.merge(privacy.subject(from), privacy.subject(whose));
        }
        if !tracked || excluded {
            return;
        }
        self.insights.fold(from, whose);
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

    fn erase(&mut self, erased: &[(Subject, u64)], recalled: &HashSet<Subject>) {
        if erased.is_empty() {
            return;
        }
        for (subject, owner) in erased {
            if recalled.contains(subject) {
                self.writer.erase(&subject.hex());
            }
            // The hash may be another's too: the HMAC decides.
            let mut known = self.writer.names_of(*owner);
            known.retain(|name| self.lookups.privacy.subject(name) == *subject);
            for name in known {
                self.writer.erase(&name);
                // The profile may stay, or be a new one.
                self.show_attributes(&name);
            }
            self.writer.erase_visits(*owner);
            self.forget_answers(*owner);
        }
        let owners: Vec<u64> = erased.iter().map(|(_, owner)| *owner).collect();
        let subjects: HashSet<Subject> = erased.iter().map(|(subject, _)| *subject).collect();
        let Lookups { privacy, baskets, .. } = &self.lookups;
        baskets.forget(&owners, |name| subjects.contains(&privacy.subject(name)));
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

    /// Once the log was caught up with: forgets erasures that decide nothing any more, and whoever a snapshot of other times
    /// knows and who is not tracked.
    pub fn settle(&mut self, events: Option<&Partitions>) {
        if let Some(events) = events {
            let next = |partition: i32| events.get(&partition).map_or(0, |position| position.next);
            self.forgetting.erasures.forget_passed(next);
        }
        if self.restored {
            let mut unasked = Vec::new();
            let lookups = &self.lookups;
            self.writer.reader().each_name(|name| {
                if !lookups.privacy.tracks(&lookups.directory, name) {
                    unasked.push(name.to_string());
                }
            });
            for name in unasked {
                self.forget_known(&name, true);
            }
        }
    }
}
