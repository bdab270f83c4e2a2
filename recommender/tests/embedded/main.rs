//! The whole service in embedded mode, over real connections.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod ageing;
mod catalog;
mod clients;
mod console;
mod events;
mod experiments;
mod keys;
mod ksqldb;
mod limits;
mod mail;
mod memory;
mod models;
mod privacy;
mod rolling;
mod routes;
mod snippet;
mod state;
mod tls;

use std::path::Path;

use recommendation_api::config::RecommenderConfig;
use recommender::service::{Mode, Options};

/// A service on `shop.db` in `dir`.
fn embedded(dir: &Path, config: RecommenderConfig) -> Options {
    support::options(config, Mode::Embedded(dir.join("shop.db")), dir)
}
