//! Answers that were computed lately: first in this process, then in Redis, shared by the replicas.
//!
//! A key carries everything that an answer depends on and that a customer would notice: the question, the
//! model's version and configuration, and the [revision](recommender_engine::Revision) of what is known of the
//! customer, and that of the catalogue. So a click is never hidden, nor a product that was withdrawn: it makes another key. And a replica that has not read the click yet
//! asks under the old key, so that its answer never reaches anybody who has. What other customers do changes an
//! answer only slowly; the time to live bounds how late that shows. A replica that is behind its log reads the
//! cache but never fills it.
//!
//! Many requests for one answer compute it once: within a process the others wait for the first; over replicas
//! it is refreshed early by one of them, with a probability that grows towards its end (Vattani, Chierichetti
//! and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", PVLDB 8(8), 2015, their XFetch).

mod forget;
mod key;
mod shared;
mod stored;

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntCounterVec};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use self::key::Local;
pub use self::key::{Key, KeyBuilder};
pub use self::shared::SharedAnswers;
pub use self::stored::{Body, NO_ID, NotAnAnswer, Stored};
use crate::clock::now_ms;
use crate::privacy::Tag;

/// Memory for answers in this process, bytes.
const LOCAL_BYTES: u64 = 64 * 1024 * 1024;
/// What an entry takes beside its body.
const OVERHEAD: u64 = 200;

#[derive(Clone, Copy)]
struct ByBytes;

impl Weighter<Local, Arc<Stored>> for ByBytes {
    fn weight(&self, _: &Local, stored: &Arc<Stored>) -> u64 {
        stored.body.len() as u64 + OVERHEAD
    }
}

/// Whether an answer that had to be computed may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is as good as any replica's.
    Yes,
    /// This replica is behind its log, or what the customer did last has not worked through the model yet.
    No,
}

/// The cache of one replica.
pub struct AnswerCache {
    local: Cache<Local, Arc<Stored>, ByBytes>,
    /// Of the digests in `local`.
    digest_key: (u64, u64),
    shared: Option<SharedAnswers>,
    ttl_ms: i64,
    found: Found,
}

/// Requests by where their answer was found.
struct Found {
    local: IntCounter,
    shared: IntCounter,
    miss: IntCounter,
}

impl AnswerCache {
    /// Answers live for `ttl`, in this process and in `shared`. `requests` counts by where the answer was found:
    /// `local`, `shared`, or `miss`.
    pub fn new(ttl: Duration, shared: Option<SharedAnswers>, requests: &IntCounterVec) -> Self {
        // An answer of ten products takes some two kilobytes.
        let expected = usize::try_from(LOCAL_BYTES / 2_048).unwrap_or(usize::MAX);
        Self {
            local: Cache::with_weighter(expected, LOCAL_BYTES, ByBytes),
            digest_key: (rand::random(), rand::random()),
            shared,
            ttl_ms: i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX),
            found: Found {
                local: requests.with_label_values(&["local"]),
                shared: requests.with_label_values(&["shared"]),
                miss: requests.with_label_values(&["miss"]),
            },
        }
    }

    /// The answer to `key`: found, or computed. `compute` runs at most once, and not at all where another
    /// request computes the same answer at this moment.
    pub async fn answer<E>(
        &self,
        key: &Key,
        keep: Keep,
        compute: impl FnOnce() -> Result<Body, E>,
    ) -> Result<Arc<Stored>, E> {
        let digest = key.local(self.digest_key);
        if let Some(found) = self.fresh(digest) {
            self.found.local.inc();
            return Ok(found);
        }
        if keep == Keep::No {
            // Nobody waits for what will not be kept.
            if let Some(found) = self.of_replicas(key).await {
                return Ok(found);
            }
            self.found.miss.inc();
            return self.computed(compute);
        }
        let guard = match self.local.get_value_or_guard_async(&digest).await {
            Ok(found) => {
                self.found.local.inc();
                return Ok(found);
            }
            Err(guard) => guard,
        };
        if let Some(found) = self.of_replicas(key).await {
            let _ = guard.insert(Arc::clone(&found));
            return Ok(found);
        }
        self.found.miss.inc();
        let computed = self.computed(compute)?;
        // It fails only where the entry was removed meanwhile, which is no loss.
        let _ = guard.insert(Arc::clone(&computed));
        if let Some(shared) = &self.shared {
            shared.put(key.clone(), Arc::clone(&computed));
        }
        Ok(computed)
    }

    /// What is kept here and need not be renewed by this request.
    fn fresh(&self, digest: Local) -> Option<Arc<Stored>> {
        let luck = rand::random_range(f64::MIN_POSITIVE..1.0);
        let found = self.local.get(&digest)?;
        if !found.is_due(now_ms(), luck) {
            return Some(found);
        }
        // It must go, or this request would find it again instead of computing another one.
        self.local.remove_if(&digest, |old| Arc::ptr_eq(old, &found));
        None
    }

    async fn of_replicas(&self, key: &Key) -> Option<Arc<Stored>> {
        let found = self.shared.as_ref()?.get(key).await?;
        let luck = rand::random_range(f64::MIN_POSITIVE..1.0);
        if found.is_due(now_ms(), luck) {
            return None;
        }
        self.found.shared.inc();
        Some(Arc::new(found))
    }

    fn computed<E>(&self, compute: impl FnOnce() -> Result<Body, E>) -> Result<Arc<Stored>, E> {
        let started = Instant::now();
        let body = compute()?;
        Ok(Arc::new(Stored {
            body,
            expires_ms: now_ms().saturating_add(self.ttl_ms),
            cost_us: u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX),
        }))
    }

    /// Forgets the answers about these customers, here and in Redis.
    pub async fn forget(&self, customers: &[Tag]) {
        self.local.retain(|(about, _), _| !customers.contains(about));
        if let Some(shared) = &self.shared {
            shared.forget(customers).await;
        }
    }

    /// Whether Redis is left alone because it fails.
    pub fn is_cut_off(&self) -> bool {
        self.shared.as_ref().is_some_and(SharedAnswers::is_cut_off)
    }

    /// Writes to Redis what was computed, until stopped.
    pub async fn run(&self, stop: tokio_util::sync::CancellationToken) {
        match &self.shared {
            Some(shared) => shared.run(stop).await,
            None => stop.cancelled().await,
        }
    }
}

#[cfg(test)]
mod tests;
