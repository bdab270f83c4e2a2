//! What was seen lately, so that it is taken once: a set with a lifetime, of this process.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Most names remembered; beyond it the oldest are forgotten first.
const MAX_NAMES: usize = 100_000;

#[derive(Default)]
struct Seen {
    names: HashSet<String>,
    order: VecDeque<(i64, String)>,
}

/// Names seen within their lifetime.
#[derive(Default)]
pub struct Once(Mutex<Seen>);

impl Once {
    /// Whether `name` was not seen within `lifetime_ms` before `now_ms`; remembers it.
    pub fn first(&self, name: &str, lifetime_ms: i64, now_ms: i64) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while seen.order.front().is_some_and(|(until, _)| *until <= now_ms) || seen.order.len() >= MAX_NAMES {
            if let Some((_, old)) = seen.order.pop_front() {
                seen.names.remove(&old);
            }
        }
        if !seen.names.insert(name.to_owned()) {
            return false;
        }
        seen.order
            .push_back((now_ms.saturating_add(lifetime_ms), name.to_owned()));
        true
    }

    /// Forgets a name: what it stood for did not happen.
    pub fn forget(&self, name: &str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.names.remove(name) {
            seen.order.retain(|(_, known)| known != name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_once_until_its_time_is_over_or_it_is_forgotten() {
        let once = Once::default();
        assert!(once.first("a", 100, 0));
        assert!(!once.first("a", 100, 99));
        assert!(once.first("b", 100, 99));
        assert!(once.first("a", 100, 100));
        assert!(!once.first("b", 100, 150));
        once.forget("b");
        assert!(once.first("b", 100, 150));
    }

    #[test]
    fn memory_is_bounded() {
        let once = Once::default();
        for i in 0..=MAX_NAMES {
            assert!(once.first(&i.to_string(), 1_000, 0));
        }
        assert!(once.first("0", 1_000, 0), "the oldest was forgotten");
        assert!(!once.first(&MAX_NAMES.to_string(), 1_000, 0));
    }
}
