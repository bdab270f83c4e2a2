//! Replaying a log: each event is predicted before it is learned.

use std::process::ExitCode;

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use recommender_engine::Algorithm;
use recommender_engine::eval::{LogEvent, Params, Point, Replay, Replayed, Series, replay};
use serde::Serialize;

use super::super::{Output, print};
use super::{Args, drift, load, report, set};

/// Stretches of time that hit rates are told for.
const POINTS: usize = 24;

/// What is printed of one model.
#[derive(Serialize)]
struct Result<'a> {
    model: &'static str,
    parameters: &'a Params,
    predictions: u64,
    hit_rate: f64,
    mrr: f64,
    coverage: f64,
    over_time: &'a [Point],
}

/// `recommender evaluate --prequential`.
pub(super) fn run(args: &Args, models: &[Algorithm]) -> anyhow::Result<ExitCode> {
    let log = load::log(args)?;
    let mut params = Params::for_events();
    set(&mut params, &args.params)?;
    if args.refit_on_drift {
        return drift::run(args, &log, models, &params);
    }
    let series = replayed(args, &log, models, &params, &How::of(args))?.series;
    match args.output {
        Output::Json => {
            for one in &series {
                let result = Result {
                    model: one.algorithm.name(),
                    parameters: &params,
                    predictions: one.total.predictions,
                    hit_rate: one.total.hit_rate,
                    mrr: one.total.mrr,
                    coverage: one.coverage,
                    over_time: &one.points,
                };
                print(format!("{}\n", serde_json::to_string(&result)?).as_bytes())?;
            }
        }
        Output::Text => {
            print(format!("{}\n", table(&series)).as_bytes())?;
        }
    }
    if let Some(path) = &args.report {
        report::write(path, &report::html(&[], &series, args.k))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What becomes of the models on the way.
pub(super) struct How {
    /// What `--freeze` names stands still from this time on, milliseconds since 1970.
    pub freeze_ms: i64,
    /// It is made anew once the drift comes over this.
    pub refit_over: Option<f64>,
}

impl How {
    /// As `--freeze-at` has it.
    pub fn of(args: &Args) -> Self {
        How {
            freeze_ms: args.freeze_at.map_or(i64::MAX, jiff::Timestamp::as_millisecond),
            refit_over: None,
        }
    }
}

/// How well each model predicts over time.
pub(super) fn replayed(
    args: &Args,
    log: &[LogEvent],
    models: &[Algorithm],
    params: &Params,
    how: &How,
) -> anyhow::Result<Replayed> {
    let progress = ProgressBar::new(log.len() as u64).with_message("replaying");
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg} {per_sec}, {eta} left") {
        progress.set_style(style);
    }
    let begin = args.split_at.filter(|_| args.prequential);
    let how = Replay {
        algorithms: models,
        params,
        k: args.k,
        predictions: args.predictions,
        points: POINTS,
        from_ms: begin.map_or(i64::MIN, jiff::Timestamp::as_millisecond),
        freeze_ms: how.freeze_ms,
        freeze: args.freeze.of_engine(),
        refit_over: how.refit_over,
        refit_ms: i64::try_from(args.refit_every.as_millis()).unwrap_or(i64::MAX),
        threads: args.threads,
    };
    let replayed = replay(log, &how, |done| {
        if done % 1_000 == 0 {
            progress.set_position(done as u64);
        }
    })?;
    progress.finish_and_clear();
    Ok(replayed)
}

fn table(series: &[Series]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "model",
        "predictions",
        "hit rate",
        "mrr",
        "coverage",
    ]);
    for one in series {
        table.add_row([
            one.algorithm.name().to_owned(),
            one.total.predictions.to_string(),
            format!("{:.4}", one.total.hit_rate),
            format!("{:.4}", one.total.mrr),
            format!("{:.3}", one.coverage),
        ]);
    }
    table
}
