//! The service against a real Kafka and Redis. Every test has topics, keys and a consumer group of its own.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod brokers;
mod cable;
mod cache;
mod dead_letters;
mod erasures;
mod experiments;
mod faults;
mod histories;
mod kafka;
mod load;
mod ordeal;
mod outages;
mod privacy;
mod producers;
mod redis;
mod replica;
mod replicas;
mod secured;
mod shop;
mod traces;
