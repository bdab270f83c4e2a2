//! The operator: makes the world match a `RecommendationPipeline`.
//!
//! A reconcile is five steps, always in this order: [`dereference`] (reads only) → [`validate`] (pure) → [`build`]
//! (pure) → [`apply`] (writes) → [`report`] (one status write). [`reconcile`](mod@reconcile) reads as these steps,
//! [`controller`] wires them to watches.
#![forbid(unsafe_code)]

pub mod apply;
pub mod backoff;
pub mod build;
pub mod caches;
pub mod claims;
pub mod cleanup;
pub mod cli;
pub mod client;
pub mod context;
pub mod controller;
pub mod deadline;
pub mod dereference;
pub mod health;
pub mod kafka;
pub mod ksqldb;
pub mod leader;
pub mod metrics;
pub mod queue;
pub mod reconcile;
pub mod recorder;
pub mod report;
pub mod retrain;
pub mod server;
pub mod telemetry;
pub mod traces;
pub mod validate;

#[cfg(test)]
mod fixtures;
