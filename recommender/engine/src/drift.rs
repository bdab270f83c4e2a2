//! Drift: whether what customers do now still looks like what the model was made from.
//!
//! The measure is the population stability index of two histograms, `Σ (a − e) · ln(a / e)` over the shares of
//! the buckets (Siddiqi, "Credit Risk Scorecards", 2006, chapter 10): below 0.1 nothing to speak of, over 0.2 or 0.25 a shift.
//! Without any drift it is about `(buckets − 1) · (1/n + 1/m)` for samples of `n` and `m` events (Yurdakul,
//! "Statistical Properties of Population Stability Index", 2018, section 3): that much is taken off, so that a
//! small shop does not look as if it drifted.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::{event::EventKind, revision};

/// Products are counted in this many buckets by the hash of their name, and in one more while they are new.
const BUCKETS: usize = 64;
const KINDS: usize = 7;
/// Fewer events than this in either window say nothing.
const ENOUGH: u64 = 500;
/// Products remembered with the time that they were first seen; further ones do not count as new.
const MAX_KNOWN: usize = 2_000_000;

/// The two windows that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftWindows {
    /// Events are counted in slices of this many milliseconds.
    pub slice_ms: i64,
    /// Slices of the current window; the newest one is the present.
    pub current: usize,
    /// Slices of the reference window, which ends where the current one begins.
    pub reference: usize,
}

impl Default for DriftWindows {
    /// The last day against the week before it: every hour of the day is in both.
    fn default() -> Self {
        DriftWindows {
            slice_ms: 3_600_000,
            current: 24,
            reference: 7 * 24,
        }
    }
}

/// How far two windows differ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DriftReport {
    /// Index of the mix of products, 0 or more; a product first seen within the last current window is "new".
    pub products: f64,
    /// Index of the mix of event types, 0 or more.
    pub event_types: f64,
    /// Index of the mix of products against what the fitted models were made from; a product that was first seen
    /// after them is "new". Absent without fitted models, and while too few events from before them are known.
    ///
    /// Two windows that move together never see a season: each week is only a little unlike the one before it.
    pub since_fit: Option<f64>,
    /// Events of the reference window.
    pub reference_events: u64,
    /// Events of the current window.
    pub current_events: u64,
}

impl DriftReport {
    /// The largest of them.
    pub fn worst(&self) -> f64 {
        self.products
            .max(self.event_types)
            .max(self.since_fit.unwrap_or_default())
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Slice {
    /// `BUCKETS` of known products, then new ones.
    products: Vec<u32>,
    /// The same, but that new are those first seen after the fitted models were made.
    #[serde(default)]
    by_fit: Vec<u32>,
    /// The same, but that none is new: what the next fitted models are made from.
    #[serde(default)]
    all: Vec<u32>,
    kinds: [u32; KINDS],
}

impl Slice {
    fn empty() -> Self {
        Slice {
            products: vec![0; BUCKETS + 1],
            by_fit: vec![0; BUCKETS + 1],
            all: vec![0; BUCKETS + 1],
            kinds: [0; KINDS],
        }
    }
}

/// Counts events and compares windows. A function of the events and the time alone, so that replicas agree.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Drift {
    windows: DriftWindows,
    /// Oldest first; the last one is slice number `newest`.
    slices: VecDeque<Slice>,
    newest: i64,
    /// The first slice ever: what was new then was new only to us.
    begun: i64,
    /// Hash of a product's name → the slice that it was first seen in.
    known: HashMap<u64, i64, ahash::RandomState>,
    /// The slice in which the fitted models were made.
    #[serde(default)]
    fitted: Option<i64>,
    /// What they were made from, `by_fit`: the windows that ended then.
    #[serde(default)]
    made_from: Option<Vec<u32>>,
}

impl Drift {
    /// Nothing counted yet.
    pub fn new(windows: DriftWindows) -> Self {
        Drift {
            windows,
            slices: VecDeque::new(),
            newest: i64::MIN,
            begun: i64::MAX,
            known: HashMap::default(),
            fitted: None,
            made_from: None,
        }
    }

    /// Models were fitted of what happened before `made_ms`: from now on the present is compared with that too.
    /// `None`: there are no fitted models any more.
    pub fn fitted(&mut self, made_ms: Option<i64>) {
        let fitted = made_ms.map(|made| made.div_euclid(self.windows.slice_ms.max(1)));
        if fitted != self.fitted {
            (self.fitted, self.made_from) = (fitted, None);
        }
    }

    /// Whether it counts for these windows, and holds what it should: one that was read from somewhere may not.
    pub fn is_of(&self, windows: DriftWindows) -> bool {
        let whole = |slice: &Slice| {
            [&slice.products, &slice.by_fit, &slice.all]
                .iter()
                .all(|counts| counts.len() == BUCKETS + 1)
        };
        self.windows == windows
            && self.slices.len() <= windows.current + windows.reference
            && self.slices.iter().all(whole)
            && self
                .made_from
                .as_ref()
                .is_none_or(|made| made.len() == BUCKETS + 1)
            && self.known.len() <= MAX_KNOWN
    }

    /// Counts one event; one that is older than both windows is not counted.
    pub fn observe(&mut self, product: &str, kind: EventKind, time_ms: i64) {
        let number = time_ms.div_euclid(self.windows.slice_ms.max(1));
        self.advance(number);
        self.begun = self.begun.min(number);
        let hash = revision::hash(product.as_bytes());
        let first = if self.known.len() < MAX_KNOWN {
            let first = self.known.entry(hash).or_insert(number);
            // Out of order: it was there earlier than thought.
            *first = (*first).min(number);
            *first
        } else {
            self.known.get(&hash).copied().unwrap_or(i64::MIN)
        };
        let back = usize::try_from(self.newest - number).unwrap_or(usize::MAX);
        let Some(at) = self
            .slices
            .len()
            .checked_sub(1)
            .and_then(|last| last.checked_sub(back))
        else {
            return;
        };
        let window = self.windows.current as i64;
        let is_new = first > number.saturating_sub(window) && first >= self.begun.saturating_add(window);
        // The low bits of FNV-1a are its weakest.
        let known = (hash >> 32) as usize % BUCKETS;
        let is_unmade = self.fitted.is_some_and(|fitted| first > fitted);
        let bucket = |is_new| if is_new { BUCKETS } else { known };
        let slice = &mut self.slices[at];
        for (counts, is_new) in [
            (&mut slice.products, is_new),
            (&mut slice.by_fit, is_unmade),
            (&mut slice.all, false),
        ] {
            let count = &mut counts[bucket(is_new)];
            *count = count.saturating_add(1);
        }
        slice.kinds[kind as usize] = slice.kinds[kind as usize].saturating_add(1);
    }

    /// Makes `number` the newest slice, if it is newer.
    fn advance(&mut self, number: i64) {
        if number <= self.newest {
            return;
        }
        let capacity = self.windows.current + self.windows.reference;
        let gap = if self.slices.is_empty() {
            1
        } else {
            usize::try_from(number.saturating_sub(self.newest)).unwrap_or(usize::MAX)
        };
        for _ in 0..gap.min(capacity) {
            if self.slices.len() == capacity {
                self.slices.pop_front();
            }
            self.slices.push_back(Slice::empty());
        }
        self.newest = number;
    }

    /// Compares the windows that end at `now_ms`; `None` while either has too few events to say anything.
    pub fn report(&mut self, now_ms: i64) -> Option<DriftReport> {
        if self.slices.is_empty() {
            return None;
        }
        self.advance(now_ms.div_euclid(self.windows.slice_ms.max(1)));
        let split = self.slices.len().saturating_sub(self.windows.current);
        let sum = |slices: &mut dyn Iterator<Item = &Slice>| {
            let mut total = Slice::empty();
            for slice in slices {
                add(&mut total.products, &slice.products);
                add(&mut total.kinds, &slice.kinds);
            }
            total
        };
        let reference = sum(&mut self.slices.range(..split));
        let current = sum(&mut self.slices.range(split..));
        let events = |slice: &Slice| slice.kinds.iter().map(|n| u64::from(*n)).sum::<u64>();
        let (reference_events, current_events) = (events(&reference), events(&current));
        if self.made_from.is_none() {
            self.made_from = self.before_fit();
        }
        let since_fit = self
            .made_from
            .as_ref()
            .map(|made| psi(made, &self.against_fit(split)));
        (reference_events >= ENOUGH && current_events >= ENOUGH).then(|| DriftReport {
            products: psi(&reference.products, &current.products),
            event_types: psi(&reference.kinds, &current.kinds),
            since_fit,
            reference_events,
            current_events,
        })
    }

    /// The current window as the fitted models see it: what happened before they were made is no news to them, though
    /// it may have been to those before.
    fn against_fit(&self, split: usize) -> Vec<u32> {
        let last = self.slices.len() as i64 - 1;
        let mut counts = vec![0; BUCKETS + 1];
        for (at, slice) in self.slices.iter().enumerate().skip(split) {
            let number = self.newest - (last - at as i64);
            let later = self.fitted.is_some_and(|fitted| number > fitted);
            add(&mut counts, if later { &slice.by_fit } else { &slice.all });
        }
        counts
    }

    /// What the fitted models were made from, as far as the windows still hold it.
    fn before_fit(&self) -> Option<Vec<u32>> {
        let later = usize::try_from(self.newest.saturating_sub(self.fitted?)).ok()?;
        let mut made = vec![0; BUCKETS + 1];
        for slice in self.slices.iter().rev().skip(later) {
            add(&mut made, &slice.all);
        }
        let events: u64 = made.iter().map(|n| u64::from(*n)).sum();
        (events >= ENOUGH).then_some(made)
    }
}

fn add(total: &mut [u32], more: &[u32]) {
    for (total, more) in total.iter_mut().zip(more) {
        *total = total.saturating_add(*more);
    }
}

/// Population stability index of counts in the same buckets, less what chance alone makes of it; 0 or more.
/// Buckets that are empty on both sides do not count; half an event is added to each side of the others.
pub fn psi(expected: &[u32], actual: &[u32]) -> f64 {
    let used: Vec<(f64, f64)> = expected
        .iter()
        .zip(actual)
        .filter(|(e, a)| **e > 0 || **a > 0)
        .map(|(e, a)| (f64::from(*e) + 0.5, f64::from(*a) + 0.5))
        .collect();
    let (n, m) = used.iter().fold((0.0, 0.0), |(n, m), (e, a)| (n + e, m + a));
    if used.len() < 2 {
        return 0.0;
    }
    let index: f64 = used
        .iter()
        .map(|(e, a)| (a / m - e / n) * ((a / m) / (e / n)).ln())
        .sum();
    let chance = (used.len() - 1) as f64 * (1.0 / n + 1.0 / m);
    (index - chance).max(0.0)
}

#[cfg(test)]
mod tests;
