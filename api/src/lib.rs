//! What the operator, the recommender and their users share, typed once: the `RecommendationPipeline`
//! resource, the configuration that the operator renders and the recommender reads, the records on
//! Kafka topics, condition and reason names, and the recommender's own status report.
//!
//! No I/O and no async lives here.
#![forbid(unsafe_code)]

pub mod conditions;
pub mod config;
pub mod duration;
pub mod event;
pub mod impression;
pub mod model;
pub mod names;
pub mod pipeline;
pub mod records;
pub mod report;

pub use config::RecommenderConfig;
pub use duration::HumanDuration;
pub use event::{Event, EventError, EventType};
pub use impression::{Impression, ShownItem};
pub use pipeline::{RecommendationPipeline, RecommendationPipelineSpec, RecommendationPipelineStatus};
