//! Pairs counted from what a customer's history was to what it is.
//!
//! Counts are sums over customers of what their histories say, so that it does not matter by which events a history
//! came to be what it is. A basket is many events of one customer, one after the other: counting together what they
//! changed touches each pair once, and what came into the window and left it again not at all. So a customer is counted
//! when somebody else's event comes, and with the next publish at the latest.

use std::sync::Arc;

use crate::{
    counts::{Counts, share, square},
    history::{Entry, History, Names},
    shared::CustomerSlot,
    writer::Writer,
};

/// The customer whose history has changed since it was counted, with the history that was.
pub(crate) type Uncounted = Option<(Arc<CustomerSlot>, Arc<History>)>;

/// Products whose counts with each other are fetched ahead at most.
const FETCHED: usize = 128;

/// An interest of a customer that is counted in pairs, as it was and as it is.
#[derive(Clone, Copy, Debug)]
struct Moved {
    product: u32,
    was: u16,
    is: u16,
}

impl Moved {
    fn new(of: &Entry, was: u16, is: u16) -> Self {
        Moved {
            product: of.product,
            was,
            is,
        }
    }
}

/// Those whose counts with the one in this place change: the first `changed` meet all, the others meet those.
fn partners(moved: &[Moved], changed: usize, at: usize) -> &[Moved] {
    &moved[..if at < changed { moved.len() } else { changed }]
}

/// Buffers of [`Counts::recount`].
#[derive(Default)]
pub(crate) struct Recount {
    moved: Vec<Moved>,
    kept: Vec<Moved>,
}

impl Recount {
    /// Sorts the interests of both histories into those that moved and those that are what they were. Both stand in one
    /// order, and what was not touched keeps its place among the rest.
    fn compare(&mut self, before: &History, after: &History, window: usize, names: &impl Names) {
        self.moved.clear();
        self.kept.clear();
        let (mut old, mut new) = (
            before.counted(window).peekable(),
            after.counted(window).peekable(),
        );
        loop {
            match (old.peek(), new.peek()) {
                (Some(was), Some(is)) if (was.product, was.last_ms) == (is.product, is.last_ms) => {
                    let moved = Moved::new(is, was.interest, is.interest);
                    if was.interest == is.interest {
                        self.kept.push(moved);
                    } else {
                        self.moved.push(moved);
                    }
                    old.next();
                    new.next();
                }
                (Some(was), is) if is.is_none_or(|is| was.is_newer(is, names)) => {
                    self.moved.push(Moved::new(was, was.interest, 0));
                    old.next();
                }
                (_, Some(is)) => {
                    self.moved.push(Moved::new(is, 0, is.interest));
                    new.next();
                }
                (_, None) => break,
            }
        }
        self.join();
        self.kept.retain(|kept| kept.is > 0);
    }

    /// A product that moved to another place was met twice, where it was and where it is.
    fn join(&mut self) {
        let mut at = 0;
        while at < self.moved.len() {
            let one = self.moved[at];
            if let Some(twin) = self.moved[at + 1..]
                .iter()
                .position(|other| other.product == one.product)
            {
                let twin = self.moved.swap_remove(at + 1 + twin);
                let joined = &mut self.moved[at];
                (joined.was, joined.is) = (one.was + twin.was, one.is + twin.is);
                if joined.was == joined.is {
                    self.kept.push(*joined);
                }
            }
            at += 1;
        }
        self.moved.retain(|moved| moved.was != moved.is);
    }
}

impl Counts {
    /// Counts the pairs of a customer whose history was `before` and is `after`.
    pub fn recount(&mut self, before: &History, after: &History, names: &impl Names) {
        if !self.counts_pairs() {
            return;
        }
        let mut work = std::mem::take(&mut self.recounting);
        work.compare(before, after, self.counting.window, names);
        let damping = self.counting.damping;
        let (old_share, new_share) = (share(before.degree, damping), share(after.degree, damping));
        for moved in &work.moved {
            self.degrees[moved.product as usize] += i64::from(moved.is) - i64::from(moved.was);
        }
        // A share that changed changes every pair.
        let changed = work.moved.len()
            + if old_share == new_share {
                0
            } else {
                work.kept.len()
            };
        if changed == 0 {
            // Nor is anything to be shown anew.
            self.recounting = work;
            return;
        }
        work.moved.append(&mut work.kept);
        self.fetch(&work.moved, changed);
        let moved = &work.moved;
        for (at, one) in moved.iter().enumerate() {
            let product = one.product;
            let others = partners(moved, changed, at);
            if at < changed {
                self.norms[product as usize] += square(one.is) * new_share - square(one.was) * old_share;
                self.rescale(product);
            }
            let (is, was) = (i64::from(one.is) * new_share, i64::from(one.was) * old_share);
            let delta = |other: &Moved| {
                let sum = is * i64::from(other.is) - was * i64::from(other.was);
                (other.product, sum)
            };
            // Not with itself.
            let (first, rest) = others.split_at(at.min(others.len()));
            let rest = rest.get(1..).unwrap_or_default();
            self.shift(product, first.iter().chain(rest).map(delta));
        }
        self.recounting = work;
    }

    /// The counts lie all over memory: asking for all of them before the first is needed lets the processor fetch them
    /// side by side. Of more than its nearest caches hold the first would be gone again.
    fn fetch(&self, products: &[Moved], changed: usize) {
        if products.len() > FETCHED {
            return;
        }
        let mut seen = 0;
        for (at, one) in products.iter().enumerate() {
            let row = &self.rows[one.product as usize];
            seen = partners(products, changed, at)
                .iter()
                .fold(seen, |seen, other| seen ^ row.peek(other.product));
        }
        std::hint::black_box(seen);
    }

    /// Adds to counts of a product with others.
    fn shift(&mut self, product: u32, deltas: impl Iterator<Item = (u32, i64)>) {
        let (capacity, products) = (self.counting.row_capacity, self.rows.len());
        let row = &mut self.rows[product as usize];
        self.pairs += row.add_all(deltas, products);
        if row.len() > capacity {
            self.pairs -= row.prune(capacity / 2, products) as i64;
            self.cut = true;
        }
        self.mark(product);
    }

    /// Takes a whole history back out.
    pub fn erase(&mut self, history: &History, names: &impl Names) {
        for entry in &history.entries {
            self.shift_popularity(Some(entry), None);
        }
        self.recount(history, &History::default(), names);
    }
}

impl Writer {
    /// Has a customer's pairs counted later, whose history was `before`.
    pub(crate) fn count_later(&mut self, slot: Arc<CustomerSlot>, before: Arc<History>) {
        if let Some((waiting, _)) = &self.uncounted
            && Arc::ptr_eq(waiting, &slot)
        {
            return;
        }
        self.count_now();
        self.uncounted = Some((slot, before));
    }

    /// Counts the pairs of the customer who waits for it. To be called before counts are read, and before anybody
    /// leaves.
    pub(crate) fn count_now(&mut self) {
        if let Some((slot, before)) = self.uncounted.take() {
            self.counts.recount(&before, &slot.history.load(), &self.names);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::Repeats,
        counts::{Counting, Ordered},
        event::EventKind,
        history::{HistoryRules, Weighted},
    };

    const PRODUCTS: u32 = 12;

    fn empty(damping: bool) -> Counts {
        let mut counts = Counts::new(Counting {
            window: 5,
            row_capacity: 100,
            damping,
            trend_half_life_ms: 1_000,
            ..Counting::default()
        });
        counts.grow(PRODUCTS as usize);
        counts
    }

    type Sums = (Vec<BTreeMap<u32, i64>>, Vec<i64>, Vec<i64>, i64);

    fn sums(counts: &Counts) -> Sums {
        let rows = counts.rows.iter().map(|row| row.counts().into_iter().collect());
        (
            rows.collect(),
            counts.norms.clone(),
            counts.degrees.clone(),
            counts.pairs,
        )
    }

    /// What the sums are by their definition.
    fn by_definition(history: &History, damping: bool) -> Sums {
        let mut rows = vec![BTreeMap::new(); PRODUCTS as usize];
        let (mut norms, mut degrees) = (vec![0; PRODUCTS as usize], vec![0; PRODUCTS as usize]);
        let counted: Vec<_> = history.counted(5).filter(|entry| entry.interest > 0).collect();
        let share = share(counted.len() as u32, damping);
        for one in &counted {
            let (at, interest) = (one.product as usize, i64::from(one.interest));
            norms[at] += interest * interest * share;
            degrees[at] += interest;
            for other in counted.iter().filter(|other| other.product != one.product) {
                rows[at].insert(other.product, interest * i64::from(other.interest) * share);
            }
        }
        let pairs = rows.iter().map(|row| row.len() as i64).sum();
        (rows, norms, degrees, pairs)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn by_which_steps_a_history_came_to_be_does_not_matter(
            events in prop::collection::vec((0..PRODUCTS, 0usize..3, 0i64..40), 1..60),
            steps in prop::collection::vec(any::<bool>(), 60),
            damping: bool,
        ) {
            let mut names = Ordered::default();
            (0..PRODUCTS).for_each(|n| names.push(format!("p{}", n * 7 % PRODUCTS).into()));
            let rules = HistoryRules { capacity: 7, window: 5, repeats: Repeats::Log, max_per_minute: 0 };
            let mut counts = empty(damping);
            let (mut history, mut counted) = (History::default(), History::default());
            for ((product, kind, time_ms), step) in events.into_iter().zip(steps) {
                let kind = [EventKind::View, EventKind::Purchase, EventKind::Return][kind];
                let units = if kind == EventKind::Return { -320 } else { 64 };
                history.record(&Weighted { product, kind, units, time_ms }, &rules, &names);
                if step {
                    counts.recount(&counted, &history, &names);
                    counted = history.clone();
                }
            }
            counts.recount(&counted, &history, &names);
            prop_assert_eq!(sums(&counts), by_definition(&history, damping));
            counts.recount(&history, &History::default(), &names);
            prop_assert_eq!(sums(&counts), sums(&empty(damping)));
        }
    }
}
