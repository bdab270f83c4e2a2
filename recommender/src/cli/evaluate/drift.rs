//! `recommender evaluate --prequential --freeze-at TIME --refit-on-drift`: what a model that is left alone loses when
//! the shop changes, whether the drift tells of it, and what fitting it again brings back.

use std::process::ExitCode;

use anyhow::Context as _;
use comfy_table::{Table, presets};
use recommender_engine::Algorithm;
use recommender_engine::eval::{DriftPoint, LogEvent, Params, Point, Replayed, Series};
use serde::Serialize;

use super::super::{Output, print};
use super::gain::Gain;
use super::plots::{Named, Panel, Scale, Titled, picture};
use super::{Args, Freeze, prequential, report};

/// How a model goes on from the time that `--freeze-at` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    LeftAlone,
    FittedAgain,
    Learning,
}

impl Mode {
    const ALL: [Mode; 3] = [Mode::LeftAlone, Mode::FittedAgain, Mode::Learning];

    fn name(self, freeze: Freeze) -> &'static str {
        match (self, freeze) {
            (Mode::LeftAlone, _) => "left alone",
            (Mode::FittedAgain, _) => "fitted again",
            (Mode::Learning, Freeze::Everything) => "learning",
            // Customers' histories go on in all of them: this one is fitted every `--refit-every`.
            (Mode::Learning, Freeze::Fitted) => "on schedule",
        }
    }
}

/// What is printed of one model in one mode.
#[derive(Serialize)]
struct Result<'a> {
    model: &'static str,
    mode: Mode,
    predictions: u64,
    hit_rate: f64,
    mrr: f64,
    before: Point,
    after: Option<Point>,
    /// Of `after` over that of the model left alone.
    gain: Option<Gain>,
    over_time: &'a [Point],
    refits_ms: &'a [i64],
    drift: &'a [DriftPoint],
}

/// When models are left alone, milliseconds since 1970.
fn frozen_from(args: &Args) -> anyhow::Result<i64> {
    let from = args
        .freeze_at
        .context("--refit-on-drift needs --freeze-at: from when on the model is left alone")?;
    Ok(from.as_millisecond())
}

/// When drift first asked for a fit.
fn first_refit(runs: &[(Mode, Replayed)]) -> Option<i64> {
    runs.iter().flat_map(|(_, run)| &run.refits_ms).min().copied()
}

/// What a model of one mode gains over the one that was left alone, since drift first asked for a fit.
fn gain(runs: &[(Mode, Replayed)], mode: usize, model: usize) -> Option<Gain> {
    let of = |mode: usize| &runs[mode].1.series[model].predictions;
    Gain::of(of(mode), of(0), first_refit(runs)?)
}

/// Replays the log once in each mode.
fn replays(
    args: &Args,
    log: &[LogEvent],
    models: &[Algorithm],
    params: &Params,
) -> anyhow::Result<Vec<(Mode, Replayed)>> {
    let freeze_ms = frozen_from(args)?;
    let mut runs = Vec::new();
    for mode in Mode::ALL {
        let how = prequential::How {
            freeze_ms: if mode == Mode::Learning {
                i64::MAX
            } else {
                freeze_ms
            },
            refit_over: (mode == Mode::FittedAgain).then_some(args.drift_threshold),
        };
        runs.push((mode, prequential::replayed(args, log, models, params, &how)?));
    }
    Ok(runs)
}

/// Prints and draws what comes of a log.
pub(super) fn run(
    args: &Args,
    log: &[LogEvent],
    models: &[Algorithm],
    params: &Params,
) -> anyhow::Result<ExitCode> {
    let runs = replays(args, log, models, params)?;
    let (freeze_ms, first) = (frozen_from(args)?, first_refit(&runs));
    match args.output {
        Output::Json => {
            for (index, (mode, run)) in runs.iter().enumerate() {
                for (at, series) in run.series.iter().enumerate() {
                    let result = Result {
                        model: series.algorithm.name(),
                        mode: *mode,
                        predictions: series.total.predictions,
                        hit_rate: series.total.hit_rate,
                        mrr: series.total.mrr,
                        before: series.over(i64::MIN, freeze_ms),
                        after: first.map(|first| series.over(first, i64::MAX)),
                        gain: gain(&runs, index, at),
                        over_time: &series.points,
                        refits_ms: &run.refits_ms,
                        drift: &run.drift,
                    };
                    print(format!("{}\n", serde_json::to_string(&result)?).as_bytes())?;
                }
            }
        }
        Output::Text => {
            for at in 0..models.len() {
                print(format!("{}\n", table(&runs, at, args)).as_bytes())?;
            }
            print(format!("{}\n", summary(&runs, freeze_ms, args)).as_bytes())?;
            for refit in runs.iter().flat_map(|(_, run)| &run.refits_ms) {
                let day = report::day(*refit as f64);
                print(
                    format!(
                        "drift came over {}: fitted again on {day}\n",
                        args.drift_threshold
                    )
                    .as_bytes(),
                )?;
            }
        }
    }
    if let Some(path) = &args.plot {
        report::write(path, &drawn(&runs, models, args))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The drift that counts in a stretch of time, the highest.
fn highest(drift: &[DriftPoint], from_ms: i64, until_ms: i64) -> Option<f64> {
    let within = drift
        .iter()
        .filter(|point| (from_ms..until_ms).contains(&point.at_ms));
    within.map(|point| point.drift.worst()).reduce(f64::max)
}

/// A row for each stretch of time.
fn table(runs: &[(Mode, Replayed)], at: usize, args: &Args) -> Table {
    let mut table = Table::new();
    let model = runs[0].1.series[at].algorithm.name();
    let mut header = vec![format!("{model}, from"), "predictions".to_owned()];
    header.extend(Mode::ALL.map(|mode| format!("hit rate@{}, {}", args.k, mode.name(args.freeze))));
    header.extend(["drift, left alone", "drift, fitted again"].map(str::to_owned));
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .set_header(header);
    let points = |mode: usize| &runs[mode].1.series[at].points;
    for (row, point) in points(0).iter().enumerate() {
        let until_ms = points(0).get(row + 1).map_or(i64::MAX, |next| next.from_ms);
        let mut cells = vec![report::day(point.from_ms as f64), point.predictions.to_string()];
        cells.extend((0..3).map(|mode| format!("{:.3}", points(mode)[row].hit_rate)));
        cells.extend((0..2).map(|mode| {
            highest(&runs[mode].1.drift, point.from_ms, until_ms)
                .map_or_else(|| "–".to_owned(), |drift| format!("{drift:.2}"))
        }));
        table.add_row(cells);
    }
    table
}

/// A row for each model: its hit rate before it was left alone, and that of each mode over the same days, those since
/// drift first asked for a fit.
fn summary(runs: &[(Mode, Replayed)], freeze_ms: i64, args: &Args) -> Table {
    let first = first_refit(runs);
    let mut table = Table::new();
    let mut header = vec![format!("hit rate@{}", args.k), "before".to_owned()];
    let from = first.map_or_else(|| "never".to_owned(), |first| report::day(first as f64));
    header.extend(Mode::ALL.map(|mode| format!("{}, from {from}", mode.name(args.freeze))));
    header.push(format!(
        "{} over left alone (95 %)",
        Mode::FittedAgain.name(args.freeze)
    ));
    header.push("predictions".to_owned());
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .set_header(header);
    for (at, series) in runs[0].1.series.iter().enumerate() {
        let mut cells = vec![series.algorithm.name().to_owned()];
        cells.push(format!("{:.4}", series.over(i64::MIN, freeze_ms).hit_rate));
        let after = |run: &Replayed| first.map(|first| run.series[at].over(first, i64::MAX));
        let rate = |point: Point| format!("{:.4}", point.hit_rate);
        cells.extend(
            runs.iter()
                .map(|(_, run)| after(run).map_or_else(|| "–".to_owned(), rate)),
        );
        cells.push(gain(runs, 1, at).map_or_else(|| "–".to_owned(), |gain| gain.to_string()));
        cells.push(after(&runs[0].1).map_or(0, |point| point.predictions).to_string());
        table.add_row(cells);
    }
    table
}

/// Hit rates of each model, and the drift below them.
fn drawn(runs: &[(Mode, Replayed)], models: &[Algorithm], args: &Args) -> String {
    let refits: Vec<f64> = runs
        .iter()
        .flat_map(|(_, run)| &run.refits_ms)
        .map(|at| *at as f64)
        .collect();
    let begin = runs[0].1.series.iter().flat_map(|series| &series.points);
    let begin = begin.map(|point| point.from_ms).min().unwrap_or_default();
    let mut drawings: Vec<Titled> = Vec::new();
    for (at, model) in models.iter().enumerate() {
        let line = |(mode, run): &(Mode, Replayed)| hit_rates(mode.name(args.freeze), &run.series[at]);
        let lines: Vec<Named<'_>> = runs.iter().map(line).collect();
        let title = format!(
            "Hit rate@{} of {} over time; dashed: fitted again",
            args.k,
            model.name()
        );
        let panel = panel(&title, "hit rate", &|value| format!("{value:.2}"));
        let drawing = panel.draw_with(&lines, &refits);
        drawings.push((title, drawing));
    }
    let mut lines: Vec<Named<'_>> = runs[..2]
        .iter()
        .map(|(mode, run)| drifts(mode.name(args.freeze), run, begin))
        .collect();
    let ends = lines.iter().flat_map(|line| &line.points).map(|point| point.0);
    let (from, to) = ends.fold((f64::MAX, f64::MIN), |(from, to), at| (from.min(at), to.max(at)));
    lines.push(Named {
        name: "threshold",
        points: vec![(from, args.drift_threshold), (to, args.drift_threshold)],
        marks: Vec::new(),
    });
    let title = "Drift of the last day (population stability index), the metric of the service".to_owned();
    let drawing = panel(&title, "drift", &|value| format!("{value:.1}")).draw_with(&lines, &refits);
    drawings.push((title, drawing));
    picture(&drawings)
}

fn panel<'a>(title: &'a str, name: &'a str, write: &'a dyn Fn(f64) -> String) -> Panel<'a> {
    Panel {
        title,
        x: Scale {
            name: "time",
            write: &report::day,
        },
        y: Scale { name, write },
    }
}

fn hit_rates(name: &'static str, series: &Series) -> Named<'static> {
    let middle = |pair: usize| {
        let points = &series.points;
        let next = points
            .get(pair + 1)
            .map_or(points[pair].from_ms, |next| next.from_ms);
        (points[pair].from_ms + next) as f64 / 2.0
    };
    Named {
        name,
        points: series
            .points
            .iter()
            .enumerate()
            .map(|(at, point)| (middle(at), point.hit_rate))
            .collect(),
        marks: Vec::new(),
    }
}

fn drifts(name: &'static str, run: &Replayed, begin_ms: i64) -> Named<'static> {
    let seen = run.drift.iter().filter(|point| point.at_ms >= begin_ms);
    Named {
        name,
        points: seen
            .map(|point| (point.at_ms as f64, point.drift.worst()))
            .collect(),
        marks: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
