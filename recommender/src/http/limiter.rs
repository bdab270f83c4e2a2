//! Which limit applies to whom, and where it is counted.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use recommendation_api::report::DependencyState;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::metrics::Metrics;
use crate::ratelimit::{Buckets, Decision, LocalWindows, RedisWindows};

/// Unsigned webhooks of one address in a second.
const WEBHOOKS_PER_SECOND: u32 = 200;
/// How often Redis is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(2);

/// All limits of this service.
pub struct Limiter {
    redis: Option<RedisWindows>,
    /// False while Redis does not answer: requests then do not wait for its timeout.
    redis_up: Arc<AtomicBool>,
    windows: LocalWindows,
    webhooks: Buckets,
    requests: Buckets,
    metrics: Arc<Metrics>,
}

impl Limiter {
    /// Counts in `redis` where given, else in this process.
    pub fn new(redis: Option<RedisWindows>, metrics: Arc<Metrics>) -> Self {
        Self {
            redis,
            redis_up: Arc::new(AtomicBool::new(true)),
            windows: LocalWindows::default(),
            webhooks: Buckets::default(),
            requests: Buckets::default(),
            metrics,
        }
    }

    /// `GET /api/resource`. Without an answer from Redis the local count stands in: the limit then holds per
    /// replica instead of over all of them, and nobody is turned away because Redis is.
    pub async fn resource(&self, caller: IpAddr, limit: u32) -> Decision {
        let caller = caller.to_string();
        if let Some(redis) = self
            .redis
            .as_ref()
            .filter(|_| self.redis_up.load(Ordering::Relaxed))
        {
            match redis.check(&caller, limit).await {
                Ok(decision) => return decision,
                Err(e) => {
                    self.metrics.redis_errors.inc();
                    self.redis_up.store(false, Ordering::Relaxed);
                    tracing::warn!(error = %e, "rate limit counted locally");
                }
            }
        }
        self.windows.check(&caller, limit, now_ms())
    }

    /// Unsigned webhooks.
    pub fn webhook(&self, caller: IpAddr) -> bool {
        self.webhooks
            .take(&caller.to_string(), WEBHOOKS_PER_SECOND, now_ms())
    }

    /// All other routes together; 0 is no limit.
    pub fn request(&self, caller: IpAddr, per_second: u32) -> bool {
        per_second == 0 || self.requests.take(&caller.to_string(), per_second, now_ms())
    }

    /// Whether Redis answers.
    pub fn redis_state(&self) -> DependencyState {
        match (&self.redis, self.redis_up.load(Ordering::Relaxed)) {
            (None, _) => DependencyState::Disabled,
            (Some(_), true) => DependencyState::Up,
            (Some(_), false) => DependencyState::Down,
        }
    }

    /// Watches Redis until stopped.
    pub async fn watch(&self, stop: CancellationToken) {
        let Some(redis) = &self.redis else {
            stop.cancelled().await;
            return;
        };
        loop {
            let Some(up) = stop.run_until_cancelled(redis.ping()).await else {
                return;
            };
            if self.redis_up.swap(up, Ordering::Relaxed) != up {
                tracing::warn!(up, "Redis changed its state");
            }
            if stop
                .run_until_cancelled(tokio::time::sleep(PING_EVERY))
                .await
                .is_none()
            {
                return;
            }
        }
    }
}
