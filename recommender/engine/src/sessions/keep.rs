//! Visits as they are written down and read back.

use super::{Held, STEP_MS, Sessions, State, Visit, due};
use crate::{shared::Shared, visits::LONGEST};

impl Sessions {
    /// All visits that are held: first those of one product that ended, as they stand in line, then the others in the
    /// order in which they will end. What has ended by the time of events is ended first: whoever reads it back cannot
    /// tell it from what stands in line.
    pub fn export(&mut self, shared: &Shared) -> Vec<Visit> {
        self.end_quiet(shared);
        let mut line: Vec<u32> = vec![u32::MAX; self.held.len()];
        for (place, (at, number)) in self.single.iter().enumerate() {
            if self.held[*at as usize].lined == *number {
                line[*at as usize] = place as u32;
            }
        }
        let ending = self
            .due
            .iter()
            .flat_map(|(due, list)| list.iter().map(move |at| (*due, *at)));
        for (place, (when, at)) in (self.single.len() as u32..).zip(ending) {
            // One that went on stands in several places.
            let held = &self.held[at as usize];
            if line[at as usize] == u32::MAX && due(held.last_ms) == when {
                line[at as usize] = place;
            }
        }
        let mut order: Vec<u32> = (0..self.held.len() as u32).collect();
        order.sort_by_key(|at| line[*at as usize]);
        let held = order
            .into_iter()
            .map(|at| &self.held[at as usize])
            .filter_map(|held| {
                let products = match &held.state {
                    State::Loose(products) => products.clone(),
                    State::Finished(place, length) => {
                        self.places.products(&shared.visits, *place, (*length).into())
                    }
                    State::Free => return None,
                };
                Some(Visit {
                    key: held.key,
                    owner: held.owner,
                    last_ms: held.last_ms,
                    latest: held.latest,
                    products,
                })
            });
        held.collect()
    }

    /// The newest time seen, which decides what has ended.
    pub fn newest_ms(&self) -> i64 {
        self.newest_ms
    }

    /// The reverse of [`Sessions::export`], for an empty book.
    pub fn import(&mut self, shared: &Shared, visits: Vec<Visit>, newest_ms: i64) {
        self.newest_ms = newest_ms;
        for mut visit in visits {
            visit.products.truncate(LONGEST);
            let known = self.latest.contains_key(&visit.key);
            if self.capacity == 0 || visit.products.is_empty() || visit.latest && known {
                continue;
            }
            let at = self.hold(Held {
                key: visit.key,
                owner: visit.owner,
                last_ms: visit.last_ms,
                latest: visit.latest,
                lined: 0,
                state: State::Loose(visit.products),
            });
            if visit.latest {
                self.latest.insert(visit.key, at);
            }
            if visit.latest && due(visit.last_ms) > newest_ms.div_euclid(STEP_MS) {
                self.due.entry(due(visit.last_ms)).or_default().push(at);
            } else {
                self.finish(shared, at);
            }
        }
    }
}
