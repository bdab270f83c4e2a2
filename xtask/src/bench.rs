//! `cargo xtask bench`: figures of a running demo, as its users would see them.

use anyhow::{Context, Result};
use clap::Args;

use crate::demo::{self, DemoOptions};
use crate::e2e;
use crate::progress::Steps;

/// Options of `cargo xtask bench`.
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
