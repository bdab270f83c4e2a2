//! The ksqlDB client and its plans against a double that answers only what a real server was recorded to answer.

mod client;
mod double;
mod upgrade;
