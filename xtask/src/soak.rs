//! `cargo xtask soak`: a demo under a steady stream of clicks for as long as wanted. What must not grow or be
//! written is looked at all the while.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;

use crate::clicks;
use crate::demo::{self, DemoOptions};
use crate::e2e;
use crate::progress::{Steps, seconds};

/// Options of `cargo xtask soak`.
#[derive(Args, Debug)]
pub struct SoakOptions {
    /// How long, in minutes
    #[arg(long, default_value_t = 10)]
    pub minutes: u64,
    /// Do not ask before packages are installed and routes are set
    #[arg(long)]
    pub yes: bool,
}

/// Brings the demo up and keeps clicking.
///
/// # Errors
/// When a click is lost, or the pipeline's children are written to although nothing was declared anew.
pub fn run(options: &SoakOptions, steps: &mut Steps) -> Result<()> {
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
