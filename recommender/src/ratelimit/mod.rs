//! Rate limits: an exact sliding window (Redis, or local), a local token bucket for what must be cheap, and what
//! may happen once.

mod bucket;
mod local;
mod once;
mod redis;

use std::time::Duration;

pub use self::bucket::Buckets;
pub use self::local::LocalWindows;
pub use self::once::Once;
pub use self::redis::{RedisError, RedisWindows, answered, connect};

/// The window of `GET /api/resource`.
pub const WINDOW: Duration = Duration::from_secs(60);

/// What a window says about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may pass; only then it was counted.
    pub allowed: bool,
    /// How many are allowed in a window.
    pub limit: u32,
    /// How many more would pass now.
    pub remaining: u32,
    /// Milliseconds until the oldest counted request leaves the window.
    pub reset_ms: u64,
}

impl Decision {
    /// Whole seconds until it is worth trying again, at least 1.
    pub fn reset_secs(&self) -> u64 {
        self.reset_ms.div_ceil(1000).max(1)
    }
}
