//! The `recommender` program as a library: `main` is a thin shell around [`cli`], and tests start the same
//! [`service`] that runs in a pod.
//!
//! One ingest thread owns the model and applies events from a [`source`]; readers answer requests from what
//! it published and never wait for it; what requests append goes to a [`log`].
#![forbid(unsafe_code)]

pub mod baskets;
pub mod cache;
pub mod calm;
pub mod cli;
pub mod clock;
pub mod config;
pub mod directory;
pub mod experiments;
pub mod headless;
pub mod histories;
pub mod http;
pub mod ids;
pub mod impressions;
pub mod ingest;
pub mod insights;
pub mod kafka;
pub mod log;
pub mod metrics;
pub mod model;
pub mod onnx;
pub mod placements;
pub mod privacy;
pub mod product;
pub mod profile;
pub mod quality;
pub mod ratelimit;
pub mod resilience;
pub mod retry;
pub mod secrets;
pub mod service;
pub mod shown;
pub mod snapshot;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod traces;
pub mod trainer;
pub mod watching;
