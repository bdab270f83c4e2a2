//! The last so many ids that were met, by their hashes, each once.

use std::collections::VecDeque;

use hashbrown::HashTable;

/// Hashes in the order in which they came, and where in it each is: 13 bytes a hash and room to grow, where a set beside
/// the order would take 17.
#[derive(Default)]
pub(crate) struct Seen {
    order: VecDeque<u64>,
    /// Numbers of hashes, counted from the first that ever came and cut to half their width: of any two of them that are
    /// here no more than [`Seen::capacity`] lies between.
    numbers: HashTable<u32>,
    /// The number of the oldest.
    first: u32,
    capacity: usize,
}

impl Seen {
    /// Remembers so many, one at least and four billion at most.
    pub fn of(capacity: usize) -> Self {
        Seen {
            capacity: capacity.clamp(1, u32::MAX as usize),
            ..Seen::default()
        }
    }

    /// Takes up a hash; false if it was known.
    pub fn insert(&mut self, hash: u64) -> bool {
        let (order, first) = (&self.order, self.first);
        let of = |number: u32| order[number.wrapping_sub(first) as usize];
        if self.numbers.find(hash, |number| of(*number) == hash).is_some() {
            return false;
        }
        // First, or the queue would grow to twice its size for one more.
        if self.order.len() >= self.capacity {
            self.forget_oldest();
        }
        let number = self.first.wrapping_add(self.order.len() as u32);
        self.order.push_back(hash);
        let (order, first) = (&self.order, self.first);
        self.numbers
            .insert_unique(hash, number, |number| order[number.wrapping_sub(first) as usize]);
        true
    }

    fn forget_oldest(&mut self) {
        let first = self.first;
        if let Some(&oldest) = self.order.front()
            && let Ok(found) = self.numbers.find_entry(oldest, |number| *number == first)
        {
            found.remove();
        }
        self.order.pop_front();
        self.first = first.wrapping_add(1);
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.order.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_hash_is_known_while_it_is_among_the_last(
            hashes in prop::collection::vec(0u64..60, 0..300),
            capacity in 1usize..40,
        ) {
            let (mut seen, mut last) = (Seen::of(capacity), VecDeque::new());
            for hash in hashes {
                let is_new = !last.contains(&hash);
                prop_assert_eq!(seen.insert(hash), is_new);
                if is_new {
                    last.push_back(hash);
                    last.drain(..last.len().saturating_sub(capacity));
                }
                prop_assert_eq!(seen.numbers.len(), last.len());
            }
            prop_assert!(seen.iter().eq(last));
        }
    }

    #[test]
    fn the_newest_are_known_and_older_ones_are_new_again() {
        let mut seen = Seen::of(3);
        // Numbers pass their end.
        seen.first = u32::MAX - 1;
        let hashes = [1u64, 2, 3, 2, 4, 1, 5, 4, 2].map(|hash| hash << 40);
        let new = hashes.map(|hash| seen.insert(hash));
        assert_eq!(new, [true, true, true, false, true, true, true, false, true]);
        assert_eq!(
            seen.iter().collect::<Vec<_>>(),
            [1u64, 5, 2].map(|hash| hash << 40)
        );
        assert_eq!(seen.numbers.len(), 3);
    }
}
