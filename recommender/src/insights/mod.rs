//! What customers do with what is shown to them, and what they do at all: the last week of events and impressions,
//! kept in memory, from which figures are computed when somebody asks.
//!
//! What is kept is a set of records: neither the order in which two topics are read nor a restart changes it, so
//! that every replica tells the same figures. Its size is bounded: where it would not fit, it is kept of half of the
//! customers, of a quarter, and so on, always those whose hash ends in so many zeros (Gibbons, "Distinct Sampling for
//! Highly-Accurate Answers to Distinct Values Queries", VLDB 2001). Whole customers go, so that what is told of the
//! others stays true; counts are multiplied accordingly.

mod acts;
mod arms;
pub mod codec;
mod credit;
pub mod desk;
mod kept;
pub mod ksqldb;
mod names;
pub mod report;
mod shop;
pub mod stats;

use std::collections::HashMap;
use std::sync::Arc;

use recommendation_api::Impression;
use recommendation_api::event::EventRef;
use xxhash_rust::xxh3::xxh3_64;

use self::kept::{Act, Cell, SHARDS, Shard, Shown, Step};
pub use self::kept::{Answered, Kept};
use self::names::Names;

/// An hour in milliseconds.
const HOUR_MS: i64 = 3_600_000;
/// A day in milliseconds.
pub const DAY_MS: i64 = 24 * HOUR_MS;
/// Days that figures may be about.
pub const DAYS: u8 = 7;
/// For how long an answer gets the credit for what follows it.
pub const CREDIT_MS: i64 = DAY_MS;
/// Records older than this, measured from the newest one, are forgotten: figures about the first day still need the
/// answers of the day before it.
pub const KEPT_MS: i64 = DAYS as i64 * DAY_MS + CREDIT_MS;
/// Memory for what is kept, bytes: three to five million records.
const ROOM: usize = 128 << 20;
/// Combinations of experiment, arm and placement; further placements count as `other`.
const MAX_CELLS: usize = 1_000;
/// The name of placements beyond these.
const OTHER: &str = "other";

/// The ingest thread's side: takes records up and hands out what is kept.
pub struct Insights {
    shards: Vec<Arc<Shard>>,
    names: Names,
    cells: Arc<Vec<Cell>>,
    newest_ms: i64,
    halvings: u32,
    room: usize,
    /// Whether what is past its time goes day by day.
    sweeps_daily: bool,
    /// Erased customers, by hash, while impressions from before may come.
    erased: HashMap<u64, i64, ahash::RandomState>,
}

impl Default for Insights {
    fn default() -> Self {
        Self::with_room(ROOM)
    }
}

impl Insights {
    /// For about so many bytes.
    pub fn with_room(room: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Arc::default()).collect(),
            names: Names::default(),
            cells: Arc::default(),
            newest_ms: i64::MIN,
            halvings: 0,
            room,
            sweeps_daily: true,
            erased: HashMap::default(),
        }
    }

    /// Goes on from what was kept.
    pub fn resume(kept: Kept) -> Self {
        Self {
            names: Names::of(kept.names),
            shards: kept.shards,
            cells: kept.cells,
            newest_ms: kept.newest_ms,
            halvings: kept.halvings,
            room: ROOM,
            sweeps_daily: true,
            erased: HashMap::default(),
        }
    }

    /// Whether what is past its time goes day by day. Not while a log of a year is read: every day of it would be swept
    /// for itself, for nothing but what the last sweep leaves. Turned on again, it sweeps at once.
    pub fn sweep_daily(&mut self, daily: bool) {
        self.sweeps_daily = daily;
        if daily {
            (0..SHARDS).for_each(|shard| self.sweep(shard));
        }
    }

    /// Takes up an event of `customer`, whatever it calls them, that happened at `time_ms`.
    pub fn event(&mut self, customer: &str, event: &EventRef<'_>, time_ms: i64) {
        let (Some(step), Some(product)) = (Step::of(&event.event_type), &event.product_id) else {
            return;
        };
        let Some((shard, customer)) = self.place(customer, time_ms) else {
            return;
        };
        let Some(product) = self.names.number(product) else {
            return;
        };
        let act = Act {
            time_ms,
            recommendation: event.recommendation_id.as_deref().map_or(0, number),
            product,
            step,
            value: event
                .price
                .map_or(Act::UNPRICED, |price| price * event.quantity.unwrap_or(1.0)),
        };
        Arc::make_mut(&mut self.shards[shard]).act(customer, act);
        self.make_room(shard);
    }

    /// Takes up what was shown to `customer`; the same answer twice counts once.
    pub fn impression(&mut self, customer: &str, impression: &Impression) {
        let until_ms = self.erased.get(&xxh3_64(customer.as_bytes()));
        if until_ms.is_some_and(|until_ms| impression.time_ms <= *until_ms) {
            return;
        }
        let Some((shard, customer)) = self.place(customer, impression.time_ms) else {
            return;
        };
        let shown = Shown {
            time_ms: impression.time_ms,
            recommendation: number(&impression.recommendation_id),
            cell: self.cell(impression),
            products: impression
                .items
                .iter()
                .filter_map(|item| self.names.number(&item.product_id))
                .collect(),
        };
        Arc::make_mut(&mut self.shards[shard]).shown(customer, shown);
        self.make_room(shard);
    }

    /// Forgets a customer, by the [hash](recommender_engine::owner) of their id, with what was shown to them up to
    /// `until_ms`.
    pub fn erase(&mut self, owner: u64, until_ms: i64) {
        Arc::make_mut(&mut self.shards[shard_of(owner)]).take(owner);
        self.bar(owner, until_ms);
    }

    /// From now on takes up nothing that was shown to a customer up to `until_ms`: impressions may be read later than
    /// the erasure that is meant for them.
    pub fn bar(&mut self, owner: u64, until_ms: i64) {
        if until_ms > self.newest_ms.saturating_sub(KEPT_MS) {
            let known = self.erased.entry(owner).or_insert(until_ms);
            *known = until_ms.max(*known);
        }
    }

    /// What was known of `from` is of `into` from now on: a visit turned out to be a customer's.
    pub fn fold(&mut self, from: &str, into: &str) {
        let (from, into) = (xxh3_64(from.as_bytes()), xxh3_64(into.as_bytes()));
        if from == into {
            return;
        }
        let Some(known) = Arc::make_mut(&mut self.shards[shard_of(from)]).take(from) else {
            return;
        };
        if in_sample(into, self.halvings) {
            Arc::make_mut(&mut self.shards[shard_of(into)]).add(into, known);
        }
    }

    /// What is kept now; later records do not change it. Takes microseconds: what is changed after is copied then.
    pub fn freeze(&self) -> Kept {
        Kept {
            shards: self.shards.clone(),
            names: self.names.freeze(),
            cells: Arc::clone(&self.cells),
            newest_ms: self.newest_ms,
            halvings: self.halvings,
        }
    }

    /// Where records of a customer go; `None` for what is not kept.
    fn place(&mut self, customer: &str, time_ms: i64) -> Option<(usize, u64)> {
        if time_ms < self.newest_ms.saturating_sub(KEPT_MS) {
            return None;
        }
        if time_ms > self.newest_ms {
            let another_day = time_ms.div_euclid(DAY_MS) != self.newest_ms.div_euclid(DAY_MS);
            self.newest_ms = time_ms;
            // Also where there is room: what is past its time is personal, and of no use.
            if another_day {
                let oldest = time_ms.saturating_sub(KEPT_MS);
                self.erased.retain(|_, until_ms| *until_ms > oldest);
                if self.sweeps_daily {
                    (0..SHARDS).for_each(|shard| self.sweep(shard));
                }
            }
        }
        let hash = xxh3_64(customer.as_bytes());
        in_sample(hash, self.halvings).then(|| (shard_of(hash), hash))
    }

    fn sweep(&mut self, shard: usize) {
        if !self.shards[shard].is_empty() {
            let oldest = self.newest_ms.saturating_sub(KEPT_MS);
            Arc::make_mut(&mut self.shards[shard]).sweep(oldest, self.halvings);
        }
    }

    fn make_room(&mut self, shard: usize) {
        let room = self.room / SHARDS;
        if self.shards[shard].bytes() <= room {
            return;
        }
        self.sweep(shard);
        // A quarter of the room at least is gained, or sweeping would never end.
        if self.shards[shard].bytes() > room / 4 * 3 {
            self.halvings += 1;
            (0..SHARDS).for_each(|shard| self.sweep(shard));
        }
    }

    fn cell(&mut self, impression: &Impression) -> u16 {
        let find = |cells: &[Cell], placement: Option<&str>| {
            cells
                .iter()
                .position(|cell| cell.is(impression.experiment.as_deref(), &impression.arm, placement))
        };
        let mut placement = impression.placement.as_deref();
        let mut found = find(&self.cells, placement);
        // Requests name placements: they must not fill the memory.
        if found.is_none() && self.cells.len() >= MAX_CELLS {
            placement = Some(OTHER);
            found = find(&self.cells, placement);
        }
        let found = found.unwrap_or_else(|| {
            let cells = Arc::make_mut(&mut self.cells);
            cells.push(Cell {
                experiment: impression.experiment.as_deref().map(Into::into),
                arm: impression.arm.as_str().into(),
                placement: placement.map(Into::into),
            });
            cells.len() - 1
        });
        u16::try_from(found).unwrap_or(u16::MAX)
    }
}

/// A text by number, the same everywhere; never 0, which means none.
fn number(text: &str) -> u64 {
    xxh3_64(text.as_bytes()).max(1)
}

fn shard_of(hash: u64) -> usize {
    (hash >> 58) as usize
}

fn in_sample(hash: u64, halvings: u32) -> bool {
    hash.trailing_zeros() >= halvings
}

#[cfg(test)]
mod tests;
