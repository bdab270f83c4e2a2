//! `recommender bench engine`: learning and answering on one core, without a network.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use recommender_engine::eval::{AlsParams, EaseParams};
use recommender_engine::{Algorithm, Artifact, ConfigError, EngineConfig, Query, Reader, Writer};
use serde_json::{Value, json};

use super::stream::{self, DAY_MS, Log};
use crate::cli::{Output, print};
use crate::ingest::PUBLISH_EVERY;
use crate::ingest::pace::Pace;

/// Events after which it is asked whether it is time to show what was learned.
const BATCH: usize = 256;
/// Products up to which fitted models are fitted too.
const FITTED: usize = 5_000;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  recommender bench engine --file events.jsonl.gz --repeat-to 4000000\n  \
    recommender bench engine --events 10000000 --customers 1000000 --products 100000"
)]
pub(super) struct Args {
    /// Event records, a JSON object a line, plain or gzipped, instead of a stream that is made up
    #[arg(long, conflicts_with_all = ["customers", "products", "sessions"])]
    file: Option<PathBuf>,
    /// A file of sessions instead, one a line, of products separated by blanks
    #[arg(long, conflicts_with_all = ["customers", "products"])]
    sessions: Option<PathBuf>,
    /// Repeat the file with other customers, each time after the last, until there are so many events
    #[arg(long, value_name = "EVENTS", default_value_t = 0)]
    repeat_to: usize,
    /// Events of a stream that is made up by Zipf's law
    #[arg(long, default_value_t = 1_000_000)]
    events: usize,
    /// Its customers
    #[arg(long, default_value_t = 100_000, value_parser = super::at_least_one)]
    customers: usize,
    /// Its products
    #[arg(long, default_value_t = 20_000, value_parser = super::at_least_one)]
    products: usize,
    /// Form of the result
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let log = match (&args.file, &args.sessions) {
        (Some(file), _) => stream::recorded(file)?,
        (None, Some(file)) => stream::sessions(file)?,
        (None, None) => stream::zipf(args.events, args.customers, args.products),
    };
    let log = stream::repeated(log, args.repeat_to);
    let measured = measure(&log)?;
    match args.output {
        Output::Json => print(format!("{measured}\n").as_bytes()),
        Output::Text => print(text(&measured).as_bytes()),
    }
}

fn measure(log: &Log) -> anyhow::Result<Value> {
    let mut online = Vec::new();
    for algorithm in [Algorithm::ItemKnn, Algorithm::Hybrid] {
        eprintln!("learning event by event, {}", algorithm.name());
        online.push(learn(log, algorithm)?);
    }
    eprintln!("learning in bulk");
    let before = memory();
    let (mut writer, reader) = new(Algorithm::Hybrid)?;
    let started = cpu_seconds();
    writer.bulk(log.iter(), log.now_ms);
    let seconds = cpu_seconds() - started;
    let bulk = json!({
        "eventsPerSecond": (log.events.len() as f64 / seconds).round(),
        "memoryMb": memory().saturating_sub(before),
    });
    let data = reader.training_data(log.now_ms, 180 * DAY_MS);
    if data.products.len() <= FITTED {
        eprintln!("fitting");
        writer.install(&Artifact::ease(&data, &EaseParams::default(), "1", log.now_ms)?);
        let als = AlsParams {
            factors: 64,
            ..AlsParams::default()
        };
        writer.install(&Artifact::implicit_als(&data, &als, 2, "1", log.now_ms));
    }
    eprintln!("asking");
    let answers = [
        Algorithm::Popularity,
        Algorithm::ItemKnn,
        Algorithm::Rp3Beta,
        Algorithm::SessionKnn,
        Algorithm::Ease,
        Algorithm::ImplicitAls,
        Algorithm::Hybrid,
    ]
    .map(|algorithm| answers(log, &reader, algorithm));
    eprintln!("erasing");
    let erasures = erasures(log, &mut writer);
    Ok(json!({
        "events": log.events.len(),
        "customers": log.customers.len(),
        "products": log.products.len(),
        "online": online,
        "bulk": bulk,
        "answers": answers,
        "erasures": erasures,
    }))
}

/// Seconds of processor time of this thread: other work on the machine does not count. Linux only.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split_whitespace()
        .next()
        .and_then(|ns| ns.parse::<f64>().ok())
        .unwrap_or_default()
        / 1e9
}

fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or("0");
    line.split_whitespace()
        .next()
        .and_then(|kb| kb.parse::<u64>().ok())
        .unwrap_or_default()
        / 1024
}

fn new(algorithm: Algorithm) -> Result<(Writer, Reader), ConfigError> {
    let mut config = EngineConfig::default();
    config.tuning.algorithm = algorithm;
    config.damping = algorithm != Algorithm::ItemKnn;
    recommender_engine::engine(config)
}

/// Learns everything event by event; answers what was measured.
fn learn(log: &Log, algorithm: Algorithm) -> anyhow::Result<Value> {
    let before = memory();
    let (mut writer, reader) = new(algorithm)?;
    let started = cpu_seconds();
    let (mut publishing, mut published_at, mut pace) = (0.0, Instant::now(), Pace::new(started));
    for (at, event) in log.iter().enumerate() {
        writer.apply(&event, log.now_ms);
        if at % BATCH != BATCH - 1 {
            continue;
        }
        // As often as the service does while events keep coming; by the clock on the wall, as there: asking for the time
        // of the processor takes as long as a dozen events.
        if published_at.elapsed() < PUBLISH_EVERY {
            continue;
        }
        let began = cpu_seconds();
        // The clock of the machine, not of the log: what is due once a second is due as often as when live.
        let now_ms = log.now_ms + ((began - started) * 1_000.0) as i64;
        let published = writer.publish(now_ms, pace.lists(began));
        let ended = cpu_seconds();
        pace.refreshed(published.rows, began, ended);
        publishing += ended - began;
        published_at = Instant::now();
    }
    let began = cpu_seconds();
    writer.publish(log.now_ms + ((began - started) * 1_000.0) as i64, 0);
    let seconds = cpu_seconds() - started;
    publishing += seconds - (began - started);
    Ok(json!({
        "algorithm": algorithm.name(),
        "eventsPerSecond": (log.events.len() as f64 / seconds).round(),
        "publishingShare": publishing / seconds,
        "pairs": reader.stats().pairs,
        "memoryMb": memory().saturating_sub(before),
    }))
}

/// Microseconds of answers of this algorithm: as they are served, with variety, exploration, titles and reasons; and of
/// the model alone, ids and scores, which is what publications measure.
fn answers(log: &Log, reader: &Reader, algorithm: Algorithm) -> Value {
    let [served, alone] = [true, false].map(|served| timed(log, reader, algorithm, served));
    json!({
        "algorithm": algorithm.name(),
        "p50Micros": served.0, "p99Micros": served.1,
        "alone": { "p50Micros": alone.0, "p99Micros": alone.1 },
    })
}

fn timed(log: &Log, reader: &Reader, algorithm: Algorithm, served: bool) -> (f64, f64) {
    let mut nanos: Vec<u128> = Vec::new();
    for customer in log.customers.iter().step_by((log.customers.len() / 4_000).max(1)) {
        let query = Query {
            customer: Some(customer),
            algorithm: Some(algorithm),
            limit: 20,
            diversity: (!served).then_some(0.0),
            exploration: (!served).then_some(0.0),
            reasons: served,
            now_ms: log.now_ms,
            ..Query::default()
        };
        let started = Instant::now();
        let answer = reader.recommend(&query);
        nanos.push(started.elapsed().as_nanos());
        std::hint::black_box(answer);
    }
    nanos.sort_unstable();
    let at = |share: f64| nanos[((nanos.len() - 1) as f64 * share) as usize] as f64 / 1_000.0;
    (at(0.5), at(0.99))
}

/// Microseconds of erasures, each by the hash that is all that its record tells of the customer; last, for they change
/// the model.
fn erasures(log: &Log, writer: &mut Writer) -> Value {
    let mut nanos: Vec<u128> = Vec::new();
    let mut erased = 0;
    for customer in log.customers.iter().step_by((log.customers.len() / 500).max(1)) {
        let owner = recommender_engine::owner(customer);
        let started = Instant::now();
        for name in writer.names_of(owner) {
            erased += usize::from(writer.erase(&name));
        }
        nanos.push(started.elapsed().as_nanos());
    }
    nanos.sort_unstable();
    let at = |share: f64| nanos[((nanos.len() - 1) as f64 * share) as usize] as f64 / 1_000.0;
    json!({ "erased": erased, "p50Micros": at(0.5), "p99Micros": at(0.99) })
}

/// The figures as lines to read.
fn text(measured: &Value) -> String {
    let list = |key: &str| measured[key].as_array().into_iter().flatten();
    let mut out = format!(
        "{} events, {} customers, {} products\n",
        measured["events"], measured["customers"], measured["products"]
    );
    for one in list("online") {
        out += &format!(
            "online, {}: {} events/s ({:.0} % of it publishing), {} pairs, {} MB\n",
            one["algorithm"].as_str().unwrap_or_default(),
            one["eventsPerSecond"],
            one["publishingShare"].as_f64().unwrap_or_default() * 100.0,
            one["pairs"],
            one["memoryMb"]
        );
    }
    let bulk = &measured["bulk"];
    out += &format!(
        "bulk: {} events/s, {} MB\n",
        bulk["eventsPerSecond"], bulk["memoryMb"]
    );
    let erasures = &measured["erasures"];
    out += &format!(
        "erasing a customer, of {}: p50 {:.1} µs, p99 {:.1} µs\n",
        erasures["erased"],
        erasures["p50Micros"].as_f64().unwrap_or_default(),
        erasures["p99Micros"].as_f64().unwrap_or_default()
    );
    for one in list("answers") {
        let micros = |of: &Value, key: &str| of[key].as_f64().unwrap_or_default();
        out += &format!(
            "{}: p50 {:.1} µs, p99 {:.1} µs; the model alone {:.1} and {:.1}\n",
            one["algorithm"].as_str().unwrap_or_default(),
            micros(one, "p50Micros"),
            micros(one, "p99Micros"),
            micros(&one["alone"], "p50Micros"),
            micros(&one["alone"], "p99Micros")
        );
    }
    out
}
