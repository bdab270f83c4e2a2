//! `cargo xtask bench`: figures of a running demo, as its users would see them, and of the engine alone.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};

use crate::command::Cmd;
use crate::demo::{self, DemoOptions};
use crate::progress::Steps;
use crate::{e2e, instructions, release};

/// The engine's streams are learned three times and answered from; a build comes first.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(3_600);

/// What `cargo xtask bench` measures; the demo if nothing is named.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    demo: BenchOptions,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Live click to changed recommendation, share of requests by replica.
    Demo(BenchOptions),
    /// The engine on one core: learning (a year of a shop ten times over; ten million events by Zipf's law), memory,
    /// answers by model.
    Engine(EngineOptions),
    /// Instructions that an answer of each model takes, counted by valgrind: the same under every load.
    Instructions(EngineOptions),
}

/// Options of `cargo xtask bench engine`.
#[derive(Args, Debug)]
pub struct EngineOptions {
    /// How to print what was measured
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Lines to read.
    Text,
    /// One object a stream, a line each.
    Json,
}

/// Measures what the command line names.
///
/// # Errors
/// As [`run`]; for the engine, when its build or a measurement fails.
pub fn choose(args: &BenchArgs, steps: &mut Steps) -> Result<()> {
    match &args.what {
        Some(What::Engine(options)) => engine(options, steps),
        Some(What::Instructions(options)) => instructions::run(options.output, steps),
        Some(What::Demo(options)) => run(options, steps),
        None => run(&args.demo, steps),
    }
}

fn engine(options: &EngineOptions, steps: &mut Steps) -> Result<()> {
    let binaries = steps.run("Build the release binaries", release::build)?;
    let workspace = release::workspace();
    let events = workspace.join("data/online-retail/events.jsonl.gz");
    let events = events.display().to_string();
    for stream in [
        &["--file", events.as_str(), "--repeat-to", "4000000"][..],
        &[
            "--events",
            "10000000",
            "--customers",
            "1000000",
            "--products",
            "100000",
        ],
    ] {
        Cmd::new(&binaries.recommender)
            .args(["bench", "engine"])
            .args(stream)
            .args((options.output == Output::Json).then_some("--output=json"))
            .timeout(ENGINE_TIMEOUT)
            .stdout_lines(|line| println!("{line}"))?;
    }
    Ok(())
}

/// Options of `cargo xtask bench demo`.
#[derive(Args, Debug)]
pub struct BenchOptions {
    /// Live clicks to measure
    #[arg(long, default_value_t = 200)]
    pub clicks: usize,
    /// Do not ask before packages are installed and routes are set
    #[arg(long)]
    pub yes: bool,
}

/// Brings the demo up (a running one is used as it is) and measures it.
///
/// # Errors
/// When the demo does not come up or a measurement fails.
pub fn run(options: &BenchOptions, steps: &mut Steps) -> Result<()> {
    let outcome = demo::run(
        &DemoOptions {
            yes: options.yes,
            ..DemoOptions::default()
        },
        steps,
    )?;
    println!("\nMeasured");
    let acknowledged = outcome
        .clicks
        .first()
        .context("the demo sent no click")?
        .acknowledged;
    println!(
        "  one click acknowledged by Kafka: {:.1} ms",
        acknowledged.as_secs_f64() * 1e3
    );
    let (p50, p99) = e2e::measure_clicks(&outcome, options.clicks)?;
    println!(
        "  live click to changed recommendation over {} clicks: p50 {p50:.1?}, p99 {p99:.1?} (aim: p99 under 250 ms)",
        options.clicks
    );
    if outcome.place.has_pods() {
        e2e::balance(&outcome)?;
    }
    Ok(())
}
