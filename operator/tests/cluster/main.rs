//! The operator on a real API server and a real Kafka, with the rights of the ClusterRole that it ships.
//! `cargo xtask test` starts both.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cel;
mod deletion;
#[path = "../ksqldb/double.rs"]
#[allow(dead_code, reason = "the ksqldb tests use more of it")]
mod double;
mod exposure;
mod harness;
mod healing;
mod killed;
mod ksqldb;
mod leader;
mod lifecycle;
mod monitoring;
mod namespaces;
mod outage;
mod plan;
mod process;
mod rights;
mod soak;
mod topics;
