//! Which limit applies to whom, and where it is counted.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use recommendation_api::report::DependencyState;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::metrics::Metrics;
use crate::ratelimit::{Buckets, Decision, LocalWindows, Once, RedisError, RedisWindows};

/// Unsigned webhooks of one address in a second.
const WEBHOOKS_PER_SECOND: u32 = 200;
/// Sign-ins of one address in any 60 seconds: a household or an office share one.
const SIGN_INS_PER_ADDRESS: u32 = 20;
/// Sign-ins of one user in any 60 seconds, from wherever.
const SIGN_INS_PER_USER: u32 = 10;
/// How often Redis is asked whether it is there: while it answers, and while it does not.
const PING_EVERY: Duration = Duration::from_secs(2);
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// All limits of this service.
pub struct Limiter {
    redis: Option<RedisWindows>,
    /// False while Redis does not answer: requests then do not wait for its timeout.
    redis_up: Arc<AtomicBool>,
    windows: LocalWindows,
    seen: Once,
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
            seen: Once::default(),
            webhooks: Buckets::default(),
            requests: Buckets::default(),
            metrics,
        }
    }

    /// Redis, while it answers.
    fn shared(&self) -> Option<&RedisWindows> {
        self.redis
            .as_ref()
            .filter(|_| self.redis_up.load(Ordering::Relaxed))
    }

    fn lost(&self, error: &RedisError) {
        self.metrics.redis_errors.inc();
        self.redis_up.store(false, Ordering::Relaxed);
        tracing::warn!(%error, "rate limits are counted locally");
    }

    /// Counts in the window of `name`. Without an answer from Redis the local count stands in, which knows what
    /// Redis last said: the limit then holds per replica instead of over all of them, and nobody is turned away
    /// because Redis is. What passed here while Redis was away is remembered when it is back.
    async fn window(&self, name: &str, limit: u32) -> Decision {
        let now = now_ms();
        if let Some(redis) = self.shared() {
            if let Some(refusal) = self.windows.refusal(name, limit, now) {
                return refusal;
            }
            match redis.check(name, limit).await {
                Ok(decision) => {
                    self.windows.learn(name, decision, now);
                    return decision;
                }
                Err(e) => self.lost(&e),
            }
        }
        self.windows.check(name, limit, now)
    }

    /// `GET /api/resource`.
    pub async fn resource(&self, caller: IpAddr, limit: u32) -> Decision {
        self.window(&caller.to_string(), limit).await
    }

    /// A sign-in; an error says in how many seconds it may be tried again. Users are known by a digest: who tries
    /// to sign in is not for Redis to read, and a made-up name must not be a key of any length.
    pub async fn sign_in(&self, caller: IpAddr, username: &str) -> Result<(), u64> {
        use sha2::Digest as _;
        let user = hex::encode(&sha2::Sha256::digest(username.as_bytes())[..16]);
        for (name, limit) in [
            (format!("sign-in:address:{caller}"), SIGN_INS_PER_ADDRESS),
            (format!("sign-in:user:{user}"), SIGN_INS_PER_USER),
        ] {
            let decision = self.window(&name, limit).await;
            if !decision.allowed {
                return Err(decision.reset_secs());
            }
        }
        Ok(())
    }

    /// Whether a signature is seen for the first time within `lifetime`, by this replica and, while Redis answers,
    /// by any.
    pub async fn first(&self, signature: &str, lifetime: Duration) -> bool {
        let lifetime_ms = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
        if !self.seen.first(signature, lifetime_ms, now_ms()) {
            return false;
        }
        match self.shared() {
            None => true,
            Some(redis) => redis.first(signature, lifetime).await.unwrap_or_else(|e| {
                self.lost(&e);
                true
            }),
        }
    }

    /// What the signature stood for did not happen: it may be sent again.
    pub async fn forget(&self, signature: &str) {
        self.seen.forget(signature);
        if let Some(redis) = self.shared()
            && let Err(e) = redis.forget(signature).await
        {
            self.lost(&e);
        }
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
            let pause = if up { PING_EVERY } else { ASK_AGAIN };
            if stop
                .run_until_cancelled(tokio::time::sleep(pause))
                .await
                .is_none()
            {
                return;
            }
        }
    }
}
