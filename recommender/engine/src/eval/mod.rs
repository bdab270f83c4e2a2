//! Evaluation: data in three forms, metrics, splits, and running models over them. Pure functions; reading
//! files and printing tables is the caller's.

mod data;
mod instant;
mod metrics;
mod params;
mod run;
mod split;
mod tune;

pub use crate::models::{als::AlsParams, ease::EaseParams};
pub use data::{
    DataError, Dataset, Pair, Task, Touch, oldest_event, parse_events, parse_interactions, parse_sessions,
};
pub use metrics::{Collector, Metrics};
pub use params::{ParamError, Params};
pub use run::{EvalError, Trained};
pub use tune::{objective, tune};
