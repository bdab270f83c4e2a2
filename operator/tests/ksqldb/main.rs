//! The ksqlDB client and its plans against a double that answers only what a real server was recorded to answer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod client;
mod declarative;
mod double;
mod listed;
mod listener;
mod refusals;
mod tls;
mod upgrade;
