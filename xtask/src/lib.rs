//! Everything a contributor runs: the local stack (real Kubernetes, Kafka and Redis on one machine), images,
//! and what is built on them. A library, so that the tasks in `main.rs` and its tests share one implementation.

pub mod api;
pub mod bench;
pub mod build;
pub mod check;
pub mod clicks;
pub mod command;
pub mod compare;
pub mod conformance;
mod console;
pub mod demo;
pub mod dev;
pub mod e2e;
pub mod image;
mod instructions;
pub mod kubectl;
pub mod machine;
pub mod paths;
pub mod progress;
pub mod publish;
pub mod release;
mod repository;
pub mod soak;
pub mod stack;
pub mod tools;
