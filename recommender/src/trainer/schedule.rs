//! In embedded mode nobody else trains: a task of the service does, on schedule. (In Kubernetes a CronJob runs
//! `recommender model train`.)

use std::str::FromStr as _;
use std::time::Duration;

use croner::Cron;
use jiff::Zoned;
use jiff::tz::TimeZone;
use recommender_engine::EngineConfig;
use tokio_util::sync::CancellationToken;

use super::shelf::Shelf;
use crate::ingest::LateReader;

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

/// Trains on schedule, in UTC, until stopped.
pub async fn run(
    cron: Cron,
    reader: LateReader,
    config: EngineConfig,
    shelf: Shelf,
    stop: CancellationToken,
) {
    let now = || Zoned::now().with_time_zone(TimeZone::UTC);
    loop {
        let Ok(next) = cron.find_next_occurrence(&now(), false) else {
            tracing::warn!("the training schedule never comes");
            return stop.cancelled().await;
        };
        while now() < next {
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
    fn schedules_are_cron_and_others_are_refused_by_name() {
        let cron = parse("0 3 * * *").unwrap();
        let at: Zoned = "2026-01-31T04:00:00+00:00[UTC]".parse().unwrap();
        let next = cron.find_next_occurrence(&at, false).unwrap();
        assert_eq!(next.to_string(), "2026-02-01T03:00:00+00:00[UTC]");
        let error = parse("at night").unwrap_err().to_string();
        assert!(error.contains("model.retrain.schedule"), "{error}");
    }
}
