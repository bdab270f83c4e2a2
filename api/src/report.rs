//! The recommender's own status (`GET /status` on the internal port), which the operator reads.

use serde::{Deserialize, Serialize};

/// Where a replica stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Reading the log for the first time.
    Loading,
    /// Caught up once; answers.
    Serving,
}

/// Health of something that the recommender depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DependencyState {
    /// Not configured.
    Disabled,
    /// Answers.
    Up,
    /// Does not answer; the service goes on from memory.
    Down,
}

/// One replica's status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    /// Version of the program.
    pub version: String,
    /// Where it stands.
    pub phase: Phase,
    /// Events learned since the log's start (duplicates and malformed ones not counted).
    pub events: u64,
    /// Records not yet applied, over all partitions; 0 for an empty or quiet log.
    pub lag_records: u64,
    /// Age of the oldest record not yet applied, in seconds; 0 without lag.
    pub lag_seconds: f64,
    /// Records sent to the dead-letter topic.
    pub dead_letters: u64,
    /// The model.
    pub model: ModelReport,
    /// Kafka, or the embedded log.
    pub log: DependencyState,
    /// Redis.
    pub redis: DependencyState,
    /// Whether customers behave as they did when the model was made; absent while too few events say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftReport>,
    /// What is missing or degraded, for people; empty when all is well.
    pub notes: Vec<String>,
}

/// Drift of the last day against the week before it and against what fitted models were made from, as population stability indices (0 = none; over 0.2 is a
/// shift).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftReport {
    /// Of the mix of products.
    pub products: f64,
    /// Of the mix of event types.
    pub event_types: f64,
    /// Of the mix of products since the fitted models were made; absent without such models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_fit: Option<f64>,
    /// `quality.driftThreshold`.
    pub threshold: f64,
    /// Whether any index is over the threshold.
    pub drifted: bool,
}

/// What a replica's model knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelReport {
    /// The algorithm that answers.
    pub algorithm: String,
    /// Version id, in every answer.
    pub version: String,
    /// Products seen.
    pub products: u64,
    /// Customers seen.
    pub customers: u64,
    /// When a fitted part was trained (RFC 3339); absent for counted models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained_at: Option<String>,
    /// Prequential hit rate@10 in 0..=1; absent until measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hit_rate_at_10: Option<f64>,
}
