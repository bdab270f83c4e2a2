//! Which records of the log are not learned because their customer was erased after them.
//!
//! Looked at for every event that is read, so it costs one fast hash where erasures are known and nothing where
//! none are; the HMAC decides only for the customer whose hash agrees. Entries that reading has passed go: what
//! comes later is not theirs to decide.

use std::collections::{BTreeMap, HashMap};

use recommendation_api::records::Erasure;

use super::{Privacy, Subject};

struct Entry {
    subject: Subject,
    /// Ends by partition; `None` where the record does not know the topic: its time decides.
    ends: Option<BTreeMap<i32, i64>>,
    time_ms: i64,
}

impl Entry {
    fn covers(&self, partition: i32, offset: i64, record_ms: i64) -> bool {
        match &self.ends {
            // A partition that was added later has later records only.
            Some(ends) => ends.get(&partition).is_some_and(|end| offset < *end),
            None => record_ms <= self.time_ms,
        }
    }
}

/// Erasures by the hash of their customer.
#[derive(Default)]
pub struct Erasures {
    by_owner: HashMap<u64, Vec<Entry>, ahash::RandomState>,
}

impl Erasures {
    /// Takes up an erasure; the last of one customer counts.
    pub fn insert(&mut self, subject: Subject, owner: u64, events: &str, erasure: &Erasure) {
        let entries = self.by_owner.entry(owner).or_default();
        entries.retain(|entry| entry.subject != subject);
        entries.push(Entry {
            subject,
            ends: erasure.ends.get(events).cloned(),
            time_ms: erasure.time_ms,
        });
    }

    /// Whether this record of a customer is not to be learned.
    pub fn covers(&self, privacy: &Privacy, customer: &str, at: (i32, i64), record_ms: i64) -> bool {
        if self.by_owner.is_empty() {
            return false;
        }
        let Some(entries) = self.by_owner.get(&recommender_engine::owner(customer)) else {
            return false;
        };
        let mut covering = entries.iter().filter(|entry| entry.covers(at.0, at.1, record_ms));
        covering.any(|entry| entry.subject == privacy.subject(customer))
    }

    /// Forgets erasures of which no record is left to be read; `next` tells where reading stands in a partition.
    pub fn forget_passed(&mut self, next: impl Fn(i32) -> i64) {
        self.by_owner.retain(|_, entries| {
            entries.retain(|entry| match &entry.ends {
                Some(ends) => ends.iter().any(|(partition, end)| next(*partition) < *end),
                None => true,
            });
            !entries.is_empty()
        });
    }

    /// Customers that are looked for.
    pub fn len(&self) -> usize {
        self.by_owner.values().map(Vec::len).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_owner.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use recommendation_api::records::ErasureScope;

    use super::*;

    fn erased(privacy: &Privacy, table: &mut Erasures, customer: &str, ends: &[(i32, i64)]) {
        let ends = [("events".to_owned(), ends.iter().copied().collect())].into();
        let (subject, erasure) = privacy.erasure(customer, ErasureScope::Everything, ends, 1_000);
        let owner = privacy.owner(&subject, &erasure).unwrap();
        table.insert(subject, owner, "events", &erasure);
    }

    #[test]
    fn records_before_the_end_are_covered_and_later_ones_are_not() {
        let (privacy, mut table) = (Privacy::default(), Erasures::default());
        assert!(!table.covers(&privacy, "ann", (0, 0), 0));
        erased(&privacy, &mut table, "ann", &[(0, 5), (1, 0)]);
        assert!(table.covers(&privacy, "ann", (0, 4), 0));
        for at in [(0, 5), (1, 0), (2, 0)] {
            assert!(!table.covers(&privacy, "ann", at, 0), "{at:?}");
        }
        assert!(!table.covers(&privacy, "bob", (0, 4), 0));
        // Erased again: the later end counts.
        erased(&privacy, &mut table, "ann", &[(0, 9)]);
        assert!(table.covers(&privacy, "ann", (0, 8), 0) && table.len() == 1);
    }

    #[test]
    fn of_another_topic_the_time_decides() {
        let (privacy, mut table) = (Privacy::default(), Erasures::default());
        erased(&privacy, &mut table, "ann", &[(0, 5)]);
        let (subject, erasure) = privacy.erasure("bob", ErasureScope::Everything, Default::default(), 1_000);
        table.insert(
            subject,
            privacy.owner(&subject, &erasure).unwrap(),
            "events",
            &erasure,
        );
        assert!(table.covers(&privacy, "bob", (3, 70), 1_000));
        assert!(!table.covers(&privacy, "bob", (3, 70), 1_001));
    }

    #[test]
    fn what_reading_has_passed_is_forgotten() {
        let (privacy, mut table) = (Privacy::default(), Erasures::default());
        erased(&privacy, &mut table, "ann", &[(0, 5), (1, 3)]);
        erased(&privacy, &mut table, "bob", &[(0, 6), (1, 3)]);
        table.forget_passed(|partition| [5, 3][partition as usize]);
        assert!(!table.covers(&privacy, "ann", (0, 4), 0));
        assert!(table.covers(&privacy, "bob", (0, 5), 0));
    }
}
