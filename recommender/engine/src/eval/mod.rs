//! Evaluation: data in three forms, metrics, splits, running models over them, and the search for
//! hyper-parameters. Pure functions; reading files, printing tables and looking at clocks is the caller's.

mod data;
mod instant;
mod likeness;
mod metrics;
mod params;
mod parse;
mod replay;
mod run;
mod space;
mod split;
mod tape;
mod tune;
mod weights;

pub use crate::models::{als::AlsParams, ease::EaseParams, shape::Shape};
pub use data::{Dataset, Pair, Task, Touch};
pub use likeness::Likeness;
pub use metrics::{Collector, Metrics};
pub use params::{ParamError, Params};
pub use parse::{
    DataError, LogEvent, oldest_event, parse_events, parse_interactions, parse_log, parse_sessions,
};
pub use replay::{DriftPoint, Freeze, Point, Prediction, Replay, Replayed, Series, replay};
pub use run::{EvalError, Trained};
pub use tune::{Search, Step, Tuned, tune};
pub use weights::fit_blend_weights;
