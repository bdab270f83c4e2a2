//! In embedded mode nobody else trains: a task of the service does, on schedule, and when what customers do begins to
//! drift away from what the model was made from. (In Kubernetes a CronJob runs `recommender model train`.)

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use croner::Cron;
use jiff::Zoned;
use jiff::tz::TimeZone;
use recommender_engine::EngineConfig;
use tokio_util::sync::CancellationToken;

use super::shelf::Shelf;
use crate::clock::now_ms;
use crate::config::Live;
use crate::ingest::{LateReader, Progress};

/// Longest single sleep: a clock that was set is noticed after it.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Why a schedule is refused.
#[derive(Debug, thiserror::Error)]
#[error("model.retrain.schedule: {0:?} is not a cron schedule of five fields (such as \"0 3 * * *\"): {1}")]
pub struct ScheduleError(String, String);

/// Checks a schedule.
pub fn parse(schedule: &str) -> Result<Cron, ScheduleError> {
    Cron::from_str(schedule).map_err(|e| ScheduleError(schedule.to_owned(), e.to_string()))
}

/// Between two trainings that drift asks for, milliseconds: what has changed does so for days.
const DRIFT_PAUSE_MS: i64 = 24 * 60 * 60 * 1000;

/// What the drift is like.
#[derive(Clone, Copy, Debug)]
struct Drifted {
    /// Whether any of its indices is over the threshold.
    over: bool,
    /// Whether the one against what the models were made from is: only a training brings that one down.
    far: bool,
}

/// Tells when drift asks for a training: when it has come over its threshold, and as long as what the models were made
/// from is over it; at most once a day.
#[derive(Debug, Default)]
struct OnDrift {
    /// Whether it was over it when last looked; nothing before the first look, so that a restart asks for nothing.
    over: Option<bool>,
    asked_ms: Option<i64>,
}

impl OnDrift {
    /// `drifted` is nothing while too few events tell.
    fn asks(&mut self, drifted: Option<Drifted>, now_ms: i64) -> bool {
        let Some(Drifted { over, far }) = drifted else {
            return false;
        };
        let asks = over && (self.over == Some(false) || far && self.over.is_some());
        let rested = self.asked_ms.is_none_or(|at| now_ms - at >= DRIFT_PAUSE_MS);
        if asks && !rested {
            return false; // it still begins, as far as the next look is concerned
        }
        self.over = Some(over);
        if asks {
            self.asked_ms = Some(now_ms);
        }
        asks
    }
}

/// What the trainer looks at while it waits.
pub struct Watched {
    /// How far the replica is, and its drift.
    pub progress: Arc<ArcSwap<Progress>>,
    /// The threshold in force.
    pub live: Arc<ArcSwap<Live>>,
    /// Whether drift asks for a training at all.
    pub on_drift: bool,
}

impl Watched {
    fn drifted(&self) -> Option<Drifted> {
        let drift = self.progress.load().drift.filter(|_| self.on_drift)?;
        let threshold = self.live.load().drift_threshold;
        Some(Drifted {
            over: drift.worst() > threshold,
            far: drift.since_fit.is_some_and(|since_fit| since_fit > threshold),
        })
    }
}

/// Trains on schedule, in UTC, and on drift, until stopped.
pub async fn run(
    cron: Cron,
    reader: LateReader,
    config: EngineConfig,
    shelf: Shelf,
    watched: Watched,
    stop: CancellationToken,
) {
    let mut on_drift = OnDrift::default();
    let now = || Zoned::now().with_time_zone(TimeZone::UTC);
    loop {
        let Ok(next) = cron.find_next_occurrence(&now(), false) else {
            tracing::warn!("the training schedule never comes");
            return stop.cancelled().await;
        };
        while now() < next {
            if on_drift.asks(watched.drifted(), now_ms()) {
                tracing::info!("what customers do has drifted: models are fitted again");
                break;
            }
            let left = Duration::try_from(now().duration_until(&next)).unwrap_or_default();
            let sleep = tokio::time::sleep(left.min(LONGEST_SLEEP));
            if stop.run_until_cancelled(sleep).await.is_none() {
                return;
            }
        }
        let training = super::train((*reader).clone(), config.clone(), &shelf);
        match stop.run_until_cancelled(training).await {
            None => return,
            Some(Ok(_)) => {}
            Some(Err(e)) => tracing::warn!(error = %e, "no models were fitted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_asks_when_it_comes_over_its_threshold_and_once_a_day_at_most() {
        let hour = 3_600_000;
        let drifted = |over| Some(Drifted { over, far: false });
        let mut on_drift = OnDrift::default();
        assert!(!on_drift.asks(None, 0));
        assert!(
            !on_drift.asks(drifted(true), 0),
            "it was so before this process began"
        );
        assert!(!on_drift.asks(drifted(false), hour));
        assert!(on_drift.asks(drifted(true), 2 * hour));
        assert!(!on_drift.asks(drifted(true), 3 * hour));
        assert!(!on_drift.asks(drifted(false), 4 * hour));
        assert!(!on_drift.asks(drifted(true), 5 * hour), "it asked today");
        assert!(!on_drift.asks(None, 6 * hour));
        assert!(on_drift.asks(drifted(true), 26 * hour), "and still stands");
        assert!(!on_drift.asks(drifted(true), 80 * hour));
    }

    #[test]
    fn what_drifts_on_after_a_training_asks_again_the_next_day() {
        let hour = 3_600_000;
        let far = Some(Drifted {
            over: true,
            far: true,
        });
        let mut on_drift = OnDrift::default();
        assert!(!on_drift.asks(far, 0), "a restart asks for nothing");
        assert!(on_drift.asks(far, hour));
        assert!(!on_drift.asks(far, 24 * hour));
        assert!(on_drift.asks(far, 25 * hour));
    }

    #[test]
    fn schedules_are_cron_and_others_are_refused_by_name() {
        let cron = parse("0 3 * * *").unwrap();
        let at: Zoned = "2026-01-31T04:00:00+00:00[UTC]".parse().unwrap();
        let next = cron.find_next_occurrence(&at, false).unwrap();
        assert_eq!(next.to_string(), "2026-02-01T03:00:00+00:00[UTC]");
        let error = parse("at night").unwrap_err().to_string();
        assert!(error.contains("model.retrain.schedule"), "{error}");
    }
}
