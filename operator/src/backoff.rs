//! When an object is looked at again: exponential with jitter per object while something fails (the controller
//! runtime has no backoff of its own for that), steady otherwise.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// First delay after a failure.
const FIRST: Duration = Duration::from_secs(1);
/// Longest delay: an outage that ends is noticed within this time.
const LONGEST: Duration = Duration::from_secs(30);

/// Consecutive failures by object (namespace/name).
#[derive(Debug, Default)]
pub struct Backoff {
    failures: Mutex<HashMap<String, u32>>,
}

impl Backoff {
    /// The delay before the next attempt; counts this failure.
    pub fn failed(&self, object: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(object.to_owned()).or_default();
        let delay = delay(*count);
        *count = count.saturating_add(1);
        delay.mul_f64(rand::random_range(0.8..1.2))
    }

    /// Forgets the failures of an object that is well, or gone.
    pub fn reset(&self, object: &str) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(object);
    }
}

/// `FIRST` doubled for each failure before this one, at most `LONGEST`.
fn delay(failures: u32) -> Duration {
    FIRST
        .saturating_mul(1_u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX))
        .min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_half_a_minute() {
        let seconds: Vec<u64> = (0..7).map(|n| delay(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(delay(u32::MAX), LONGEST);
    }

    #[test]
    fn objects_do_not_share_their_failures_and_a_success_forgets_them() {
        let backoff = Backoff::default();
        for _ in 0..4 {
            backoff.failed("a/shop");
        }
        assert!(backoff.failed("a/shop") >= Duration::from_secs(12));
        assert!(backoff.failed("b/shop") < Duration::from_secs(2));
        backoff.reset("a/shop");
        assert!(backoff.failed("a/shop") < Duration::from_secs(2));
    }
}
