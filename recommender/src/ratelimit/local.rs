//! Sliding windows of this process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::{Decision, WINDOW};

/// Callers remembered at once; beyond it those whose window has passed are dropped, then the rest.
const MAX_CALLERS: usize = 100_000;

/// Exact sliding windows by caller.
#[derive(Default)]
pub struct LocalWindows {
    passed: Mutex<HashMap<String, VecDeque<i64>>>,
}

impl LocalWindows {
    /// Counts one request of `caller` at `now_ms`, if it may pass.
    pub fn check(&self, caller: &str, limit: u32, now_ms: i64) -> Decision {
        let window = i64::try_from(WINDOW.as_millis()).unwrap_or(i64::MAX);
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        if passed.len() >= MAX_CALLERS && !passed.contains_key(caller) {
            passed.retain(|_, times| times.back().is_some_and(|at| now_ms - at < window));
            if passed.len() >= MAX_CALLERS {
                passed.clear();
            }
        }
        let times = passed.entry(caller.to_owned()).or_default();
        while times.front().is_some_and(|at| now_ms - at >= window) {
            times.pop_front();
        }
        let allowed = times.len() < limit as usize;
        if allowed {
            times.push_back(now_ms);
        }
        let reset = times.front().map_or(window, |at| at + window - now_ms);
        Decision {
            allowed,
            limit,
            remaining: limit.saturating_sub(u32::try_from(times.len()).unwrap_or(u32::MAX)),
            reset_ms: u64::try_from(reset).unwrap_or(0),
        }
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
