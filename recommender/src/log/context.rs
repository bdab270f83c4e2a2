//! What librdkafka has to say, as far as people should hear it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;

/// How often the same trouble is told.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Callbacks of every Kafka client of ours.
///
/// The end of a partition reaches the error callback as well as the caller: it is the normal state of a
/// live reader and no error. A lost broker is reported for each attempt to reconnect: once in a while is
/// enough.
#[derive(Default)]
pub struct Quiet {
    told: Mutex<Option<Instant>>,
    ends: Mutex<HashMap<i32, i64>>,
    refused: Mutex<Option<String>>,
}

/// Whether Kafka refuses us, instead of being away: callers of librdkafka cannot tell, because they see a
/// timeout or a lost connection either way.
fn refusal(error: &KafkaError, reason: &str) -> Option<String> {
    let field = match error.rdkafka_error_code()? {
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
            "kafka.authentication"
        }
        RDKafkaErrorCode::SSL => "kafka.tls",
        _ => return None,
    };
    // What follows differs from attempt to attempt.
    let reason = reason.split(" (after ").next().unwrap_or(reason);
    Some(format!("Kafka refuses the connection (see {field}): {reason}"))
}

impl Quiet {
    /// Up to where each partition was read when its end was last reached. That is further than the last
    /// record that was handed over, where control records or compacted ones stand behind it. Told once in
    /// each `statistics.interval.ms`; of a consumer of one topic.
    pub fn ends_reached(&self) -> HashMap<i32, i64> {
        self.ends.lock().map(|ends| ends.clone()).unwrap_or_default()
    }

    /// Why Kafka refuses the connection, since it last did not.
    pub fn refused(&self) -> Option<String> {
        self.refused.lock().ok().and_then(|refused| refused.clone())
    }

    /// Kafka has answered: it refuses no more.
    pub fn accepted(&self) {
        if let Ok(mut refused) = self.refused.lock() {
            *refused = None;
        }
    }

    fn may_tell(&self) -> bool {
        let Ok(mut told) = self.told.lock() else {
            return true;
        };
        let due = told.is_none_or(|at| at.elapsed() >= TELL_EVERY);
        if due {
            *told = Some(Instant::now());
        }
        due
    }
}

impl ClientContext for Quiet {
    fn stats(&self, statistics: Statistics) {
        let Ok(mut ends) = self.ends.lock() else { return };
        for topic in statistics.topics.into_values() {
            let reached = topic
                .partitions
                .into_iter()
                .map(|(id, partition)| (id, partition.eof_offset));
            ends.extend(reached.filter(|(id, end)| *id >= 0 && *end >= 0));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let end = error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF)
            || matches!(error, KafkaError::PartitionEOF(_));
        if end {
            return;
        }
        if let Some(refusal) = refusal(&error, reason) {
            let new = self
                .refused
                .lock()
                .is_ok_and(|mut refused| refused.replace(refusal.clone()).as_ref() != Some(&refusal));
            // Another reason than before is told at once.
            if new || self.may_tell() {
                tracing::error!("{refusal}");
            }
            return;
        }
        if self.may_tell() {
            tracing::warn!(%error, reason, "Kafka client");
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Its errors come through the callback above too.
        use RDKafkaLogLevel::{Alert, Critical, Emerg};
        match level {
            Emerg | Alert | Critical => tracing::error!(facility, message, "librdkafka"),
            _ => tracing::debug!(facility, message, "librdkafka"),
        }
    }
}

impl ConsumerContext for Quiet {}
