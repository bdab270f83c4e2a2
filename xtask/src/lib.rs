//! Everything a contributor runs: the local stack (real Kubernetes, Kafka and Redis on one machine), images,
//! and what is built on them. A library, so that the tasks in `main.rs` and its tests share one implementation.

pub mod build;
pub mod command;
pub mod image;
pub mod machine;
pub mod paths;
pub mod progress;
pub mod release;
pub mod stack;
