//! `cargo xtask conformance`: checks by the ecosystem's own tools that are too slow, or need too much, for every run of
//! `cargo xtask test`. One suite, one file.

mod api;
mod argo_cd;
mod autoscaler;
mod charts;
mod cluster;
mod compose;
mod docs;
mod fuzz;
mod health;
mod helm;
mod manifests;
pub(crate) mod postman;
mod prometheus;
mod rights;
pub(crate) mod rules;
mod service;
mod supply_chain;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::progress::Steps;
use crate::stack::run::Ports;
use crate::stack::{NodeMode, Stack, StackOptions};

/// Options of `cargo xtask conformance`.
#[derive(Args, Debug)]
pub struct ConformanceOptions {
    /// What to check
    #[command(subcommand)]
    pub suite: Suite,
}

/// What there is to check.
#[derive(Debug, Subcommand)]
pub enum Suite {
    /// The HTTP API against its OpenAPI document, by Schemathesis.
    Api {
        /// Requests made up per route and phase, at most
        #[arg(long, default_value_t = 100)]
        examples: u32,
    },
    /// Every parser of outside bytes with very many inputs.
    Fuzz {
        /// Inputs per parser
        #[arg(long, default_value_t = 100_000)]
        cases: u64,
    },
    /// The Postman collection, by newman.
    Postman,
    /// The charts: lint, unit tests, READMEs, and schemas of a running API server.
    Charts,
    /// `docker-compose.yml`, by the library behind `docker compose config`.
    Compose,
    /// The documents as a book: built by mdBook, every link and anchor followed.
    Docs,
    /// When a pipeline is healthy: Argo CD's script by the Lua that Argo CD runs it with, and kstatus, by which Flux judges.
    Health,
    /// Our charts and a pipeline under a real Argo CD, from a Git repository, on a real node.
    ArgoCd {
        /// Do not ask before packages are installed and routes are set
        #[arg(long)]
        yes: bool,
        /// Leave everything running afterwards
        #[arg(long)]
        keep: bool,
    },
    /// The number of replicas as a real HorizontalPodAutoscaler decides it by metrics-server's figures, on a real node:
    /// up under load, down ten minutes after it, and the operator never writes it.
    Autoscaler {
        /// Do not ask before packages are installed and routes are set
        #[arg(long)]
        yes: bool,
        /// Leave everything running afterwards
        #[arg(long)]
        keep: bool,
    },
    /// From nothing to the first recommendation by Helm alone, upgraded and removed, on a real node.
    Helm {
        /// Do not ask before packages are installed and routes are set
        #[arg(long)]
        yes: bool,
    },
    /// Our ServiceMonitors, rules and dashboards by the Prometheus operator and a Prometheus, on a real node.
    Prometheus {
        /// Do not ask before packages are installed and routes are set
        #[arg(long)]
        yes: bool,
        /// Leave everything running afterwards
        #[arg(long)]
        keep: bool,
    },
    /// Licences, duplicates and sources of dependencies by cargo-deny; the workflows by actionlint.
    SupplyChain,
    /// The operator's ClusterRole, each right of it taken away in turn: a pipeline's life must miss it.
    Rights,
    /// The alerts, by promtool.
    Rules,
    /// Every manifest that we ship, applied on a real API server by its own kubectl.
    Manifests,
}

/// Runs one suite.
///
/// # Errors
/// When a check fails, or a tool for it cannot be had.
pub fn run(options: &ConformanceOptions, steps: &mut Steps) -> Result<()> {
    match options.suite {
        Suite::Api { examples } => api::run(examples, steps),
        Suite::Fuzz { cases } => fuzz::run(cases, steps),
        Suite::Postman => postman::run(steps),
        Suite::Charts => charts::run(steps),
        Suite::Compose => compose::run(steps),
        Suite::Docs => docs::run(steps),
        Suite::Health => health::run(steps),
        Suite::ArgoCd { yes, keep } => argo_cd::run(yes, keep, steps),
        Suite::Autoscaler { yes, keep } => autoscaler::run(yes, keep, steps),
        Suite::Helm { yes } => helm::run(yes, steps),
        Suite::Prometheus { yes, keep } => prometheus::run(yes, keep, steps),
        Suite::SupplyChain => supply_chain::run(steps),
        Suite::Rights => rights::run(steps),
        Suite::Rules => rules::run(steps),
        Suite::Manifests => manifests::run(steps),
    }
}

/// The run that the suites use; it stands beside a demo.
const RUN: &str = "conformance";
const PORT_OFFSET: u16 = 300;

/// Runs `work` against an API server of its own (with Kafka and Redis where wanted), which is stopped afterwards whatever
/// came of it.
fn with_stack(
    controllers: bool,
    kafka: bool,
    steps: &mut Steps,
    work: impl FnOnce(&Stack, &mut Steps) -> Result<()>,
) -> Result<()> {
    let options = StackOptions {
        run_name: RUN.to_owned(),
        kubernetes: true,
        node: NodeMode::Off,
        controllers,
        kafka,
        kafka_nodes: 1,
        redis: kafka,
        kafka_secured: false,
        ports: Ports::offset(PORT_OFFSET)?,
    };
    let result = Stack::up(&options, steps).and_then(|stack| work(&stack, steps));
    steps.run("Stop the servers", |_| Stack::down(RUN, true))?;
    result
}
