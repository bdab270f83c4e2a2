//! Which of the events that are kept elsewhere a replica has counted, and for whom.
//!
//! Everybody writes there, and somebody may be ahead: an event counts here if it was learned here, and not taken back
//! since. What was taken back of an id, or was read and not learned while there was nothing to take back, stands before a
//! floor, by partition. Events are kept under the id that the log has. A visit that turned out to be a customer's is a part
//! of that customer's history, and has none of its own meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::kept::Kept;
use crate::privacy::Subject;

/// An offset by partition of the events topic.
pub type Offsets = BTreeMap<i32, i64>;

/// Of each partition the later offset of both.
pub fn later(offsets: &mut Offsets, other: &Offsets) {
    for (partition, end) in other {
        let known = offsets.entry(*partition).or_insert(*end);
        *known = (*known).max(*end);
    }
}

/// The earlier offset of both, of each partition that both have.
pub fn earlier(one: &Offsets, other: &Offsets) -> Offsets {
    let both = |(partition, end): (&i32, &i64)| Some((*partition, *end.min(other.get(partition)?)));
    one.iter().filter_map(both).collect()
}

fn is_before(event: &Kept, ends: &Offsets) -> bool {
    ends.get(&event.partition).is_some_and(|end| event.offset < *end)
}

/// What of the events that are kept of one id belongs to a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Whose they are.
    pub subject: Subject,
    /// What stands before does not.
    pub from: Offsets,
    /// Nor does what does not stand before this.
    pub until: Option<Offsets>,
}

impl Part {
    pub(super) fn holds(&self, event: &Kept) -> bool {
        let ends_after = self.until.as_ref().is_none_or(|until| is_before(event, until));
        ends_after && !is_before(event, &self.from)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Floor {
    offsets: Offsets,
    raised_ms: i64,
}

/// Where what was not taken back begins; of customers from whom something was. Requests look it up too.
#[derive(Default)]
pub struct Floors(RwLock<HashMap<Subject, Floor>>);

impl Floors {
    /// What is kept of a customer before these offsets is theirs no longer.
    pub fn raise(&self, subject: Subject, to: &Offsets, now_ms: i64) {
        if to.is_empty() {
            return;
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let floor = all.entry(subject).or_insert_with(|| Floor {
            offsets: Offsets::new(),
            raised_ms: now_ms,
        });
        later(&mut floor.offsets, to);
        floor.raised_ms = now_ms;
    }

    /// All that is a customer's as somebody of their own.
    pub fn own(&self, subject: Subject) -> Part {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let from = all.get(&subject).map(|floor| floor.offsets.clone());
        Part {
            subject,
            from: from.unwrap_or_default(),
            until: None,
        }
    }

    /// More is kept of these: what their floors hide is there as long.
    pub fn renew(&self, subjects: impl Iterator<Item = Subject>, now_ms: i64) {
        // Most have none: readers are not kept out for them.
        let with_floors: Vec<Subject> = {
            let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
            subjects.filter(|subject| all.contains_key(subject)).collect()
        };
        if with_floors.is_empty() {
            return;
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for subject in with_floors {
            if let Some(floor) = all.get_mut(&subject) {
                floor.raised_ms = now_ms;
            }
        }
    }

    /// Forgets those raised before: nothing that they hide can be there any more.
    fn forget(&self, before_ms: i64) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, floor| floor.raised_ms >= before_ms);
    }
}

/// A [`Ledger`] in a snapshot.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    begun: Offsets,
    parts: Vec<(Subject, Vec<Part>)>,
    floors: Vec<(Subject, Floor)>,
}

/// What a replica has counted of what is kept elsewhere.
pub struct Ledger {
    floors: Arc<Floors>,
    /// From where on: what was removed from the log before was never counted here.
    begun: Offsets,
    /// What is counted as whose, besides their own.
    parts: HashMap<Subject, Vec<Part>>,
    /// Whose each of them is, as long as what comes is too.
    whose: HashMap<Subject, Subject>,
}

impl Ledger {
    /// Of a replica that has counted nothing.
    pub fn new(floors: Arc<Floors>) -> Self {
        Self {
            floors,
            begun: Offsets::new(),
            parts: HashMap::new(),
            whose: HashMap::new(),
        }
    }

    /// For a snapshot; without the floors that were raised before `oldest_ms`.
    pub fn write(&self, oldest_ms: i64) -> Written {
        self.floors.forget(oldest_ms);
        let floors = self.floors.0.read().unwrap_or_else(PoisonError::into_inner);
        Written {
            begun: self.begun.clone(),
            parts: self.parts.iter().map(|(id, all)| (*id, all.clone())).collect(),
            floors: floors.iter().map(|(id, floor)| (*id, floor.clone())).collect(),
        }
    }

    /// Goes on from a snapshot.
    pub fn restore(&mut self, written: Written) {
        self.begun = written.begun;
        let open = |part: &&Part| part.until.is_none();
        let whose = |(id, parts): &(Subject, Vec<Part>)| {
            let open = parts.iter().filter(open).map(|part| (part.subject, *id));
            open.collect::<Vec<_>>()
        };
        self.whose = written.parts.iter().flat_map(whose).collect();
        self.parts = written.parts.into_iter().collect();
        let mut floors = self.floors.0.write().unwrap_or_else(PoisonError::into_inner);
        *floors = written.floors.into_iter().collect();
    }

    /// A record was read: the first of its partition is where counting began.
    pub fn read(&mut self, partition: i32, offset: i64) {
        self.begun.entry(partition).or_insert(offset);
    }

    /// Whether an event was counted by a replica that has learned up to `learned`.
    pub fn counts(&self, event: &Kept, learned: &Offsets) -> bool {
        let begun = self.begun.get(&event.partition);
        begun.is_some_and(|first| event.offset >= *first) && is_before(event, learned)
    }

    /// All that makes a customer's history; nothing for a visit that is another's.
    pub fn history(&self, subject: Subject) -> Vec<Part> {
        if self.whose.contains_key(&subject) {
            return Vec::new();
        }
        let others = self.parts.get(&subject).into_iter().flatten();
        std::iter::once(self.floors.own(subject))
            .chain(others.cloned())
            .collect()
    }

    /// See [`Floors::renew`].
    pub fn renew(&self, subjects: impl Iterator<Item = Subject>, now_ms: i64) {
        self.floors.renew(subjects, now_ms);
    }

    /// Ids that are another's, and whose.
    pub fn merged(&self) -> impl Iterator<Item = (Subject, Subject)> + '_ {
        self.whose.iter().map(|(id, whose)| (*id, *whose))
    }

    /// The first's history is from now on a part of the second's; if it is no other's yet.
    pub fn merge(&mut self, from: Subject, into: Subject) {
        // The second may be another's meanwhile.
        let into = self.whose.get(&into).copied().unwrap_or(into);
        if from == into || self.whose.contains_key(&from) {
            return;
        }
        let parts = self.history(from);
        self.parts.remove(&from);
        for part in parts.iter().filter(|part| part.until.is_none()) {
            self.whose.insert(part.subject, into);
        }
        self.parts.entry(into).or_default().extend(parts);
    }

    fn open_part(&mut self, subject: Subject) -> Option<&mut Part> {
        let parts = self.parts.get_mut(self.whose.get(&subject)?)?;
        parts
            .iter_mut()
            .find(|part| part.subject == subject && part.until.is_none())
    }

    /// A visit is nobody else's any more: what comes after `read` is its own.
    pub fn part(&mut self, subject: Subject, read: &Offsets, now_ms: i64) {
        if let Some(part) = self.open_part(subject) {
            part.until = Some(read.clone());
            self.whose.remove(&subject);
            self.floors.raise(subject, read, now_ms);
        }
    }

    /// An event of an id of which nothing is counted was read and not learned. Others may have learned it, and keep it.
    pub fn skip(&mut self, subject: Subject, (partition, offset): (i32, i64), now_ms: i64) {
        let end = [(partition, offset + 1)].into();
        if let Some(part) = self.open_part(subject) {
            later(&mut part.from, &end);
        }
        self.floors.raise(subject, &end, now_ms);
    }

    /// What was counted of a customer before `ends` has been taken back, and what their visits did; answers of whom, and up
    /// to where. A visit that is another's is taken back with that one.
    pub fn take_back(&mut self, subject: Subject, ends: &Offsets, now_ms: i64) -> Vec<(Subject, Offsets)> {
        if self.whose.contains_key(&subject) {
            return Vec::new();
        }
        let mut all = vec![(subject, ends.clone())];
        self.floors.raise(subject, ends, now_ms);
        let mut parts = self.parts.remove(&subject).unwrap_or_default();
        for part in &parts {
            let until = part.until.as_ref();
            all.push((
                part.subject,
                until.map_or_else(|| ends.clone(), |until| earlier(ends, until)),
            ));
        }
        // Visits go on as theirs.
        parts.retain(|part| part.until.is_none());
        for part in &mut parts {
            later(&mut part.from, ends);
            self.floors.raise(part.subject, ends, now_ms);
        }
        if !parts.is_empty() {
            self.parts.insert(subject, parts);
        }
        all
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
