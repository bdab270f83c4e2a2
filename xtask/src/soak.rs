//! `cargo xtask soak`: a demo under a steady stream of clicks for as long as wanted. What must not grow or be
//! written is looked at all the while.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};

use crate::clicks;
use crate::command::Cmd;
use crate::demo::{self, DemoOptions};
use crate::e2e;
use crate::machine;
use crate::progress::{Steps, seconds};
use crate::release;
use crate::stack::run::Ports;
use crate::stack::{NodeMode, Stack, StackOptions};

/// Beside the runs of tests and demos.
const PORT_OFFSET: u16 = 1_400;
/// Build, cold starts and the applying of thousands of pipelines.
const LIMIT: Duration = Duration::from_secs(90 * 60);

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
    /// Thousands of pipelines on one operator, without a node: cold start, memory, no write for a while
    Operator(OperatorOptions),
}

/// Options of `cargo xtask soak operator`.
#[derive(Args, Debug)]
pub struct OperatorOptions {
    /// Pipelines
    #[arg(long, default_value_t = 1_000)]
    pub pipelines: u32,
    /// How long nothing may be written, in minutes
    #[arg(long, default_value_t = 10)]
    pub minutes: u64,
    /// Do not ask before packages are installed
    #[arg(long)]
    pub yes: bool,
}

/// Runs the operator's own soak test at full size, as it is shipped, on servers of its own.
fn operator(options: &OperatorOptions, steps: &mut Steps) -> Result<()> {
    const RUN: &str = "soak-operator";
    machine::prepare(false, options.yes, steps)?;
    let stack = Stack::up(
        &StackOptions {
            run_name: RUN.into(),
            node: NodeMode::Off,
            controllers: false,
            kafka: true,
            redis: false,
            kafka_secured: false,
            ports: Ports::offset(PORT_OFFSET)?,
        },
        steps,
    )?;
    let shipped = steps.run("Both programs built", release::build)?;
    let test = Cmd::cargo()
        .args(["test", "--package", "recommendation-operator"])
        .args(["--features", "integration"])
        .args(["--test", "cluster", "--", "--exact", "--nocapture"])
        .arg("soak::many_pipelines_are_seen_soon_held_in_little_memory_and_written_to_no_more")
        .env("TEST_KUBECONFIG", &stack.kubeconfig)
        .env("TEST_KAFKA", &stack.kafka_host)
        .env("SOAK_OPERATOR", &shipped.operator)
        .env("SOAK_PIPELINES", options.pipelines.to_string())
        .env("SOAK_SECONDS", (options.minutes * 60).to_string())
        .timeout(LIMIT + Duration::from_secs(options.minutes * 60));
    let result = steps.run("the soak of the operator", |_| {
        test.stdout_lines(|line| println!("{line}"))
    });
    steps.run("its servers stopped", |_| Stack::down(RUN, true))?;
    result
}

/// Brings the demo up and keeps clicking, or does what else is named.
///
/// # Errors
/// When a click is lost, or the pipeline's children are written to although nothing was declared anew.
pub fn run(options: &SoakOptions, steps: &mut Steps) -> Result<()> {
    if let Some(SoakWhat::Operator(options)) = &options.what {
        return operator(options, steps);
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
