//! `cargo xtask soak`: a demo under a steady stream of clicks for as long as wanted. What must not grow or be
//! written is looked at all the while. Beside it, the operator alone with thousands of pipelines, and through outages.

mod faults;
mod operator;
mod recommender;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};

use crate::clicks;
use crate::demo::{self, DemoOptions};
use crate::e2e;
use crate::progress::{Steps, seconds};
use crate::stack::run::Ports;
use crate::stack::{NodeMode, StackOptions};

/// Options of `cargo xtask soak`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SoakOptions {
    /// Something else than a demo
    #[command(subcommand)]
    pub what: Option<SoakWhat>,
    /// How long, in minutes
    #[arg(long, default_value_t = 10)]
    pub minutes: u64,
    /// Do not ask before packages are installed and routes are set
    #[arg(long)]
    pub yes: bool,
}

/// What else can be kept under load.
#[derive(Debug, Subcommand)]
pub enum SoakWhat {
    /// Thousands of pipelines on one operator, without a node: cold start, memory, no write for a while, how soon a
    /// change is seen
    Operator(operator::OperatorOptions),
    /// One Kafka of two is gone for some minutes, then the API server for some seconds
    Faults(faults::FaultOptions),
    /// Redis, Kafka, ksqlDB, one of three brokers and a replica gone under load, one after the other: reads that fail, events
    /// that are lost or count twice, time to heal
    Recommender(recommender::RecommenderOptions),
}

/// Servers of the run `name` without a node: an API server that has no controllers, and Kafka.
fn servers(name: &str, offset: u16) -> Result<StackOptions> {
    Ok(StackOptions {
        run_name: name.to_owned(),
        kubernetes: true,
        node: NodeMode::Off,
        controllers: false,
        kafka: true,
        kafka_nodes: 1,
        redis: false,
        kafka_secured: false,
        ports: Ports::offset(offset)?,
    })
}

/// Brings the demo up and keeps clicking, or does what else is named.
///
/// # Errors
/// When a click is lost, or the pipeline's children are written to although nothing was declared anew.
pub fn run(options: &SoakOptions, steps: &mut Steps) -> Result<()> {
    match &options.what {
        Some(SoakWhat::Operator(options)) => return operator::run(options, steps),
        Some(SoakWhat::Faults(options)) => return faults::run(options, steps),
        Some(SoakWhat::Recommender(options)) => return recommender::run(options, steps),
        None => {}
    }
    let outcome = demo::run(
        &DemoOptions {
            yes: options.yes,
            ..DemoOptions::default()
        },
        steps,
    )?;
    let before = e2e::children(&outcome.place)?;
    let begun = Instant::now();
    let mut times = Vec::new();
    steps.run("clicking", |progress| -> Result<()> {
        while begun.elapsed() < Duration::from_secs(options.minutes * 60) {
            times.extend(e2e::click_times(&outcome, 20)?);
            progress.message(format!("{} clicks", times.len()));
        }
        Ok(())
    })?;
    times.sort_unstable();
    println!(
        "{} clicks in {}: p50 {:.1?}, p99 {:.1?}, slowest {:.1?}",
        times.len(),
        seconds(begun.elapsed()),
        clicks::percentile(&times, 0.5),
        clicks::percentile(&times, 0.99),
        clicks::percentile(&times, 1.0)
    );
    let after = e2e::children(&outcome.place)?;
    ensure!(
        after == before,
        "children were written to: {before:?} became {after:?}"
    );
    println!("no child of the pipeline was written to");
    Ok(())
}
