//! Whether the operator is alive: its loop turns, and its watches bring news.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::Metrics;

/// The loop is expected to turn at least this often; it does every few seconds.
const SILENCE: Duration = Duration::from_secs(120);
/// A watch that has been failing for this long is news.
const FAILING: Duration = Duration::from_secs(60);
/// Two failures further apart than this are two outages: a watch is tried again within half a minute.
const APART: Duration = Duration::from_secs(90);

/// What the health server looks at.
#[derive(Debug)]
pub struct Health {
    metrics: Arc<Metrics>,
    /// When the controller's loop last turned; `None` before it runs.
    turned: Mutex<Option<Instant>>,
    /// First and last failure of the present outage, by kind.
    failing: Mutex<HashMap<String, (Instant, Instant)>>,
}

impl Health {
    /// Nothing runs yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            turned: Mutex::default(),
            failing: Mutex::default(),
        }
    }

    /// The controller's loop turns.
    pub fn turn(&self) {
        *self.turned.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether the loop hangs. An API server that is gone is no hanging: a restart would not bring it back.
    pub fn hangs(&self) -> bool {
        let turned = *self.turned.lock().unwrap_or_else(PoisonError::into_inner);
        turned.is_some_and(|at| at.elapsed() > SILENCE)
    }

    /// A watch failed; it is tried again.
    pub fn watch_failed(&self, kind: &str) {
        self.metrics.watch_errors.with_label_values(&[kind]).inc();
        let now = Instant::now();
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, last) = failing.entry(kind.to_owned()).or_insert((now, now));
        if now.duration_since(*last) > APART {
            *first = now;
        }
        *last = now;
    }

    /// A watch brought something.
    pub fn watch_is_well(&self, kind: &str) {
        self.failing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(kind);
    }

    /// Kinds whose watch has been failing for a while, in order.
    pub fn failing(&self) -> Vec<String> {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kinds: Vec<String> = failing
            .iter()
            .filter(|(_, (first, last))| last.elapsed() < APART && last.duration_since(*first) > FAILING)
            .map(|(kind, _)| kind.clone())
            .collect();
        kinds.sort();
        kinds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_failing_only_once_it_has_failed_for_a_while() {
        let health = Health::new(Arc::new(Metrics::new().unwrap()));
        assert!(!health.hangs() && health.failing().is_empty());
        health.watch_failed("Pod");
        assert!(health.failing().is_empty(), "one failure is none");
        let long_ago = Instant::now().checked_sub(FAILING * 2).unwrap();
        let age = |kind: &str| {
            let mut failing = health.failing.lock().unwrap();
            failing.get_mut(kind).unwrap().0 = long_ago;
        };
        age("Pod");
        assert_eq!(health.failing(), ["Pod"]);
        health.watch_is_well("Pod");
        assert!(health.failing().is_empty());
    }

    #[test]
    fn a_loop_that_does_not_turn_hangs() {
        let health = Health::new(Arc::new(Metrics::new().unwrap()));
        health.turn();
        assert!(!health.hangs());
        *health.turned.lock().unwrap() = Instant::now().checked_sub(SILENCE * 2);
        assert!(health.hangs());
    }
}
