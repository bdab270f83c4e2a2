//! What one customer did, folded so that the result does not depend on the order of events.

use std::collections::{VecDeque, vec_deque};

/// Interest in integers: this many steps per doubling of a customer's summed event weights.
pub(crate) const INTEREST_STEPS: f64 = 16.0;
/// Event weights in fixed point: this many units per 1.0.
pub(crate) const WEIGHT_UNITS: f32 = 64.0;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{
    config::{EngineConfig, Repeats},
    event::EventKind,
};

/// The order of products' names.
pub(crate) trait Names {
    /// How the names of two products compare.
    fn compare(&self, a: u32, b: u32) -> std::cmp::Ordering;
}

/// One product in a customer's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Newest event that was not a return; 0 if only returns came so far.
    pub last_ms: i64,
    /// Interned product.
    pub product: u32,
    /// Summed weights of all events, fixed point; may be below zero while a return is ahead of its purchase.
    pub total: i32,
    /// Purchases less returns.
    pub purchases: i16,
    /// What `total` means for the models: integer, 0 or more.
    pub interest: u16,
    /// Bit set of the kinds seen.
    pub kinds: u8,
}

impl Entry {
    fn empty(product: u32) -> Self {
        Entry {
            last_ms: 0,
            product,
            total: 0,
            purchases: 0,
            interest: 0,
            kinds: 0,
        }
    }

    /// The strongest kind seen; a purchase that was returned no longer is one.
    pub fn strongest(&self) -> EventKind {
        let seen = |kind| self.kinds & bit(kind) != 0;
        if self.purchases > 0 {
            EventKind::Purchase
        } else if let Some(kind) = [
            EventKind::Cart,
            EventKind::Click,
            EventKind::View,
            EventKind::Email,
        ]
        .into_iter()
        .find(|k| seen(*k))
        {
            kind
        } else if seen(EventKind::Return) {
            EventKind::Return
        } else {
            EventKind::Other
        }
    }

    /// Whether it stands before another in a history. Ties (a basket) are decided by name, because numbers
    /// depend on the order in which products became known.
    pub fn is_newer(&self, other: &Entry, names: &impl Names) -> bool {
        let order = self.last_ms.cmp(&other.last_ms);
        order
            .then_with(|| names.compare(self.product, other.product))
            .is_gt()
    }
}

fn bit(kind: EventKind) -> u8 {
    1 << match kind {
        EventKind::View => 0,
        EventKind::Click => 1,
        EventKind::Cart => 2,
        EventKind::Purchase => 3,
        EventKind::Return => 4,
        EventKind::Email => 5,
        EventKind::Other => 6,
    }
}

/// Weight in fixed point.
pub(crate) fn units(weight: f32) -> i32 {
    (weight * WEIGHT_UNITS).round() as i32
}

/// How much a sum of weights says: an integer so that sums of products of it are exact.
pub(crate) fn interest(repeats: Repeats, total: i32) -> u16 {
    if total <= 0 {
        return 0;
    }
    match repeats {
        Repeats::Binary => INTEREST_STEPS as u16,
        Repeats::Log => {
            let doublings = (1.0 + f64::from(total) / f64::from(WEIGHT_UNITS)).log2();
            ((doublings * INTEREST_STEPS).round() as u16).max(1)
        }
    }
}

/// An event reduced to what a history needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weighted {
    pub product: u32,
    pub kind: EventKind,
    pub units: i32,
    pub time_ms: i64,
}

/// The bounds that a history keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HistoryRules {
    pub capacity: usize,
    /// The newest entries that are counted in pairs.
    pub window: usize,
    pub repeats: Repeats,
    pub max_per_minute: u32,
}

impl HistoryRules {
    /// Those of a configuration.
    pub fn of(config: &EngineConfig) -> Self {
        HistoryRules {
            capacity: config.limits.learn_history,
            window: config.limits.pair_history,
            repeats: config.repeats,
            max_per_minute: config.max_events_per_minute,
        }
    }
}

/// What one event changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub before: Option<Entry>,
    pub after: Entry,
    /// What it pushed out of the history.
    pub evicted: Option<Entry>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Recorded {
    Changed(Change),
    Damped,
    TooOld,
}

/// A customer's events in the last minute that one came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Minutes since 1970.
    pub(crate) minute: i64,
    pub(crate) events: u32,
}

impl Rate {
    /// Counts an event; answers whether its minute has more than `most`, where that is not 0.
    pub(crate) fn exceeds(&mut self, time_ms: i64, most: u32) -> bool {
        if most == 0 {
            return false;
        }
        let minute = time_ms.div_euclid(60_000);
        if minute != self.minute {
            *self = Rate { minute, events: 0 };
        }
        self.events = self.events.saturating_add(1);
        self.events > most
    }
}

/// A customer's products, newest first (ties by name), no product twice. What is new comes in at the front, hence a
/// queue with two ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub entries: VecDeque<Entry>,
    /// Newest event of any kind.
    pub newest_ms: i64,
    /// How many of the counted entries interest the customer.
    pub degree: u32,
    pub rate: Rate,
    /// Of the entries, once somebody has asked for it.
    pub digest: Digest,
}

/// A number that is worked out when it is first asked for; 0 until then. Whoever copies a history means to change it.
#[derive(Debug, Default)]
pub(crate) struct Digest(AtomicU64);

impl Clone for Digest {
    fn clone(&self) -> Self {
        Digest::default()
    }
}

impl Digest {
    /// The number, which `work_out` finds where nobody has yet. Two readers may both do so, and find the same.
    pub fn get(&self, work_out: impl FnOnce() -> u64) -> u64 {
        match self.0.load(Relaxed) {
            0 => {
                let digest = work_out().max(1);
                self.0.store(digest, Relaxed);
                digest
            }
            known => known,
        }
    }
}

impl History {
    /// A history as it was written down.
    pub fn restored(entries: Vec<Entry>, newest_ms: i64, window: usize, rate: Rate) -> History {
        let counted = &entries[..entries.len().min(window)];
        let degree = counted.iter().filter(|entry| entry.interest > 0).count() as u32;
        History {
            degree,
            entries: entries.into(),
            newest_ms,
            rate,
            digest: Digest::default(),
        }
    }

    /// An empty history with room for so many products.
    pub fn with_capacity(products: usize) -> History {
        History {
            entries: VecDeque::with_capacity(products),
            ..History::default()
        }
    }

    /// A copy with room for one more entry and not for twice as many.
    pub fn with_room(&self) -> History {
        let mut entries = VecDeque::with_capacity(self.entries.len() + 1);
        let (front, back) = self.entries.as_slices();
        entries.extend(front);
        entries.extend(back);
        History {
            entries,
            digest: Digest::default(),
            ..*self
        }
    }

    /// Folds one event in. While `capacity` and `max_per_minute` do not bind, the entries are the same
    /// whatever the order of the events.
    pub fn record(&mut self, event: &Weighted, rules: &HistoryRules, names: &impl Names) -> Recorded {
        if self.rate.exceeds(event.time_ms, rules.max_per_minute) {
            return Recorded::Damped;
        }
        let at = self
            .entries
            .iter()
            .position(|entry| entry.product == event.product);
        let before = at.map(|at| self.entries[at]);
        let mut after = before.unwrap_or(Entry::empty(event.product));
        after.total = after.total.saturating_add(event.units);
        after.interest = interest(rules.repeats, after.total);
        after.kinds |= bit(event.kind);
        match event.kind {
            EventKind::Purchase => after.purchases = after.purchases.saturating_add(1),
            EventKind::Return => after.purchases = after.purchases.saturating_sub(1),
            _ => {}
        }
        // A return says nothing new about interest, so it must not make the product look recent.
        if event.kind != EventKind::Return {
            after.last_ms = after.last_ms.max(event.time_ms);
        }
        let recorded = self.settle(at, before, after, rules, names);
        if matches!(recorded, Recorded::Changed(_)) {
            self.newest_ms = self.newest_ms.max(event.time_ms);
        }
        recorded
    }

    /// Folds in what another history knows of a product, as if its events had been recorded here.
    pub fn absorb(&mut self, other: &Entry, rules: &HistoryRules, names: &impl Names) -> Recorded {
        let at = self
            .entries
            .iter()
            .position(|entry| entry.product == other.product);
        let before = at.map(|at| self.entries[at]);
        let mut after = before.unwrap_or(Entry::empty(other.product));
        after.total = after.total.saturating_add(other.total);
        after.interest = interest(rules.repeats, after.total);
        after.kinds |= other.kinds;
        after.purchases = after.purchases.saturating_add(other.purchases);
        after.last_ms = after.last_ms.max(other.last_ms);
        let recorded = self.settle(at, before, after, rules, names);
        if matches!(recorded, Recorded::Changed(_)) {
            self.newest_ms = self.newest_ms.max(other.last_ms);
        }
        recorded
    }

    /// Puts an entry into its place, which `before` had at `at`.
    fn settle(
        &mut self,
        at: Option<usize>,
        before: Option<Entry>,
        after: Entry,
        rules: &HistoryRules,
        names: &impl Names,
    ) -> Recorded {
        let length = self.entries.len();
        let mut evicted = None;
        if let Some(at) = at {
            self.entries.remove(at);
        } else if length >= rules.capacity {
            match self.entries.back() {
                Some(oldest) if oldest.is_newer(&after, names) => return Recorded::TooOld,
                _ => evicted = self.entries.pop_back(),
            }
        }
        let position = self
            .entries
            .partition_point(|entry| entry.is_newer(&after, names));
        self.entries.insert(position, after);
        // An entry never moves towards the old end, so what was counted still is.
        let was_counted = at.is_some_and(|at| at < rules.window);
        let is_counted = position < rules.window;
        let left = if !is_counted || was_counted {
            None
        } else if self.entries.len() > rules.window {
            Some(self.entries[rules.window])
        } else {
            // With a window as large as the history, leaving both is one.
            evicted.filter(|_| length <= rules.window)
        };
        let interesting = |entry: Option<&Entry>| u32::from(entry.is_some_and(|entry| entry.interest > 0));
        let gained = interesting(Some(&after).filter(|_| is_counted));
        let lost = interesting(before.as_ref().filter(|_| was_counted)) + interesting(left.as_ref());
        self.degree = self.degree + gained - lost;
        Recorded::Changed(Change {
            before,
            after,
            evicted,
        })
    }

    /// The entries that are counted in pairs.
    pub fn counted(&self, window: usize) -> vec_deque::Iter<'_, Entry> {
        self.entries.range(..self.entries.len().min(window))
    }
}

#[cfg(test)]
mod tests;
