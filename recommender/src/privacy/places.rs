//! Where personal data lies and for how long, as erasures and exports tell it.

use std::time::Duration;

use recommendation_api::config::RecommenderConfig;
use recommendation_api::event::rfc3339;
use recommendation_api::pipeline::recommender::Histories;
use serde::Serialize;
use utoipa::ToSchema;

use crate::histories::grace;

/// Fitted models are made anew at least this often.
const FIT_WITHIN_MS: i64 = 24 * 3_600_000;
/// How long a compacted topic may keep what was replaced (`max.compaction.lag.ms`), and then its tombstone
/// (`delete.retention.ms`), as the operator and Kafka have them.
const COMPACTED_WITHIN_MS: i64 = 2 * 24 * 3_600_000;

/// How long a snapshot may still be there that was taken before an erasure, where they are taken so often: until the slot
/// that begins then is over, with the lateness and time that writing is given.
pub fn lasts(interval: Duration) -> Duration {
    interval + interval / 10 + Duration::from_secs(60)
}

/// What goes later than the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Later {
    /// What.
    pub what: &'static str,
    /// When it is gone at the latest.
    pub until: String,
}

/// What stays in the shop's own log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Remains {
    /// Topic, or table of the embedded log.
    pub place: String,
    /// What of the customer stands there.
    pub what: &'static str,
    /// When the last of it is removed.
    pub until: String,
}

/// Where personal data lies.
#[derive(Clone, Debug, Default)]
pub struct Places {
    events: String,
    profiles: String,
    dead_letters: String,
    impressions: Option<String>,
    retention_ms: i64,
    /// How often snapshots are written, where they are.
    snapshots: Option<Duration>,
    fitted: bool,
    /// How long Redis leaves what is forgotten, if it keeps histories.
    elsewhere: Option<Duration>,
}

impl Places {
    /// Of a pipeline; `embedded` has tables instead of topics.
    pub fn new(config: &RecommenderConfig, embedded: bool) -> Self {
        let topics = &config.topics;
        let name = |topic: &str, table: &str| if embedded { table } else { topic }.to_owned();
        let snapshots = config
            .snapshots
            .clone()
            .or_else(|| embedded.then(Default::default));
        Self {
            events: name(&topics.events, "events"),
            profiles: name(&topics.profiles, "profiles"),
            dead_letters: name(&topics.dead_letter, "dead_letters"),
            impressions: (!embedded).then(|| topics.impressions.clone()),
            retention_ms: config.privacy.retention.as_millis(),
            snapshots: snapshots.as_ref().map(|snapshots| snapshots.interval.0),
            fitted: snapshots.is_some(),
            elsewhere: (config.histories == Histories::Redis).then(|| grace(config)),
        }
    }

    /// What every replica forgets as soon as it hears of an erasure.
    pub fn at_once(&self) -> Vec<&'static str> {
        vec![
            "the history and what follows from it in counted models (popularity, ItemKnn, Rp3Beta, SessionKnn)",
            "the profile",
            "answers in caches",
            "what was shown, as far as figures are made of it",
        ]
    }

    /// What is made anew without the customer, and by when.
    pub fn later(&self, now_ms: i64) -> Vec<Later> {
        let until = |ms: i64| rfc3339(now_ms.saturating_add(ms));
        let within = |time: Duration| until(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        let mut later = Vec::new();
        if let Some(grace) = self.elsewhere {
            later.push(Later {
                what: "the events that Redis keeps as the history",
                until: within(grace),
            });
        }
        if let Some(interval) = self.snapshots {
            later.push(Later {
                what: "snapshots of the model",
                until: within(lasts(interval)),
            });
        }
        if self.fitted {
            later.push(Later {
                what: "the influence on fitted models (Ease, ImplicitAls, weights of the blend)",
                until: until(FIT_WITHIN_MS),
            });
        }
        later
    }

    /// What stays in the log, and until when at the latest.
    pub fn remains(&self, now_ms: i64, profiled: bool) -> Vec<Remains> {
        let remains = |place: &str, what, ms: i64| Remains {
            place: place.to_owned(),
            what,
            until: rfc3339(now_ms.saturating_add(ms)),
        };
        let mut all = vec![
            remains(&self.events, "records of events", self.retention_ms),
            remains(
                &self.dead_letters,
                "malformed records, which may name the customer",
                self.retention_ms,
            ),
        ];
        if let Some(impressions) = &self.impressions {
            all.push(remains(impressions, "what was shown", self.retention_ms));
            if profiled {
                all.push(remains(
                    &self.profiles,
                    "the profile that was replaced and its tombstone",
                    COMPACTED_WITHIN_MS,
                ));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_follows_the_configuration() {
        let mut config = RecommenderConfig::default();
        config.privacy.retention = "7d".parse().unwrap();
        let kafka = Places::new(&config, false);
        assert!(kafka.later(0).is_empty(), "no snapshots, nothing fitted");
        let places: Vec<String> = kafka.remains(0, true).into_iter().map(|it| it.place).collect();
        let expected = [
            "customer_behavior",
            "customer_behavior_dead_letter",
            "recommendation_impressions",
            "customer_profiles",
        ];
        assert_eq!(places, expected);
        assert_eq!(kafka.remains(0, false)[0].until, rfc3339(7 * 24 * 3_600_000));
        config.histories = Histories::Redis;
        assert_eq!(Places::new(&config, false).later(0).len(), 1);
        config.histories = Histories::Memory;
        let embedded = Places::new(&config, true);
        assert_eq!((embedded.later(0).len(), embedded.remains(0, true).len()), (2, 2));
    }
}
