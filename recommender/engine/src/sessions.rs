//! Visits: which are open, which have ended and may answer for others.

use std::{collections::VecDeque, sync::Arc};

use ahash::AHashMap;

use crate::{models::session_knn::SessionIndex, shared::Shared};

/// Without an event for this long, a visit has ended.
pub(crate) const GAP_MS: i64 = 30 * 60_000;
/// Products of a visit that are kept.
const LONGEST: usize = 100;
/// Rebuilding costs about half a microsecond per session: never more often than this.
const REBUILD_MS: i64 = 5_000;

struct Open {
    owner: u64,
    products: Vec<u32>,
    last_ms: i64,
}

/// A visit. Owners are hashes: enough to forget a customer's visits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Visit {
    /// The customer, or the customer with a session id.
    pub key: u64,
    pub owner: u64,
    /// Newest event.
    pub last_ms: i64,
    /// Whether it may go on.
    pub latest: bool,
    /// Oldest first, as they came.
    pub products: Vec<u32>,
}

/// The writer's book of visits. Owners are hashes: enough to forget a customer's visits.
pub(crate) struct Sessions {
    open: AHashMap<u64, Open>,
    ended: VecDeque<Visit>,
    capacity: usize,
    postings: usize,
    fresh: usize,
    swept_ms: i64,
    built_ms: i64,
}

impl Sessions {
    /// `capacity` finished visits are kept, `postings` of each product are looked at.
    pub fn new(capacity: usize, postings: usize) -> Self {
        let (open, ended) = (AHashMap::new(), VecDeque::new());
        Sessions {
            open,
            ended,
            capacity,
            postings,
            fresh: 0,
            swept_ms: i64::MIN,
            built_ms: i64::MIN,
        }
    }

    /// Takes up a contact of the visit `key`.
    pub fn touch(&mut self, key: u64, owner: u64, product: u32, time_ms: i64) {
        let open = self.open.entry(key).or_insert_with(|| Open {
            owner,
            products: Vec::new(),
            last_ms: time_ms,
        });
        if time_ms.saturating_sub(open.last_ms) > GAP_MS {
            let ended = Visit {
                key,
                last_ms: open.last_ms,
                latest: false,
                owner: open.owner,
                products: std::mem::take(&mut open.products),
            };
            open.owner = owner;
            Self::end(&mut self.ended, &mut self.fresh, self.capacity, ended);
        }
        // A replayed or late event keeps its place in the order of arrival.
        if open.products.len() < LONGEST {
            open.products.push(product);
        }
        open.last_ms = open.last_ms.max(time_ms);
    }

    fn end(ended: &mut VecDeque<Visit>, fresh: &mut usize, capacity: usize, session: Visit) {
        if session.products.len() >= 2 && capacity > 0 {
            ended.push_back(session);
            *fresh += 1;
            if ended.len() > capacity {
                ended.pop_front();
            }
        }
    }

    /// Takes up finished visits, oldest first.
    pub fn extend(&mut self, sessions: impl IntoIterator<Item = Visit>) {
        for session in sessions {
            Self::end(&mut self.ended, &mut self.fresh, self.capacity, session);
        }
    }

    /// Forgets the visits of an owner.
    pub fn erase(&mut self, owner: u64) {
        self.open.retain(|_, open| open.owner != owner);
        let before = self.ended.len();
        self.ended.retain(|session| session.owner != owner);
        // Whatever was removed must leave the index too, however little it is.
        self.fresh += before - self.ended.len();
        if before != self.ended.len() {
            self.built_ms = i64::MIN;
        }
    }

    /// Ends visits that are quiet by `event_ms` (the newest event's time), and shows what ended when there
    /// is enough of it or it is time.
    pub fn publish(&mut self, shared: &Shared, event_ms: i64, now_ms: i64) {
        if event_ms.saturating_sub(self.swept_ms) > GAP_MS / 10 {
            self.swept_ms = event_ms;
            let quiet = |open: &Open| event_ms.saturating_sub(open.last_ms) > GAP_MS;
            let mut ended: Vec<(i64, u64, Open)> = self
                .open
                .extract_if(|_, open| quiet(open))
                .map(|(key, open)| (open.last_ms, key, open))
                .collect();
            ended.sort_unstable_by_key(|(last_ms, key, _)| (*last_ms, *key));
            self.extend(ended.into_iter().map(|(last_ms, key, open)| Visit {
                key,
                last_ms,
                latest: false,
                owner: open.owner,
                products: open.products,
            }));
        }
        let waited = now_ms.saturating_sub(self.built_ms);
        let due = self.fresh * 50 > self.ended.len() && waited >= REBUILD_MS || waited >= 12 * REBUILD_MS;
        if self.fresh > 0 && (due || waited < 0) {
            self.build(shared, now_ms);
        }
    }

    /// All visits, finished ones first and in their order.
    pub fn export(&self) -> Vec<Visit> {
        let open = self.open.iter().map(|(key, open)| Visit {
            key: *key,
            owner: open.owner,
            last_ms: open.last_ms,
            latest: true,
            products: open.products.clone(),
        });
        self.ended.iter().cloned().chain(open).collect()
    }

    /// The reverse of [`Sessions::export`].
    pub fn import(&mut self, visits: Vec<Visit>) {
        for visit in visits {
            if visit.latest {
                let Visit {
                    owner,
                    products,
                    last_ms,
                    ..
                } = visit;
                self.open.insert(
                    visit.key,
                    Open {
                        owner,
                        products,
                        last_ms,
                    },
                );
            } else {
                self.extend([visit]);
            }
        }
    }

    /// Shows everything that has ended.
    pub fn build(&mut self, shared: &Shared, now_ms: i64) {
        let sessions: Vec<&[u32]> = self
            .ended
            .iter()
            .map(|session| session.products.as_slice())
            .collect();
        let index = SessionIndex::build(&sessions, shared.products.count(), self.postings);
        shared.sessions.store(Arc::new(index));
        (self.fresh, self.built_ms) = (0, now_ms);
    }
}
