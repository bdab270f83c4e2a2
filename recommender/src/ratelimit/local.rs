//! Sliding windows of this process.

use std::collections::{HashMap, VecDeque, hash_map::Entry};
use std::sync::{Mutex, PoisonError};

use super::{Decision, WINDOW};

/// Callers remembered at once; beyond it those whose window has passed are dropped, then the rest.
const MAX_CALLERS: usize = 100_000;

/// One request that passed.
#[derive(Clone, Copy)]
struct Pass {
    at_ms: i64,
    /// Seen by this process, and not only told of.
    own: bool,
}

/// Exact sliding windows by caller.
#[derive(Default)]
pub struct LocalWindows {
    passed: Mutex<HashMap<String, VecDeque<Pass>>>,
}

impl LocalWindows {
    /// Counts one request of `caller` at `now_ms`, if it may pass.
    pub fn check(&self, caller: &str, limit: u32, now_ms: i64) -> Decision {
        self.with(caller, now_ms, |times| {
            let allowed = times.len() < limit as usize;
            if allowed {
                times.push_back(Pass {
                    at_ms: now_ms,
                    own: true,
                });
            }
            decision(times.iter(), allowed, limit, now_ms)
        })
    }

    /// The refusal of a request, where what passed through this process alone is enough to refuse it.
    pub fn refusal(&self, caller: &str, limit: u32, now_ms: i64) -> Option<Decision> {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let Entry::Occupied(mut entry) = passed.entry(caller.to_owned()) else {
            return None;
        };
        prune(entry.get_mut(), now_ms);
        let own = || entry.get().iter().filter(|pass| pass.own);
        (own().count() >= limit as usize).then(|| decision(own(), false, limit, now_ms))
    }

    /// Takes up what somebody who counts for all replicas decided of a request that was made at `now_ms`, so that
    /// a local count that has to stand in for them does not begin with an empty window. Passes that this process
    /// did not see count as made now: their times are not known, and never too early is what the limit promises.
    pub fn learn(&self, caller: &str, decision: Decision, now_ms: i64) {
        let used = decision.limit.saturating_sub(decision.remaining) as usize;
        self.with(caller, now_ms, |times| {
            if decision.allowed {
                times.push_back(Pass {
                    at_ms: now_ms,
                    own: true,
                });
            }
            while times.len() < used {
                times.push_back(Pass {
                    at_ms: now_ms,
                    own: false,
                });
            }
        });
    }

    fn with<T>(&self, caller: &str, now_ms: i64, work: impl FnOnce(&mut VecDeque<Pass>) -> T) -> T {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        if passed.len() >= MAX_CALLERS && !passed.contains_key(caller) {
            passed.retain(|_, times| times.back().is_some_and(|pass| now_ms - pass.at_ms < WINDOW_MS));
            if passed.len() >= MAX_CALLERS {
                passed.clear();
            }
        }
        let times = passed.entry(caller.to_owned()).or_default();
        prune(times, now_ms);
        work(times)
    }
}

const WINDOW_MS: i64 = WINDOW.as_millis() as i64;

fn prune(times: &mut VecDeque<Pass>, now_ms: i64) {
    while times.front().is_some_and(|pass| now_ms - pass.at_ms >= WINDOW_MS) {
        times.pop_front();
    }
}

fn decision<'a>(
    mut passes: impl Iterator<Item = &'a Pass>,
    allowed: bool,
    limit: u32,
    now_ms: i64,
) -> Decision {
    let oldest = passes.next().map(|pass| pass.at_ms);
    let used = passes.count() + usize::from(oldest.is_some());
    let reset = oldest.map_or(WINDOW_MS, |at| at + WINDOW_MS - now_ms);
    Decision {
        allowed,
        limit,
        remaining: limit.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX)),
        reset_ms: u64::try_from(reset).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn five_pass_in_any_sixty_seconds() {
        let windows = LocalWindows::default();
        for i in 0..5 {
            let decision = windows.check("a", 5, i * 10_000);
            assert!(decision.allowed);
            assert_eq!(decision.remaining, 4 - u32::try_from(i).unwrap());
        }
        let refused = windows.check("a", 5, 59_999);
        assert_eq!(
            (refused.allowed, refused.remaining, refused.reset_ms),
            (false, 0, 1)
        );
        assert!(windows.check("a", 5, 60_000).allowed);
        assert!(!windows.check("a", 5, 60_001).allowed);
        assert!(
            windows.check("b", 5, 60_001).allowed,
            "another caller is not concerned"
        );
    }

    #[test]
    fn a_local_count_that_stands_in_does_not_begin_with_an_empty_window() {
        let windows = LocalWindows::default();
        // Three passed elsewhere before this one.
        let shared = Decision {
            allowed: true,
            limit: 5,
            remaining: 1,
            reset_ms: 50_000,
        };
        windows.learn("a", shared, 10_000);
        assert!(
            windows.refusal("a", 5, 10_000).is_none(),
            "only one was seen here"
        );
        assert!(windows.check("a", 5, 11_000).allowed);
        assert!(!windows.check("a", 5, 12_000).allowed);
        assert!(windows.check("a", 5, 70_000).allowed);
    }

    #[test]
    fn what_passed_here_is_enough_to_refuse_whatever_others_know() {
        let windows = LocalWindows::default();
        for i in 0..5 {
            windows.check("a", 5, i);
        }
        let refusal = windows.refusal("a", 5, 1_000).unwrap();
        assert_eq!(
            (refusal.allowed, refusal.remaining, refusal.reset_ms),
            (false, 0, 59_000)
        );
        assert!(windows.refusal("a", 5, 60_000).is_none());
        assert!(windows.refusal("b", 5, 0).is_none());
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_in_any_window(steps in prop::collection::vec(0i64..20_000, 1..200), limit in 1u32..8) {
            let windows = LocalWindows::default();
            let (mut now, mut passed) = (0, Vec::new());
            for step in steps {
                now += step;
                if windows.check("a", limit, now).allowed {
                    passed.push(now);
                }
            }
            for (i, at) in passed.iter().enumerate() {
                let within = passed[i..].iter().take_while(|t| **t - at < 60_000).count();
                prop_assert!(within <= limit as usize);
            }
        }
    }
}
