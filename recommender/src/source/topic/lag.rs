//! How far reading is behind the topic, and how the cluster is.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use recommendation_api::report::DependencyState;

use super::TopicReader;
use crate::source::Lag;

/// How often offsets are published for lag tools.
const PUBLISH_EVERY: Duration = Duration::from_secs(5);

impl TopicReader {
    /// Notes since when each partition has been behind.
    pub(super) fn watch_lag(&mut self) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = self.consumer.context().ends_reached();
        for (partition, place) in &mut self.places {
            place.end_reached = reached.get(partition).copied().unwrap_or(0);
            if known.end(*partition) <= place.reached() {
                place.behind_since = None;
            } else {
                place.behind_since.get_or_insert_with(Instant::now);
            }
        }
    }

    pub(super) fn publish(&mut self) {
        if !self.publish_offsets || self.published.elapsed() < PUBLISH_EVERY {
            return;
        }
        self.published = Instant::now();
        let mut list = TopicPartitionList::new();
        for (&partition, place) in self.places.iter().filter(|(_, place)| place.position.next > 0) {
            // Cannot fail: partition numbers come from the cluster and the offset is absolute.
            let _ = list.add_partition_offset(&self.topic, partition, Offset::Offset(place.position.next));
        }
        if list.count() > 0
            && let Err(e) = self.consumer.commit(&list, CommitMode::Async)
        {
            tracing::debug!(error = %e, "offsets for lag tools were not published");
        }
    }

    /// How far behind; see [`super::Source::lag`].
    pub fn lag(&self, now_ms: i64) -> Lag {
        let known = self.known();
        let (mut records, mut seconds) = (0u64, 0f64);
        for (partition, place) in &self.places {
            let behind = known.end(*partition) - place.reached();
            if behind <= 0 {
                continue;
            }
            records += u64::try_from(behind).unwrap_or(0);
            // The oldest record not applied came after the last one applied and, once caught up, after we
            // fell behind: the smaller of the two bounds its age.
            let since_behind = place
                .behind_since
                .map_or(f64::MAX, |since| since.elapsed().as_secs_f64());
            let since_record = (now_ms - place.position.last_ms).max(0) as f64 / 1000.0;
            let age = if place.caught_up {
                since_record.min(since_behind)
            } else {
                since_record
            };
            // Before the first record nothing bounds its age but how long we have been reading.
            seconds = seconds.max(if place.position.last_ms == 0 {
                since_behind.min(since_record)
            } else {
                age
            });
        }
        Lag {
            records,
            seconds,
            caught_up: self.caught_up(),
        }
    }

    /// Whether everything that stood in the topic when it was first seen has been read.
    pub fn caught_up(&self) -> bool {
        !self.places.is_empty() && self.places.values().all(|place| place.caught_up)
    }

    /// Whether the cluster answers and has no such topic.
    pub fn is_absent(&self) -> bool {
        self.known().absent
    }

    /// Whether the cluster answers.
    pub fn state(&self) -> DependencyState {
        self.known().state.unwrap_or(DependencyState::Down)
    }

    /// What is wrong, for people.
    pub fn problem(&self) -> Option<String> {
        self.known().problem.clone()
    }
}
