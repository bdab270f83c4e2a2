//! Exact co-occurrence counts of one product with others: a small open-addressing table, and for a product that
//! goes with a good part of all others simply an array.
//!
//! A general hash map would do; the table is half its size (8 bytes a slot). Both are touched for every pair that an
//! event or a basket changes, which makes them the hottest structure of the writer: the array is about three times as
//! quick, for there is nothing to search and no branch to mispredict. Counts are half as wide as what they are summed up from,
//! so that twice as many fit into memory and its caches, until one of a row no longer fits.

mod table;

use table::{Added, Slot, Slots, Value, slots};

const EMPTY: u32 = u32::MAX;
/// An array may take this many times the memory of the table that it stands for.
const DENSE: usize = 3;
/// A row of so many counts, or fewer, is a table.
const SMALL: usize = 64;

#[derive(Clone, Debug)]
enum Table {
    Sparse(Slots<i32>),
    SparseWide(Slots<i64>),
    /// Counts by id.
    Dense(Box<[i32]>),
    DenseWide(Box<[i64]>),
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
            table: Table::Sparse(Slots::with_room(0)),
            len: 0,
        }
    }
}

impl Row {
    /// A row with these counts, which must be of distinct ids below `products` and not 0.
    pub fn from_counts(counts: &[(u32, i64)], products: usize) -> Self {
        Self::with(counts, products, false)
    }

    /// The same; in the large width where asked for, or where one needs it.
    fn with(counts: &[(u32, i64)], products: usize, wide: bool) -> Self {
        let len = counts.len();
        // Some room, because products come one by one.
        let ids = products + products / 8 + 8;
        let is_dense = len > SMALL && ids * size_of::<i32>() <= DENSE * slots(len) * size_of::<Slot<i32>>();
        let is_wide = wide || counts.iter().any(|(_, value)| i32::try_from(*value).is_err());
        let table = match (is_dense, is_wide) {
            (false, false) => Table::Sparse(placed(counts)),
            (false, true) => Table::SparseWide(placed(counts)),
            (true, false) => Table::Dense(laid_out(counts, ids)),
            (true, true) => Table::DenseWide(laid_out(counts, ids)),
        };
        Row { table, len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Hands every id with its count to `take`.
    #[inline]
    pub fn each(&self, take: impl FnMut(u32, i64)) {
        match &self.table {
            Table::Sparse(slots) => slots.each(take),
            Table::SparseWide(slots) => slots.each(take),
            Table::Dense(counts) => each_of(counts, take),
            Table::DenseWide(counts) => each_of(counts, take),
        }
    }

    /// Every id with its count, in no order.
    pub fn counts(&self) -> Vec<(u32, i64)> {
        let mut counts = Vec::with_capacity(self.len + 1);
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
    #[inline]
    pub fn peek(&self, key: u32) -> u32 {
        match &self.table {
            Table::Sparse(slots) => slots.peek(key),
            Table::SparseWide(slots) => slots.peek(key),
            Table::Dense(counts) => counts.get(key as usize).map_or(0, |count| *count as u32),
            Table::DenseWide(counts) => counts.get(key as usize).map_or(0, |count| *count as u32),
        }
    }

    /// Adds to a count; answers the change in the number of counts: 1, 0 or -1. There are `products` ids.
    #[cfg(test)]
    pub fn add(&mut self, key: u32, delta: i64, products: usize) -> i64 {
        self.add_all(std::iter::once((key, delta)), products)
    }

    /// Adds to counts; answers the change in the number of them. There are `products` ids.
    #[inline(always)]
    pub fn add_all(&mut self, deltas: impl Iterator<Item = (u32, i64)>, products: usize) -> i64 {
        let (mut deltas, mut change) = (deltas, 0);
        // An array is looked for once, not for each of them.
        while let Some((key, delta)) = match &mut self.table {
            Table::Dense(counts) => add_quickly(counts, &mut deltas, &mut self.len, &mut change),
            Table::DenseWide(counts) => add_quickly(counts, &mut deltas, &mut self.len, &mut change),
            _ => deltas.next(),
        } {
            change += self.add_anyhow(key, delta, products);
        }
        change
    }

    #[inline(never)]
    fn add_anyhow(&mut self, key: u32, delta: i64, products: usize) -> i64 {
        let added = match &mut self.table {
            Table::Sparse(slots) => slots.add(key, delta, self.len),
            Table::SparseWide(slots) => slots.add(key, delta, self.len),
            Table::Dense(counts) => add_to(counts, key, delta),
            Table::DenseWide(counts) => add_to(counts, key, delta),
        };
        match added {
            Added::Done(change) => {
                self.len = self.len.wrapping_add_signed(change as isize);
                change
            }
            Added::Full => {
                self.grow(key, delta, products);
                1
            }
            Added::TooLarge => {
                *self = Self::with(&self.counts(), products.max(key as usize + 1), true);
                self.add_anyhow(key, delta, products)
            }
        }
    }

    /// Takes up another count: the table is full, or was made when there were fewer products.
    #[cold]
    fn grow(&mut self, key: u32, value: i64, products: usize) {
        let mut counts = self.counts();
        counts.push((key, value));
        *self = Self::from_counts(&counts, products.max(key as usize + 1));
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
}

/// A count that fits into this width.
fn fitting<V: Value>(value: i64) -> V {
    let fitting = V::try_from(value);
    debug_assert!(fitting.is_ok(), "{value} was to be wide");
    fitting.unwrap_or_default()
}

fn placed<V: Value>(counts: &[(u32, i64)]) -> Slots<V> {
    let mut slots = Slots::with_room(counts.len());
    for &(key, value) in counts {
        slots.place(key, fitting(value));
    }
    slots
}

fn laid_out<V: Value>(counts: &[(u32, i64)], ids: usize) -> Box<[V]> {
    let mut array = vec![V::default(); ids].into_boxed_slice();
    for &(key, value) in counts {
        array[key as usize] = fitting(value);
    }
    array
}

fn each_of<V: Value>(counts: &[V], mut take: impl FnMut(u32, i64)) {
    for (key, &value) in counts.iter().enumerate() {
        if value != V::default() {
            take(key as u32, value.into());
        }
    }
}

fn add_to<V: Value>(counts: &mut [V], key: u32, delta: i64) -> Added {
    let Some(count) = counts.get_mut(key as usize) else {
        return if delta == 0 { Added::Done(0) } else { Added::Full };
    };
    let (before, zero) = (*count, V::default());
    let Ok(after) = V::try_from(before.into() + delta) else {
        return Added::TooLarge;
    };
    *count = after;
    Added::Done(i64::from(before == zero) - i64::from(after == zero))
}

/// [`add_to`] as long as there is room for the key and for the sum, which is nearly always so; the first for which there
/// is none.
#[inline(always)]
fn add_quickly<V: Value>(
    counts: &mut [V],
    deltas: &mut impl Iterator<Item = (u32, i64)>,
    len: &mut usize,
    change: &mut i64,
) -> Option<(u32, i64)> {
    let (zero, mut quick) = (V::default(), 0);
    let rest = deltas.find(|&(key, delta)| {
        let Some(count) = counts.get_mut(key as usize) else {
            return true;
        };
        let before = *count;
        let Ok(after) = V::try_from(before.into() + delta) else {
            return true;
        };
        quick += i64::from(before == zero) - i64::from(after == zero);
        *count = after;
        false
    });
    *len = len.wrapping_add_signed(quick as isize);
    *change += quick;
    rest
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
        fn many_at_once_are_one_after_the_other(
            batches in prop::collection::vec(prop::collection::vec((0u32..150, -2i64..4), 0..120), 0..20),
            large in prop::option::of((0usize..20, 0u32..150)),
        ) {
            let (mut row, mut map) = (Row::default(), BTreeMap::<u32, i64>::new());
            for (at, mut batch) in batches.into_iter().enumerate() {
                // One that does not fit into half the width, now and then.
                batch.extend(large.filter(|(when, _)| *when == at).map(|(_, key)| (key, i64::from(i32::MAX))));
                let known = map.len() as i64;
                let change = row.add_all(batch.iter().copied(), 150);
                for (key, delta) in batch {
                    *map.entry(key).or_default() += delta;
                }
                map.retain(|_, value| *value != 0);
                prop_assert_eq!((row.len(), change), (map.len(), map.len() as i64 - known));
                prop_assert_eq!(&row.counts().into_iter().collect::<BTreeMap<_, _>>(), &map);
            }
        }

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
