//! Caches, breakers and load.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::register::Register;

/// Metrics of caches, breakers and load.
pub struct ResilienceMetrics {
    /// Cached answers by where they were found: local, shared, miss.
    pub cache_requests: IntCounterVec,
    /// Calls of Redis for cached answers that failed.
    pub cache_errors: IntCounter,
    /// Histories asked of Redis by who asked (learning, request) and what came of it: found, none, failed.
    pub recalls: IntCounterVec,
    /// 1 while a dependency is not called because it fails, by its name.
    pub breaker_open: IntGaugeVec,
    /// Requests in flight.
    pub in_flight: IntGauge,
    /// How late tasks run, seconds.
    pub task_delay: Gauge,
}

impl ResilienceMetrics {
    pub(super) fn new(r: &Register) -> Result<Self, prometheus::Error> {
        Ok(Self {
            cache_requests: r.counters(
                "cache_requests_total",
                "Recommendations asked of the cache by where they were found: local, shared (Redis) or miss",
                "result",
            )?,
            cache_errors: r.counter(
                "cache_errors_total",
                "Calls of Redis for cached answers that failed or took too long",
            )?,
            recalls: r.counters_by(
                "histories_recalled_total",
                "With histories in Redis: those asked for, by whom (learning, request) and what came of it \
                 (found, none, failed)",
                &["by", "result"],
            )?,
            breaker_open: r.gauges(
                "breaker_open",
                "1 while a dependency is not called because it fails",
                "dependency",
            )?,
            in_flight: r.gauge("http_requests_in_flight", "Requests in flight on the public port")?,
            task_delay: r.share(
                "task_delay_seconds",
                "How late tasks run, which is how long requests wait for a processor; load is shed over 0.1",
            )?,
        })
    }
}
