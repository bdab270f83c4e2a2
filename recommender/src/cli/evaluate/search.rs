//! The search for hyper-parameters, with its progress.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use recommender_engine::Algorithm;
use recommender_engine::eval::{self, Dataset, Params, Search, Step};

use super::super::Output;
use super::Args;

/// Hyper-parameters for each model, from the training data alone.
pub(super) fn search(
    args: &Args,
    data: &Dataset,
    models: &[Algorithm],
    start: &Params,
) -> anyhow::Result<Vec<(Algorithm, Params)>> {
    let started = Instant::now();
    let progress = ProgressBar::new(args.tune_budget.as_millis() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {elapsed} of {prefix}  {msg}") {
        progress.set_style(style);
    }
    progress.set_prefix(humantime::format_duration(args.tune_budget).to_string());
    progress.enable_steady_tick(Duration::from_millis(500));
    let tuned = eval::tune(
        data,
        models,
        start,
        Search {
            k: args.k,
            threads: args.threads,
            budget: args.tune_budget,
            elapsed: &|| started.elapsed(),
            progress: &mut |step: &Step<'_>| {
                progress.set_position(started.elapsed().as_millis() as u64);
                let (name, trial) = (step.algorithm.name(), step.trial);
                let (score, best) = (step.score, step.best);
                progress.set_message(format!("{name} {trial}: {score:.4}, best {best:.4}"));
                if args.trials {
                    progress.suspend(|| {
                        eprintln!(
                            "{:7.1} s  {name} {trial}: {score:.4}",
                            started.elapsed().as_secs_f64()
                        )
                    });
                }
            },
        },
    )?;
    progress.finish_and_clear();
    if args.output == Output::Text {
        eprintln!("searched for {:.0} s", started.elapsed().as_secs_f64());
    }
    Ok(tuned
        .into_iter()
        .map(|tuned| (tuned.algorithm, tuned.params))
        .collect())
}
