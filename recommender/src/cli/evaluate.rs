//! `recommender evaluate`.

mod drift;
mod gain;
mod load;
mod plots;
mod prequential;
mod report;
mod search;
mod sweep;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use recommender_engine::Algorithm;
use recommender_engine::eval::{self, Dataset, Metrics, Params, Trained};
use serde::Serialize;

use super::{Output, print};

/// What `--model all` means, cheapest first.
const ALL: [Algorithm; 7] = [
    Algorithm::Popularity,
    Algorithm::ItemKnn,
    Algorithm::Rp3Beta,
    Algorithm::SessionKnn,
    Algorithm::Ease,
    Algorithm::ImplicitAls,
    Algorithm::Hybrid,
];

/// The form of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Event records, a JSON object a line
    Events,
    /// `user item item …`
    Interactions,
    /// A session a line; the test has a prefix, a tab and the next item
    Sessions,
}

/// What `--freeze-at` has stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Freeze {
    /// The whole model: nothing is learned, what customers do included
    Everything,
    /// Fitted models (Ease, ImplicitAls, of Hybrid too), as in a service whose trainer stands still
    Fitted,
}

impl Freeze {
    fn of_engine(self) -> eval::Freeze {
        match self {
            Freeze::Everything => eval::Freeze::Everything,
            Freeze::Fitted => eval::Freeze::Fitted,
        }
    }
}

#[derive(clap::Args)]
#[command(
    after_help = "Trains each model on one part of the data and asks it about the other. Files may be gzipped.\n\n\
    Examples:\n  \
    recommender evaluate --format events --train events.jsonl.gz --split-at 2011-11-10T00:00:00Z --model all\n  \
    recommender evaluate --format interactions --train train.txt --test test.txt --model Rp3Beta --param walkBeta=0.3\n  \
    recommender evaluate --format events --train events.jsonl.gz --prequential --model all --report report.html\n  \
    recommender evaluate --format events --train events.jsonl.gz --prequential --freeze-at 2011-10-01T00:00:00Z \
    --model Ease --freeze fitted --refit-on-drift --plot drift.svg\n  \
    recommender evaluate --format events --train events.jsonl.gz --split-at 2011-11-10T00:00:00Z --sweep diversity=0,0.5,1\n  \
    recommender evaluate --format sessions --train train.txt --test test.txt --model SessionKnn --tune --output json"
)]
pub(super) struct Args {
    /// The form of the data
    #[arg(long, value_enum)]
    format: Format,
    /// What to learn from
    #[arg(long)]
    train: PathBuf,
    /// What to ask about (for events: or --split-at)
    #[arg(long)]
    test: Option<PathBuf>,
    /// Events from this instant on are asked about instead of learned (RFC 3339)
    #[arg(long)]
    split_at: Option<jiff::Timestamp>,
    /// A model by name, several separated by commas, or all
    #[arg(long, default_value = "Hybrid")]
    model: String,
    /// Length of the answers
    #[arg(long, default_value_t = 20, value_parser = length)]
    k: usize,
    /// A hyper-parameter, as key=value; may be repeated
    #[arg(long = "param", value_name = "KEY=VALUE")]
    params: Vec<String>,
    /// Search hyper-parameters first, on a validation set cut from the training data
    #[arg(long)]
    tune: bool,
    /// How long the search may take, for all models together
    #[arg(long, default_value = "8m", value_parser = humantime::parse_duration, value_name = "TIME")]
    tune_budget: Duration,
    /// Replay the events instead: each is predicted before it is learned (--split-at says from when on)
    #[arg(long)]
    prequential: bool,
    /// With --prequential: models stand still from this instant on, to see what one that is left alone loses
    #[arg(long, value_name = "TIME")]
    freeze_at: Option<jiff::Timestamp>,
    /// With --freeze-at: what stands still
    #[arg(long, value_enum, default_value = "everything")]
    freeze: Freeze,
    /// With --freeze-at: compare a model left alone with one that is fitted again once the drift is over its threshold,
    /// and with one that goes on learning
    #[arg(long, group = "drawn", requires = "prequential", requires = "freeze_at")]
    refit_on_drift: bool,
    /// With --refit-on-drift: the threshold, as quality.driftThreshold
    #[arg(long, default_value_t = 0.2, value_name = "PSI")]
    drift_threshold: f64,
    /// With --prequential: time after which fitted models are fitted anew, as by model.retrain.schedule
    #[arg(long, default_value = "14d", value_parser = humantime::parse_duration, value_name = "TIME")]
    refit_every: Duration,
    /// With --prequential: about how many events are predicted
    #[arg(long, default_value_t = 10_000)]
    predictions: usize,
    /// Ask at several values of a parameter instead, to see what it buys and costs: key=value,value,…
    #[arg(long, value_name = "KEY=VALUES", group = "drawn", conflicts_with_all = ["prequential", "tune"])]
    sweep: Option<sweep::Sweep>,
    /// Draw into this file (SVG): with --sweep, NDCG against coverage and diversity; with --refit-on-drift, hit rates and
    /// drift over time
    #[arg(long, value_name = "FILE", requires = "drawn")]
    plot: Option<PathBuf>,
    /// Print each trial of the search
    #[arg(long)]
    trials: bool,
    /// Threads for fitting and asking [default: all of the machine's]
    #[arg(long, hide_default_value = true, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
    /// How to print the results
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    /// Also write a report with plots to this file
    #[arg(long, value_name = "FILE", alias = "html")]
    report: Option<PathBuf>,
}

/// What is printed of one model.
#[derive(Debug, Serialize)]
struct Result {
    model: &'static str,
    parameters: Params,
    #[serde(flatten)]
    metrics: Metrics,
    train_seconds: f64,
    predict_seconds: f64,
    /// Of the process so far: with several models in one run, that of the hungriest.
    peak_memory_bytes: u64,
}

fn length(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(length) if (1..=1_000_000).contains(&length) => Ok(length),
        _ => Err("must be a whole number from 1 to 1000000".into()),
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let models = models(&args.model)?;
    if args.prequential {
        return prequential::run(args, &models);
    }
    if let Some(sweep) = &args.sweep {
        return sweep::run(args, &models, sweep);
    }
    let data = load::load(args)?;
    let mut start = Params::for_dataset(&data);
    set(&mut start, &args.params)?;
    if args.output == Output::Text {
        eprintln!(
            "{} customers or sessions, {} products, {} questions",
            data.customers.len(),
            data.catalogue,
            data.task.len()
        );
    }
    let tuned = if args.tune {
        search::search(args, &data, &models, &start)?
    } else {
        let untuned = |algorithm: &Algorithm| (*algorithm, start.clone());
        models.iter().map(untuned).collect()
    };
    let mut results = Vec::new();
    for (algorithm, parameters) in &tuned {
        match evaluate(args, &data, *algorithm, parameters) {
            Ok(result) => {
                if args.output == Output::Json {
                    print(format!("{}\n", serde_json::to_string(&result)?).as_bytes())?;
                }
                results.push(result);
            }
            // Of several models, one that the data is too large for does not end the run.
            Err(error) if models.len() > 1 => eprintln!("{}: {error:#}", algorithm.name()),
            Err(error) => return Err(error),
        }
    }
    if args.output == Output::Text {
        print(format!("{}\n", table(&results)).as_bytes())?;
    }
    if let Some(path) = &args.report {
        let over_time = if args.format == Format::Events {
            let log = load::log(args)?;
            prequential::replayed(args, &log, &models, &start, &prequential::How::of(args))?.series
        } else {
            Vec::new()
        };
        report::write(path, &report::html(&results, &over_time, args.k))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Sets what `--param` names.
fn set(params: &mut Params, given: &[String]) -> anyhow::Result<()> {
    for param in given {
        let (key, value) = param
            .split_once('=')
            .with_context(|| format!("--param {param}: expected key=value"))?;
        params.set(key.trim(), value.trim())?;
    }
    Ok(())
}

fn models(names: &str) -> anyhow::Result<Vec<Algorithm>> {
    if names.eq_ignore_ascii_case("all") {
        return Ok(ALL.to_vec());
    }
    let known = || ALL.map(Algorithm::name).join(", ");
    names
        .split(',')
        .map(|name| match Algorithm::from_name(name.trim()) {
            Some(algorithm) if algorithm.is_served() => Ok(algorithm),
            _ => bail!("--model {name}: choose all or some of {}, Content", known()),
        })
        .collect()
}

fn evaluate(
    args: &Args,
    data: &Dataset,
    algorithm: Algorithm,
    parameters: &Params,
) -> anyhow::Result<Result> {
    let spinner = ProgressBar::new_spinner().with_message(format!("{}: learning", algorithm.name()));
    spinner.enable_steady_tick(Duration::from_millis(200));
    let started = Instant::now();
    let trained = Trained::new(data, algorithm, parameters, args.threads)?;
    let train_seconds = started.elapsed().as_secs_f64();
    spinner.finish_and_clear();
    let progress = ProgressBar::new(data.task.len() as u64).with_message(algorithm.name());
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg} {per_sec}") {
        progress.set_style(style);
    }
    let started = Instant::now();
    let metrics = trained.metrics(args.k, |done| progress.set_position(done as u64));
    let predict_seconds = started.elapsed().as_secs_f64();
    progress.finish_and_clear();
    let peak_memory_bytes = peak_memory().unwrap_or_default();
    Ok(Result {
        model: algorithm.name(),
        parameters: parameters.clone(),
        metrics,
        train_seconds,
        predict_seconds,
        peak_memory_bytes,
    })
}

/// Largest resident size of this process so far; known on Linux only.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn table(results: &[Result]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "model",
        "recall",
        "ndcg",
        "hit rate",
        "mrr",
        "coverage",
        "novelty",
        "diversity",
        "gini",
        "train s",
        "predict s",
    ]);
    for result in results {
        let m = &result.metrics;
        let mut row = vec![result.model.to_owned()];
        row.extend([m.recall, m.ndcg, m.hit_rate, m.mrr].map(|v| format!("{v:.4}")));
        row.extend([m.coverage, m.novelty, m.diversity, m.gini].map(|v| format!("{v:.3}")));
        row.extend([result.train_seconds, result.predict_seconds].map(|v| format!("{v:.1}")));
        table.add_row(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_by_name_and_a_wrong_name_is_told() {
        assert_eq!(models("all").unwrap().len(), 7);
        assert_eq!(
            models("ease, Rp3Beta").unwrap(),
            [Algorithm::Ease, Algorithm::Rp3Beta]
        );
        assert!(
            models("LightGcn")
                .unwrap_err()
                .to_string()
                .starts_with("--model LightGcn: choose")
        );
    }
}
