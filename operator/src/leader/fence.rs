//! Until when this process may write. A leader that was frozen for a minute wakes up in the middle of what it did, and
//! another one leads by then: each call looks at the clock right before it is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The monotonic time until which this process may write; shared by all who ask.
#[derive(Clone, Debug)]
pub struct Fence {
    origin: Instant,
    /// Milliseconds after `origin`; 0 = not now, `u64::MAX` = for ever.
    until: Arc<AtomicU64>,
}

impl Fence {
    /// No election: there is one operator only.
    pub fn open() -> Self {
        Self::with(u64::MAX)
    }

    /// Nothing may be written until the lease is held.
    pub fn closed() -> Self {
        Self::with(0)
    }

    fn with(until: u64) -> Self {
        Self {
            origin: Instant::now(),
            until: Arc::new(AtomicU64::new(until)),
        }
    }

    /// Whether this process may write at this moment.
    pub fn holds(&self) -> bool {
        self.left().is_some()
    }

    /// How long it may go on writing, if it may at all.
    pub fn left(&self) -> Option<Duration> {
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let left = self
            .until
            .load(Ordering::SeqCst)
            .checked_sub(now)
            .filter(|left| *left > 0)?;
        Some(Duration::from_millis(left))
    }

    /// It may write until `deadline`.
    pub(super) fn extend(&self, deadline: Instant) {
        let until = deadline.saturating_duration_since(self.origin).as_millis();
        self.until
            .store(u64::try_from(until).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// It may not write any more.
    pub(super) fn close(&self) {
        self.until.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_closed_until_the_lease_is_held_and_closes_by_itself() {
        let fence = Fence::closed();
        assert!(!fence.holds());
        fence.extend(Instant::now() + Duration::from_secs(5));
        assert!(fence.holds() && fence.left().unwrap() <= Duration::from_secs(5));
        fence.extend(Instant::now());
        std::thread::sleep(Duration::from_millis(3));
        assert!(!fence.holds(), "nobody has to tell it that its time is over");
        assert!(Fence::open().holds());
    }
}
