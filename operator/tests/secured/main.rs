//! The operator on a real Kafka that is behind TLS and logins. `cargo xtask test` starts it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../cluster/harness.rs"]
#[allow(dead_code, reason = "the cluster tests use more of it")]
mod harness;
mod login;
mod pipeline;

use std::path::PathBuf;

/// A variable that `cargo xtask test` sets.
fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
}

/// One of the run's certificates or keys.
fn certificate(name: &str) -> String {
    let path = PathBuf::from(env("TEST_KAFKA_CERTIFICATES")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
