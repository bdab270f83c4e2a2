//! Token buckets of this process: constant memory per caller, for limits of many requests a second.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

const MAX_CALLERS: usize = 100_000;

struct Bucket {
    tokens: f64,
    at_ms: i64,
}

/// Token buckets by caller; a bucket holds one second's worth.
#[derive(Default)]
pub struct Buckets {
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl Buckets {
    /// Takes one token of `caller` at `now_ms`; false if there is none. `per_second` 0 means no limit.
    pub fn take(&self, caller: &str, per_second: u32, now_ms: i64) -> bool {
        if per_second == 0 {
            return true;
        }
        let rate = f64::from(per_second);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_CALLERS && !buckets.contains_key(caller) {
            // After a second a bucket is full again: to forget it changes nothing.
            buckets.retain(|_, bucket| now_ms - bucket.at_ms < 1_000);
            if buckets.len() >= MAX_CALLERS {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(caller.to_owned()).or_insert(Bucket {
            tokens: rate,
            at_ms: now_ms,
        });
        let elapsed = (now_ms - bucket.at_ms).max(0) as f64 / 1000.0;
        bucket.tokens = (bucket.tokens + elapsed * rate).min(rate);
        bucket.at_ms = now_ms;
        let pass = bucket.tokens >= 1.0;
        if pass {
            bucket.tokens -= 1.0;
        }
        pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let buckets = Buckets::default();
        let passed = (0..20).filter(|_| buckets.take("a", 10, 0)).count();
        assert_eq!(passed, 10);
        assert_eq!((0..20).filter(|_| buckets.take("a", 10, 500)).count(), 5);
        assert!((0..1000).all(|_| buckets.take("a", 0, 0)), "0 is no limit");
    }
}
