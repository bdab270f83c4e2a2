//! Exact co-occurrence counts of one product with others: a small open-addressing table.
//!
//! A general hash map would do; this one is half its size (12 bytes a slot) and is touched twice for every
//! pair of every event, which makes it the hottest structure of the writer.

const EMPTY: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: u32,
    low: u32,
    high: u32,
}

impl Slot {
    const FREE: Slot = Slot {
        key: EMPTY,
        low: 0,
        high: 0,
    };

    fn new(key: u32, value: i64) -> Self {
        Slot {
            key,
            low: value as u32,
            high: (value >> 32) as u32,
        }
    }

    fn value(self) -> i64 {
        (i64::from(self.high as i32) << 32) | i64::from(self.low)
    }
}

/// Counts by product id. Ids are below `u32::MAX`; a count of 0 is not kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    slots: Vec<Slot>,
    len: usize,
}

impl Row {
    /// A row with these counts, which must be of distinct ids and not 0.
    pub fn from_counts(counts: &[(u32, i64)]) -> Self {
        let mut row = Row::default();
        row.resize((counts.len() * 4 / 3 + 1).next_power_of_two().max(4));
        for &(key, value) in counts {
            row.place(Slot::new(key, value));
        }
        row.len = counts.len();
        row
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, i64)> + '_ {
        self.slots
            .iter()
            .filter(|slot| slot.key != EMPTY)
            .map(|slot| (slot.key, slot.value()))
    }

    #[cfg(test)]
    pub fn get(&self, key: u32) -> i64 {
        self.iter().find(|(k, _)| *k == key).map_or(0, |(_, value)| value)
    }

    /// Looks where a count would be, for no other reason than to have it fetched.
    pub fn peek(&self, key: u32) -> u32 {
        let at = home(key, self.slots.len().wrapping_sub(1));
        self.slots.get(at).map_or(0, |slot| slot.key)
    }

    /// Adds to a count; answers the change in the number of counts: 1, 0 or -1.
    pub fn add(&mut self, key: u32, delta: i64) -> i64 {
        if delta == 0 {
            return 0;
        }
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            let old = std::mem::take(&mut self.slots);
            self.resize((old.len() * 2).max(4));
            for slot in old.into_iter().filter(|slot| slot.key != EMPTY) {
                self.place(slot);
            }
        }
        let mask = self.slots.len() - 1;
        let mut at = home(key, mask);
        loop {
            let slot = self.slots[at];
            if slot.key == key {
                let value = slot.value() + delta;
                if value == 0 {
                    self.remove(at);
                    return -1;
                }
                self.slots[at] = Slot::new(key, value);
                return 0;
            }
            if slot.key == EMPTY {
                self.slots[at] = Slot::new(key, delta);
                self.len += 1;
                return 1;
            }
            at = (at + 1) & mask;
        }
    }

    /// Keeps the `keep` largest counts (ties by id); answers how many went.
    pub fn prune(&mut self, keep: usize) -> usize {
        if self.len <= keep {
            return 0;
        }
        let mut counts: Vec<(u32, i64)> = self.iter().collect();
        counts.select_nth_unstable_by(keep, |a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let gone = counts.len() - keep;
        counts.truncate(keep);
        *self = Row::from_counts(&counts);
        gone
    }

    fn resize(&mut self, slots: usize) {
        self.slots = vec![Slot::FREE; slots];
    }

    fn place(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = home(slot.key, mask);
        while self.slots[at].key != EMPTY {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    /// Empties a slot and moves later ones of its run up, so that probing never meets a hole.
    fn remove(&mut self, mut hole: usize) {
        let mask = self.slots.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let slot = self.slots[at];
            if slot.key == EMPTY {
                break;
            }
            // May this one move back to the hole? Only if its home is not between hole and itself.
            let distance = at.wrapping_sub(home(slot.key, mask)) & mask;
            if distance >= (at.wrapping_sub(hole) & mask) {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = Slot::FREE;
        self.len -= 1;
    }
}

fn home(key: u32, mask: usize) -> usize {
    (u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & mask
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_counts_like_a_map(changes in prop::collection::vec((0u32..40, -3i64..4), 0..400)) {
            let (mut row, mut map) = (Row::default(), BTreeMap::<u32, i64>::new());
            for (key, delta) in changes {
                row.add(key, delta * 3_000_000_000);
                *map.entry(key).or_default() += delta * 3_000_000_000;
                map.retain(|_, value| *value != 0);
                prop_assert_eq!(row.len(), map.len());
            }
            prop_assert_eq!(row.iter().collect::<BTreeMap<_, _>>(), map);
        }
    }

    #[test]
    fn pruning_keeps_the_largest_counts() {
        let mut row = Row::from_counts(&[(1, 5), (2, 9), (3, 5), (4, 1)]);
        assert_eq!(row.prune(2), 2);
        assert_eq!((row.get(1), row.get(2), row.len()), (5, 9, 2));
    }
}
