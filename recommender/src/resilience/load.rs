//! Turns requests away before they queue.
//!
//! Two signs: how many requests are in flight, which grows when something outside is slow; and how late tasks
//! run, which grows when the processors are not enough: an answer that is computed without waiting never is "in
//! flight" while it waits for its turn, its queue is the runtime's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use prometheus::{Gauge, IntGauge};
use tokio_util::sync::CancellationToken;

/// Requests in flight at most.
pub const MAX_IN_FLIGHT: usize = 1_024;
/// How often it is looked how late a task runs.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// From this delay on a share of the requests is turned away, growing with the delay …
const DELAY: f64 = 0.1;
/// … up to nearly all of them at this one, seconds.
const WORST_DELAY: f64 = 0.5;
/// With fewer requests a second than this, the delay is not their doing.
const BUSY: f64 = 200.0;

/// How much there is to do.
pub struct Load {
    max_in_flight: usize,
    in_flight: AtomicUsize,
    /// Requests since the last look.
    arrived: AtomicUsize,
    /// Share of the requests that are turned away, in 1/1000.
    refused: AtomicU64,
    shown_in_flight: IntGauge,
    shown_delay: Gauge,
}

/// A request in flight.
pub struct InFlight(Arc<Load>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Load {
    /// The gauges show requests in flight and the delay in seconds.
    pub fn new(max_in_flight: usize, shown_in_flight: IntGauge, shown_delay: Gauge) -> Self {
        Self {
            max_in_flight,
            in_flight: AtomicUsize::new(0),
            arrived: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            shown_in_flight,
            shown_delay,
        }
    }

    /// Lets one request in, or not. Nobody waits here.
    pub fn admit(self: &Arc<Self>) -> Option<InFlight> {
        self.arrived.fetch_add(1, Relaxed);
        let refused = self.refused.load(Relaxed);
        if refused > 0 && rand::random_range(0..1000) < refused {
            return None;
        }
        let request = InFlight(Arc::clone(self));
        if self.in_flight.fetch_add(1, Relaxed) >= self.max_in_flight {
            return None; // dropping it counts back
        }
        Some(request)
    }

    /// Watches how late tasks run, until stopped.
    pub async fn watch(&self, stop: CancellationToken) {
        let mut delay = 0.0;
        loop {
            let asleep = Instant::now();
            let slept = stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY));
            if slept.await.is_none() {
                return;
            }
            let took = asleep.elapsed().as_secs_f64();
            delay = smoothed(delay, took - LOOK_EVERY.as_secs_f64());
            let rate = self.arrived.swap(0, Relaxed) as f64 / took;
            self.refused.store(share(delay, rate), Relaxed);
            self.shown_delay.set(delay);
            self.shown_in_flight
                .set(i64::try_from(self.in_flight.load(Relaxed)).unwrap_or(i64::MAX));
        }
    }
}

/// About the last ten looks: one task that hogs a processor once is no overload.
fn smoothed(before: f64, now: f64) -> f64 {
    before * 0.8 + now.max(0.0) * 0.2
}

/// Share of the requests to turn away, in 1/1000, at this delay in seconds and so many requests a second.
fn share(delay: f64, rate: f64) -> u64 {
    if rate < BUSY {
        return 0;
    }
    // Some are always let in: their delay is what tells that it is over.
    let share = ((delay - DELAY) / (WORST_DELAY - DELAY)).clamp(0.0, 0.95);
    (share * 1000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(max_in_flight: usize) -> Arc<Load> {
        Arc::new(Load::new(
            max_in_flight,
            IntGauge::new("a", "a").unwrap(),
            Gauge::new("b", "b").unwrap(),
        ))
    }

    #[test]
    fn one_request_too_many_is_turned_away_and_not_counted() {
        let load = load(2);
        let (first, _second) = (load.admit().unwrap(), load.admit().unwrap());
        assert!(load.admit().is_none());
        assert!(load.admit().is_none());
        drop(first);
        assert!(load.admit().is_some());
    }

    #[test]
    fn the_later_tasks_run_the_more_requests_are_turned_away_but_never_all() {
        assert_eq!(share(0.05, 5_000.0), 0);
        let shares = [0.11, 0.2, 0.4, 5.0].map(|delay| share(delay, 5_000.0));
        assert!(shares.is_sorted() && shares[0] > 0, "{shares:?}");
        assert_eq!(shares[3], 950);
    }

    #[test]
    fn a_slow_machine_without_requests_is_no_overload() {
        assert_eq!(share(5.0, 3.0), 0);
    }

    #[test]
    fn one_late_task_is_no_overload_and_many_are() {
        let mut delay = smoothed(0.0, 0.3);
        assert_eq!(share(delay, 5_000.0), 0);
        (0..20).for_each(|_| delay = smoothed(delay, 0.3));
        assert!(share(delay, 5_000.0) > 0);
        (0..20).for_each(|_| delay = smoothed(delay, 0.001));
        assert_eq!(share(delay, 5_000.0), 0);
    }
}
