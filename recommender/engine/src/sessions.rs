//! Visits: which are going on, which have ended and may answer for others.
//!
//! A visit ends by the time of events, not by the clock of the machine: when its customer comes back after a
//! long pause, or when anyone's event is so much newer. So which visits have ended, and what they hold, is a
//! function of each customer's events and of the newest time seen, whatever the order between customers; an
//! event that comes late for a visit that ended still joins it. (The caps, [`Limits::max_sessions`] and
//! [`Limits::postings`], keep the newest.)
//!
//! [`Limits::max_sessions`]: crate::Limits::max_sessions
//! [`Limits::postings`]: crate::Limits::postings

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::atomic::Ordering::Relaxed,
};

use ahash::AHashMap;
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

mod keep;
mod show;

use crate::{
    shared::Shared,
    visits::{LONGEST, Places, Posting, each_once},
};

/// Without an event for this long, a visit has ended.
pub(crate) const GAP_MS: i64 = 30 * 60_000;
/// Visits are ended in steps of event time.
const STEP_MS: i64 = 60_000;
/// Readers see what ended this long after the last time, by the clock, or as soon as it is this much.
const SHOWN_AFTER_MS: i64 = 1_000;
const SHOWN_AFTER: usize = 50_000;

/// A visit, as it is written down. Owners are hashes: enough to forget a customer's visits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Visit {
    /// The customer, or the customer with a session id.
    pub key: u64,
    pub owner: u64,
    /// Newest event.
    pub last_ms: i64,
    /// Whether later events may join it.
    pub latest: bool,
    /// Oldest first, as they came.
    pub products: Vec<u32>,
}

#[derive(Debug)]
struct Held {
    key: u64,
    owner: u64,
    last_ms: i64,
    /// Whether later events may join it.
    latest: bool,
    /// Its number in the line of those that ended with one product; 0 if it does not stand there.
    lined: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Going on, or ended with too little to say anything.
    Loose(Vec<u32>),
    /// Ended, in a place of the store.
    Finished(u32, u8),
    Free,
}

/// The writer's book of visits.
pub(crate) struct Sessions {
    held: Vec<Held>,
    free: Vec<u32>,
    /// Where an owner's visits are held. Owners are hashes already.
    owned: HashTable<u32>,
    /// The visit that an event joins, by key.
    latest: AHashMap<u64, u32>,
    /// Visits to be looked at when event time comes here, in steps.
    due: BTreeMap<i64, Vec<u32>>,
    /// Finished visits, oldest first.
    finished: BTreeSet<(i64, u32, u32)>,
    /// Ended visits of one product, in case an event comes late, as they ended; with their number, which
    /// tells whether they still stand here.
    single: VecDeque<(u32, u64)>,
    singles: usize,
    /// The last number given.
    number: u64,
    places: Places,
    /// (product, what is to be put into its list or taken out), since readers last saw.
    changes: Vec<(u32, Posting, bool)>,
    newest_ms: i64,
    capacity: usize,
    postings: usize,
    shown_ms: i64,
}

fn stamp(key: u64, last_ms: i64, products: usize) -> u32 {
    let sum = xxh3_64_with_seed(&last_ms.to_le_bytes(), key ^ products as u64);
    (sum as u32).max(1)
}

/// When a visit that was quiet since then has ended.
fn due(last_ms: i64) -> i64 {
    last_ms.saturating_add(GAP_MS).div_euclid(STEP_MS) + 1
}

impl Sessions {
    /// `capacity` finished visits are kept, `postings` of each product are looked at.
    pub fn new(capacity: usize, postings: usize) -> Self {
        Sessions {
            held: Vec::new(),
            free: Vec::new(),
            owned: HashTable::new(),
            latest: AHashMap::new(),
            due: BTreeMap::new(),
            finished: BTreeSet::new(),
            single: VecDeque::new(),
            singles: 0,
            number: 0,
            places: Places::default(),
            changes: Vec::new(),
            newest_ms: i64::MIN,
            capacity,
            postings,
            shown_ms: i64::MIN,
        }
    }

    /// Takes up a contact of the visit `key`.
    pub fn touch(&mut self, shared: &Shared, key: u64, owner: u64, product: u32, time_ms: i64) {
        if self.capacity == 0 {
            return;
        }
        if time_ms > self.newest_ms {
            let steps = time_ms.div_euclid(STEP_MS) > self.newest_ms.div_euclid(STEP_MS);
            self.newest_ms = time_ms;
            if steps {
                self.end_quiet(shared);
            }
        }
        if let Some(&at) = self.latest.get(&key) {
            let held = &mut self.held[at as usize];
            if time_ms.saturating_sub(held.last_ms) <= GAP_MS {
                match &mut held.state {
                    // A replayed or late event keeps its place in the order of arrival.
                    State::Loose(products) => {
                        if products.len() < LONGEST {
                            products.push(product);
                        }
                        if held.lined != 0 {
                            held.lined = 0;
                            self.singles -= 1;
                        }
                        let ended = due(held.last_ms) <= self.newest_ms.div_euclid(STEP_MS);
                        held.last_ms = held.last_ms.max(time_ms);
                        if ended {
                            let due = due(held.last_ms);
                            self.due.entry(due).or_default().push(at);
                        }
                    }
                    _ => self.resume(shared, at, product, time_ms),
                }
                return;
            }
            held.latest = false;
            if matches!(held.state, State::Loose(_)) {
                self.finish(shared, at);
            }
        }
        let at = self.hold(Held {
            key,
            owner,
            last_ms: time_ms,
            latest: true,
            lined: 0,
            state: State::Loose(vec![product]),
        });
        self.latest.insert(key, at);
        self.due.entry(due(time_ms)).or_default().push(at);
    }

    /// Whether there is no visit.
    pub fn is_empty(&self) -> bool {
        self.owned.is_empty()
    }

    /// Looks where a visit is, for no other reason than to have it fetched.
    pub fn peek(&self, key: u64) -> u32 {
        let held = self.latest.get(&key).map(|at| &self.held[*at as usize]);
        held.map_or(0, |held| held.last_ms as u32)
    }

    fn hold(&mut self, held: Held) -> u32 {
        let owner = held.owner;
        let at = match self.free.pop() {
            Some(at) => {
                self.held[at as usize] = held;
                at
            }
            None => {
                self.held.push(held);
                self.held.len() as u32 - 1
            }
        };
        self.own(at, owner);
        at
    }

    fn own(&mut self, at: u32, owner: u64) {
        let held = &self.held;
        self.owned
            .insert_unique(owner, at, |known| held[*known as usize].owner);
    }

    fn disown(&mut self, at: u32) {
        let owner = self.held[at as usize].owner;
        if let Ok(found) = self.owned.find_entry(owner, |known| *known == at) {
            found.remove();
        }
    }

    /// Visits of an owner, in the order of their places.
    fn visits_of(&self, owner: u64) -> Vec<u32> {
        let known = self.owned.iter_hash(owner).copied();
        let mut visits: Vec<u32> = known
            .filter(|at| self.held[*at as usize].owner == owner)
            .collect();
        visits.sort_unstable();
        visits
    }

    /// A late event of a visit that had ended.
    fn resume(&mut self, shared: &Shared, at: u32, product: u32, time_ms: i64) {
        let mut products = self.withdraw(shared, at);
        if products.len() < LONGEST {
            products.push(product);
        }
        let held = &mut self.held[at as usize];
        held.last_ms = held.last_ms.max(time_ms);
        held.state = State::Loose(products);
        let due = due(held.last_ms);
        self.due.entry(due).or_default().push(at);
    }

    /// Ends what is quiet by now.
    fn end_quiet(&mut self, shared: &Shared) {
        let now = self.newest_ms.div_euclid(STEP_MS);
        while let Some(entry) = self.due.first_entry()
            && *entry.key() <= now
        {
            let (step, visits) = entry.remove_entry();
            for at in visits {
                let held = &self.held[at as usize];
                if !held.latest || !matches!(held.state, State::Loose(_)) {
                    continue;
                }
                let due = due(held.last_ms);
                // One that went on ends later; and in the place of one that is gone may be another, whose turn comes when
                // it is due and not before.
                if due == step {
                    self.finish(shared, at);
                } else {
                    self.due.entry(due).or_default().push(at);
                }
            }
        }
    }

    /// Takes a visit that ended into the store.
    fn finish(&mut self, shared: &Shared, at: u32) {
        let held = &mut self.held[at as usize];
        let State::Loose(products) = &mut held.state else {
            return;
        };
        if products.len() < 2 {
            if !held.latest {
                self.forget(at);
                return;
            }
            self.line_up(at);
            return;
        }
        let products = std::mem::take(products);
        let stamp = stamp(held.key, held.last_ms, products.len());
        let order = (held.last_ms, stamp, at);
        let place = self.places.store(&shared.visits, stamp, &products);
        held.state = State::Finished(place, products.len() as u8);
        let posting = posting(order, place, products.len());
        each_once(&products, |product, position| {
            let at = position as u16;
            self.changes.push((product, Posting { at, ..posting }, true));
        });
        self.finished.insert(order);
        if self.finished.len() > self.capacity
            && let Some(&(_, _, oldest)) = self.finished.first()
        {
            self.withdraw(shared, oldest);
            self.forget(oldest);
        }
        self.show_span(shared);
        if self.changes.len() > SHOWN_AFTER {
            self.show(shared);
        }
    }

    fn line_up(&mut self, at: u32) {
        let held = &mut self.held[at as usize];
        if held.lined != 0 {
            return;
        }
        self.number += 1;
        held.lined = self.number;
        self.single.push_back((at, self.number));
        self.singles += 1;
        while self.singles > self.capacity
            && let Some((at, number)) = self.single.pop_front()
        {
            if self.held[at as usize].lined == number {
                self.forget(at);
            }
        }
        if self.single.len() > 2 * self.capacity {
            let held = &self.held;
            self.single
                .retain(|(at, number)| held[*at as usize].lined == *number);
        }
    }

    /// Takes a finished visit out of the store; it must be given another state or forgotten.
    fn withdraw(&mut self, shared: &Shared, at: u32) -> Vec<u32> {
        let held = &self.held[at as usize];
        let State::Finished(place, length) = held.state else {
            return Vec::new();
        };
        let order = (held.last_ms, stamp(held.key, held.last_ms, length.into()), at);
        self.finished.remove(&order);
        let products = self.places.release(&shared.visits, place, length.into());
        let posting = posting(order, place, products.len());
        each_once(&products, |product, position| {
            let at = position as u16;
            self.changes.push((product, Posting { at, ..posting }, false));
        });
        self.show_span(shared);
        products
    }

    fn forget(&mut self, at: u32) {
        self.disown(at);
        let held = &mut self.held[at as usize];
        held.state = State::Free;
        if held.lined != 0 {
            held.lined = 0;
            self.singles -= 1;
        }
        if held.latest {
            self.latest.remove(&held.key);
        }
        held.latest = false;
        self.free.push(at);
    }

    fn show_span(&self, shared: &Shared) {
        let visits = &shared.visits;
        visits.count.store(self.finished.len() as u32, Relaxed);
        if let (Some(oldest), Some(newest)) = (self.finished.first(), self.finished.last()) {
            visits.oldest_ms.store(oldest.0, Relaxed);
            visits.newest_ms.store(newest.0, Relaxed);
        }
    }

    /// Forgets the visits of an owner; readers no longer find them when this returns.
    pub fn erase(&mut self, shared: &Shared, owner: u64) {
        let visits = self.visits_of(owner);
        for at in &visits {
            self.withdraw(shared, *at);
            self.forget(*at);
        }
        if !visits.is_empty() {
            self.show(shared);
        }
    }

    /// The visits of one owner are another's from now on.
    pub fn pass_on(&mut self, from: u64, to: u64) {
        for at in self.visits_of(from) {
            self.disown(at);
            self.held[at as usize].owner = to;
            self.own(at, to);
        }
    }

    /// Ends what is quiet, and shows readers what ended when it is time.
    pub fn publish(&mut self, shared: &Shared, now_ms: i64) {
        self.end_quiet(shared);
        let waited = now_ms.saturating_sub(self.shown_ms);
        if !self.changes.is_empty() && !(0..SHOWN_AFTER_MS).contains(&waited) {
            self.show(shared);
            self.shown_ms = now_ms;
        }
    }

    /// Shows everything that has ended.
    pub fn flush(&mut self, shared: &Shared) {
        self.end_quiet(shared);
        self.show(shared);
    }
}

fn posting((last_ms, stamp, _): (i64, u32, u32), place: u32, length: usize) -> Posting {
    Posting {
        place,
        stamp,
        seconds: u32::try_from(last_ms / 1_000).unwrap_or_default(),
        at: 0,
        length: length as u16,
    }
}
