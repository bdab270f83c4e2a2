//! Deduplication by `event_id`: a shop that retries its POST, or a producer that resends, is counted once.
//!
//! An id is remembered for a day of *record* time or until a million others came, per partition. Record time
//! and not the clock, so that reading the log again from its start decides exactly as the first time.

use std::collections::{HashSet, VecDeque};

use ahash::RandomState;

/// Ids remembered per partition.
pub const MAX_IDS: usize = 1_000_000;
/// How long an id is remembered, in milliseconds of record time.
pub const WINDOW_MS: i64 = 24 * 60 * 60 * 1000;

/// The ids of one partition.
///
/// Ids are kept as 128-bit hashes under keys drawn at start: 16 bytes whatever their length, and nobody
/// outside can make two collide.
pub struct Dedup {
    seeds: [RandomState; 2],
    seen: HashSet<u128, RandomState>,
    order: VecDeque<(u128, i64)>,
    max_ids: usize,
    window_ms: i64,
}

impl Default for Dedup {
    fn default() -> Self {
        Self::new(MAX_IDS, WINDOW_MS)
    }
}

impl Dedup {
    /// Remembers at most `max_ids` ids for `window_ms` each.
    pub fn new(max_ids: usize, window_ms: i64) -> Self {
        Self {
            seeds: [RandomState::new(), RandomState::new()],
            seen: HashSet::with_hasher(RandomState::new()),
            order: VecDeque::new(),
            max_ids,
            window_ms,
        }
    }

    /// Whether this id is new at `record_ms`; it is remembered if so.
    pub fn is_new(&mut self, event_id: &str, record_ms: i64) -> bool {
        while let Some(&(hash, at)) = self.order.front() {
            let outdated = record_ms.saturating_sub(at) > self.window_ms;
            if !outdated && self.order.len() < self.max_ids {
                break;
            }
            self.order.pop_front();
            self.seen.remove(&hash);
        }
        let [a, b] = &self.seeds;
        let hash = u128::from(a.hash_one(event_id)) << 64 | u128::from(b.hash_one(event_id));
        let new = self.seen.insert(hash);
        if new {
            self.order.push_back((hash, record_ms));
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_counts_once_within_a_day_and_again_after_it() {
        let mut dedup = Dedup::default();
        assert!(dedup.is_new("a", 0));
        assert!(!dedup.is_new("a", WINDOW_MS));
        assert!(dedup.is_new("a", WINDOW_MS + 1));
        assert!(dedup.is_new("b", WINDOW_MS + 1));
    }

    #[test]
    fn memory_is_bounded_by_the_number_of_ids() {
        let mut dedup = Dedup::new(3, WINDOW_MS);
        for id in ["a", "b", "c", "d"] {
            assert!(dedup.is_new(id, 0));
        }
        assert!(dedup.order.len() <= 3 && dedup.seen.len() <= 3);
        assert!(!dedup.is_new("d", 0));
        assert!(dedup.is_new("a", 0), "the oldest was forgotten");
    }

    proptest! {
        #[test]
        fn reading_the_same_log_twice_decides_the_same(ids in prop::collection::vec(0u8..40, 0..300)) {
            let run = || {
                let mut dedup = Dedup::new(16, 50);
                ids.iter().enumerate().map(|(i, id)| dedup.is_new(&id.to_string(), i as i64)).collect::<Vec<_>>()
            };
            prop_assert_eq!(run(), run());
        }
    }
}
