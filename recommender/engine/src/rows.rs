//! Exact co-occurrence counts of one product with others: a small open-addressing table, and for a product that
//! goes with a good part of all others simply an array.
//!
//! A general hash map would do; the table is half its size (12 bytes a slot). Both are touched for every pair of
//! every event, which makes them the hottest structure of the writer: the array is about three times as quick,
//! for there is nothing to search and no branch to mispredict.

const EMPTY: u32 = u32::MAX;
/// An array may take this many times the memory of the table that it stands for.
const DENSE: usize = 2;

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

#[derive(Clone, Debug)]
enum Table {
    /// Open addressing, its length a power of two or 0.
    Sparse(Vec<Slot>),
    /// Counts by id. Half as wide, twice as many fit into the processor's caches.
    Dense(Box<[i32]>),
    /// The same, once a count no longer fits.
    Wide(Box<[i64]>),
}

/// Counts by product id. Ids are below `u32::MAX`; a count of 0 is not kept.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    table: Table,
    len: usize,
}

impl Default for Row {
    fn default() -> Self {
        Row {
            table: Table::Sparse(Vec::new()),
            len: 0,
        }
    }
}

impl Row {
    /// A row with these counts, which must be of distinct ids below `products` and not 0.
    pub fn from_counts(counts: &[(u32, i64)], products: usize) -> Self {
        let table = empty(counts.len(), products);
        let mut row = Row {
            table,
            len: counts.len(),
        };
        for &(key, value) in counts {
            row.place(key, value);
        }
        row
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Hands every id with its count to `take`.
    #[inline]
    pub fn each(&self, mut take: impl FnMut(u32, i64)) {
        match &self.table {
            Table::Sparse(slots) => {
                for slot in slots.iter().filter(|slot| slot.key != EMPTY) {
                    take(slot.key, slot.value());
                }
            }
            Table::Dense(counts) => {
                for (key, &value) in counts.iter().enumerate() {
                    if value != 0 {
                        take(key as u32, i64::from(value));
                    }
                }
            }
            Table::Wide(counts) => {
                for (key, &value) in counts.iter().enumerate() {
                    if value != 0 {
                        take(key as u32, value);
                    }
                }
            }
        }
    }

    /// Every id with its count, in no order.
    pub fn counts(&self) -> Vec<(u32, i64)> {
        let mut counts = Vec::with_capacity(self.len);
        self.each(|key, value| counts.push((key, value)));
        counts
    }

    #[cfg(test)]
    pub fn get(&self, key: u32) -> i64 {
        let counts = self.counts();
        counts
            .iter()
            .find(|(k, _)| *k == key)
            .map_or(0, |(_, value)| *value)
    }

    /// Looks where a count would be, for no other reason than to have it fetched.
    pub fn peek(&self, key: u32) -> u32 {
        match &self.table {
            Table::Sparse(slots) => {
                let at = home(key, slots.len().wrapping_sub(1));
                slots.get(at).map_or(0, |slot| slot.key)
            }
            Table::Dense(counts) => counts.get(key as usize).map_or(0, |count| *count as u32),
            Table::Wide(counts) => counts.get(key as usize).map_or(0, |count| *count as u32),
        }
    }

    /// Adds to a count; answers the change in the number of counts: 1, 0 or -1. There are `products` ids.
    #[cfg(test)]
    pub fn add(&mut self, key: u32, delta: i64, products: usize) -> i64 {
        self.add_all(std::iter::once((key, delta)), products)
    }

    /// [`Row::add`] of many.
    #[inline(always)]
    pub fn add_all(&mut self, deltas: impl Iterator<Item = (u32, i64)>, products: usize) -> i64 {
        let (mut deltas, mut change) = (deltas, 0);
        // An array is looked for once, not for each of them.
        while let Some((key, delta)) = match &mut self.table {
            Table::Dense(counts) => {
                let mut quick = 0;
                let rest = deltas.find(|&(key, delta)| !add_quickly(counts, key, delta, &mut quick));
                self.len = self.len.wrapping_add_signed(quick as isize);
                change += quick;
                rest
            }
            _ => deltas.next(),
        } {
            change += self.add_anyhow(key, delta, products);
        }
        change
    }

    #[inline(never)]
    fn add_anyhow(&mut self, key: u32, delta: i64, products: usize) -> i64 {
        if delta == 0 {
            return 0;
        }
        match &mut self.table {
            Table::Dense(counts) => {
                if (key as usize) < counts.len() {
                    // It no longer fits.
                    self.widen();
                    return self.add_anyhow(key, delta, products);
                }
            }
            Table::Wide(counts) => {
                if let Some(count) = counts.get_mut(key as usize) {
                    let change = i64::from(*count == 0) - i64::from(*count + delta == 0);
                    *count += delta;
                    self.len = self.len.wrapping_add_signed(change as isize);
                    return change;
                }
            }
            Table::Sparse(slots) if !slots.is_empty() => {
                let mask = slots.len() - 1;
                let mut at = home(key, mask);
                loop {
                    let slot = slots[at];
                    if slot.key == key {
                        let value = slot.value() + delta;
                        if value == 0 {
                            remove(slots, at);
                            self.len -= 1;
                            return -1;
                        }
                        slots[at] = Slot::new(key, value);
                        return 0;
                    }
                    if slot.key == EMPTY {
                        break;
                    }
                    at = (at + 1) & mask;
                }
                if (self.len + 1) * 4 <= slots.len() * 3 {
                    slots[at] = Slot::new(key, delta);
                    self.len += 1;
                    return 1;
                }
            }
            Table::Sparse(_) => {}
        }
        self.grow(key, delta, products);
        1
    }

    /// Takes up another count: the table is full, or was made when there were fewer products.
    #[cold]
    fn grow(&mut self, key: u32, value: i64, products: usize) {
        let mut grown = Row {
            table: empty(self.len + 1, products.max(key as usize + 1)),
            len: self.len + 1,
        };
        self.each(|key, value| grown.place(key, value));
        grown.place(key, value);
        *self = grown;
    }

    #[cold]
    fn widen(&mut self) {
        if let Table::Dense(counts) = &self.table {
            self.table = Table::Wide(counts.iter().map(|count| i64::from(*count)).collect());
        }
    }

    /// Keeps the `keep` largest counts (ties by id) of `products`; answers how many went.
    pub fn prune(&mut self, keep: usize, products: usize) -> usize {
        if self.len <= keep {
            return 0;
        }
        let mut counts = self.counts();
        counts.select_nth_unstable_by(keep, |a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let gone = counts.len() - keep;
        counts.truncate(keep);
        *self = Row::from_counts(&counts, products);
        gone
    }

    /// Writes a count that is not there yet.
    fn place(&mut self, key: u32, value: i64) {
        match &mut self.table {
            Table::Dense(counts) => match i32::try_from(value) {
                Ok(value) => counts[key as usize] = value,
                Err(_) => {
                    self.widen();
                    self.place(key, value);
                }
            },
            Table::Wide(counts) => counts[key as usize] = value,
            Table::Sparse(slots) => {
                let mask = slots.len() - 1;
                let mut at = home(key, mask);
                while slots[at].key != EMPTY {
                    at = (at + 1) & mask;
                }
                slots[at] = Slot::new(key, value);
            }
        }
    }
}

/// Adds where there is room for the key and for the sum, which is nearly always so; `change` is that of how many counts
/// there are.
#[inline(always)]
fn add_quickly(counts: &mut [i32], key: u32, delta: i64, change: &mut i64) -> bool {
    if let Some(count) = counts.get_mut(key as usize)
        && let Ok(after) = i32::try_from(i64::from(*count) + delta)
    {
        *change += i64::from(*count == 0) - i64::from(after == 0);
        *count = after;
        return true;
    }
    false
}

/// A table with room for this many counts of `products` ids.
fn empty(counts: usize, products: usize) -> Table {
    let slots = (counts * 4 / 3 + 1).next_power_of_two().max(4);
    // Some room, because products come one by one.
    let ids = products + products / 8 + 8;
    if ids * size_of::<i32>() <= DENSE * slots * size_of::<Slot>() && counts > 64 {
        Table::Dense(vec![0; ids].into_boxed_slice())
    } else {
        Table::Sparse(vec![Slot::FREE; slots])
    }
}

/// Empties a slot and moves later ones of its run up, so that probing never meets a hole.
fn remove(slots: &mut [Slot], mut hole: usize) {
    let mask = slots.len() - 1;
    let mut at = hole;
    loop {
        at = (at + 1) & mask;
        let slot = slots[at];
        if slot.key == EMPTY {
            break;
        }
        // May this one move back to the hole? Only if its home is not between hole and itself.
        let distance = at.wrapping_sub(home(slot.key, mask)) & mask;
        if distance >= (at.wrapping_sub(hole) & mask) {
            slots[hole] = slot;
            hole = at;
        }
    }
    slots[hole] = Slot::FREE;
}

fn home(key: u32, mask: usize) -> usize {
    (u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & mask
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn row_like_a_map(ids: u32, changes: &[(u32, i64)]) -> Result<(), TestCaseError> {
        let (mut row, mut map) = (Row::default(), BTreeMap::<u32, i64>::new());
        let mut products = 0;
        for &(key, delta) in changes {
            let key = key % ids;
            products = products.max(key as usize + 1);
            let known = map.len() as i64;
            // Some do not fit into half the width, and some only add up to what does not.
            let delta = delta
                * if key.is_multiple_of(3) {
                    3_000_000_000
                } else {
                    700_000_000
                };
            let change = row.add(key, delta, products);
            *map.entry(key).or_default() += delta;
            map.retain(|_, value| *value != 0);
            prop_assert_eq!(row.len(), map.len());
            prop_assert_eq!(change, map.len() as i64 - known);
        }
        prop_assert_eq!(row.counts().into_iter().collect::<BTreeMap<_, _>>(), map);
        Ok(())
    }

    proptest! {
        #[test]
        fn a_row_counts_like_a_map(changes in prop::collection::vec((0u32..40, -3i64..4), 0..400)) {
            row_like_a_map(40, &changes)?;
        }

        #[test]
        fn a_crowded_row_counts_like_a_map(
            changes in prop::collection::vec((any::<u32>(), -1i64..4), 0..600),
            later in prop::collection::vec((any::<u32>(), -1i64..4), 0..100),
        ) {
            // An array first, and a table again once there are many more products.
            row_like_a_map(150, &changes)?;
            let spread = changes.iter().map(|(key, delta)| (key % 150, *delta));
            let spread: Vec<_> = spread.chain(later.iter().map(|(key, delta)| (key % 50_000, *delta))).collect();
            row_like_a_map(u32::MAX, &spread)?;
        }
    }

    #[test]
    fn a_row_is_an_array_while_it_is_crowded() {
        let mut row = Row::default();
        for key in 0..100 {
            row.add(key, 1, 100);
        }
        assert!(matches!(row.table, Table::Dense(_)));
        row.add(90_000, 1, 100_000);
        assert!(matches!(row.table, Table::Sparse(_)));
        assert_eq!((row.len(), row.get(99), row.get(90_000)), (101, 1, 1));
    }

    #[test]
    fn pruning_keeps_the_largest_counts() {
        let mut row = Row::from_counts(&[(1, 5), (2, 9), (3, 5), (4, 1)], 5);
        assert_eq!(row.prune(2, 5), 2);
        assert_eq!((row.get(1), row.get(2), row.len()), (5, 9, 2));
    }
}
