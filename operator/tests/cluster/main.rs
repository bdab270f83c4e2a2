//! The operator on a real API server and a real Kafka, with the rights of the ClusterRole that it ships.
//! `cargo xtask test` starts both.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod api_server;
mod cel;
mod deletion;
#[path = "../ksqldb/double.rs"]
#[allow(dead_code, reason = "the ksqldb tests use more of it")]
mod double;
mod edits;
mod exposure;
mod gitops;
mod harness;
mod healing;
mod killed;
mod ksqldb;
mod ksqldb_access;
mod leader;
mod life;
mod lifecycle;
#[path = "../ksqldb/listener.rs"]
mod listener;
mod monitoring;
mod namespaces;
mod outage;
mod plan;
mod pods;
mod process;
mod proxy;
mod rights;
mod soak;
mod topics;
mod traces;
