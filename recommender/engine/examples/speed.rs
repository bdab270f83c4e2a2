//! Speed of learning and answering on one core, on a file of event records or on a synthetic stream:
//!
//! ```text
//! cargo run --release -p recommender-engine --example speed -- events.jsonl
//! cargo run --release -p recommender-engine --example speed -- zipf 10000000 1000000 100000
//! ```
//!
//! `--repeat-to EVENTS` repeats a file with other customers, each time after the last, until there are so many;
//! `--json` prints one object on one line instead.

use std::time::Instant;

use serde_json::{Value, json};

use recommender_engine::{
    Algorithm, Artifact, EngineConfig, EventKind, Interaction, Query, Reader, Writer,
    eval::{AlsParams, EaseParams, parse_events},
};

const DAY_MS: i64 = 86_400_000;
/// Events between two publishes, as from one poll of a busy topic.
const BATCH: usize = 1_000;

struct Log {
    customers: Vec<String>,
    products: Vec<String>,
    events: Vec<(u32, u32, EventKind, i64)>,
    now_ms: i64,
}

impl Log {
    fn iter(&self) -> impl Iterator<Item = Interaction<'_>> {
        self.events.iter().map(|(customer, product, kind, time_ms)| {
            let (customer, product) = (
                &self.customers[*customer as usize],
                &self.products[*product as usize],
            );
            Interaction::new(customer, product, *kind, *time_ms)
        })
    }
}

fn recorded(path: &str) -> Result<Log, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(path)?;
    // The last purchase alone is the test that the parser asks for.
    let newest = i64::MAX / 2;
    let data = match parse_events(&text, newest) {
        Ok(data) => data,
        Err(_) => parse_events(&text, 1_323_400_000_000)?,
    };
    let mut events = Vec::new();
    for (customer, (_, touches)) in data.customers.iter().enumerate() {
        events.extend(
            touches
                .iter()
                .map(|t| (customer as u32, t.product, t.kind, t.time_ms)),
        );
    }
    events.sort_by_key(|event| event.3);
    let customers = data.customers.iter().map(|(name, _)| name.to_string()).collect();
    let products = data.products.iter().map(|name| name.to_string()).collect();
    Ok(Log {
        customers,
        products,
        events,
        now_ms: data.now_ms,
    })
}

/// The log again and again, with other customers and later each time, until it has this many events.
fn repeated(log: Log, events: usize) -> Log {
    let Some((first, last)) = log.events.first().zip(log.events.last()) else {
        return log;
    };
    let (span, people) = (last.3 - first.3 + DAY_MS, log.customers.len());
    let times = events.div_ceil(log.events.len()).max(1);
    let mut all = Log {
        customers: Vec::with_capacity(people * times),
        products: log.products,
        events: Vec::with_capacity(log.events.len() * times),
        now_ms: log.now_ms + span * (times as i64 - 1),
    };
    for turn in 0..times {
        let renamed = log.customers.iter().map(|name| format!("{name}-{turn}"));
        all.customers.extend(renamed);
        let shifted = log.events.iter().map(|(customer, product, kind, time_ms)| {
            let customer = customer + (turn * people) as u32;
            (customer, *product, *kind, time_ms + span * turn as i64)
        });
        all.events.extend(shifted);
    }
    all
}

/// Products by Zipf's law, customers almost: some visit far more often than others.
fn zipf(events: usize, customers: usize, products: usize) -> Log {
    let mut state = 42u64;
    let mut uniform = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    // The inverse of the continuous law with exponent 1: n^u.
    let mut draw = |n: usize| ((n as f64).powf(uniform()) as usize - 1).min(n - 1) as u32;
    let mut log = Log {
        customers: (0..customers).map(|n| format!("customer-{n}")).collect(),
        products: (0..products).map(|n| format!("product-{n}")).collect(),
        events: Vec::with_capacity(events),
        now_ms: 365 * DAY_MS,
    };
    for n in 0..events {
        let kind = match n % 10 {
            0 => EventKind::Purchase,
            1 | 2 => EventKind::Cart,
            _ => EventKind::View,
        };
        let product = draw(products);
        let customer = (draw(customers) as usize).max((n * 7_919) % customers) as u32;
        log.events
            .push((customer, product, kind, (n as i64) * 365 * DAY_MS / events as i64));
    }
    log
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

fn new(algorithm: Algorithm) -> Result<(Writer, Reader), recommender_engine::ConfigError> {
    let mut config = EngineConfig::default();
    config.tuning.algorithm = algorithm;
    config.damping = algorithm != Algorithm::ItemKnn;
    recommender_engine::engine(config)
}

/// Learns everything event by event; answers what was measured.
fn learn(log: &Log, algorithm: Algorithm) -> Result<Value, Box<dyn std::error::Error>> {
    let before = memory();
    let (mut writer, reader) = new(algorithm)?;
    let started = cpu_seconds();
    let mut publishing = 0.0;
    for (at, event) in log.iter().enumerate() {
        writer.apply(&event, log.now_ms);
        if at % BATCH == BATCH - 1 {
            // The clock of the machine, not of the log: what is due once a second is due as often as when live.
            let published = cpu_seconds();
            writer.publish(log.now_ms + ((published - started) * 1_000.0) as i64, 100);
            publishing += cpu_seconds() - published;
        }
    }
    let seconds = cpu_seconds() - started;
    Ok(json!({
        "algorithm": algorithm.name(),
        "eventsPerSecond": (log.events.len() as f64 / seconds).round(),
        "publishingShare": publishing / seconds,
        "pairs": reader.stats().pairs,
        "memoryMb": memory().saturating_sub(before),
    }))
}

/// Microseconds of answers of this algorithm.
fn answers(log: &Log, reader: &Reader, algorithm: Algorithm) -> Value {
    let mut nanos: Vec<u128> = Vec::new();
    for customer in log.customers.iter().step_by((log.customers.len() / 4_000).max(1)) {
        let query = Query {
            customer: Some(customer),
            algorithm: Some(algorithm),
            limit: 20,
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
    json!({ "algorithm": algorithm.name(), "p50Micros": at(0.5), "p99Micros": at(0.99) })
}

fn show(measured: &Value) {
    let list = |key: &str| measured[key].as_array().into_iter().flatten();
    println!(
        "{} events, {} customers, {} products",
        measured["events"], measured["customers"], measured["products"]
    );
    for one in list("online") {
        println!(
            "online, {}: {} events/s ({:.0} % of it publishing), {} pairs, {} MB",
            one["algorithm"].as_str().unwrap_or_default(),
            one["eventsPerSecond"],
            one["publishingShare"].as_f64().unwrap_or_default() * 100.0,
            one["pairs"],
            one["memoryMb"]
        );
    }
    let bulk = &measured["bulk"];
    println!(
        "bulk: {} events/s, {} MB",
        bulk["eventsPerSecond"], bulk["memoryMb"]
    );
    for one in list("answers") {
        println!(
            "{}: p50 {:.1} µs, p99 {:.1} µs",
            one["algorithm"].as_str().unwrap_or_default(),
            one["p50Micros"].as_f64().unwrap_or_default(),
            one["p99Micros"].as_f64().unwrap_or_default()
        );
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let as_json = args.iter().any(|arg| arg == "--json");
    args.retain(|arg| arg != "--json");
    let repeat = args.iter().position(|arg| arg == "--repeat-to");
    let repeat = repeat.and_then(|at| args.get(at + 1));
    let repeat: usize = repeat.map_or(Ok(0), |events| events.parse())?;
    let log = match args.first().map(String::as_str) {
        Some("zipf") => {
            let number =
                |at: usize, default: usize| args.get(at).and_then(|n| n.parse().ok()).unwrap_or(default);
            zipf(number(1, 1_000_000), number(2, 100_000), number(3, 20_000))
        }
        Some(path) => repeated(recorded(path)?, repeat),
        None => return Err("a file of event records, or zipf EVENTS CUSTOMERS PRODUCTS".into()),
    };
    let online = [learn(&log, Algorithm::ItemKnn)?, learn(&log, Algorithm::Hybrid)?];
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
    if data.products.len() <= 5_000 {
        writer.install(&Artifact::ease(&data, &EaseParams::default(), "1", log.now_ms)?);
        let als = AlsParams {
            factors: 64,
            ..AlsParams::default()
        };
        writer.install(&Artifact::implicit_als(&data, &als, 2, "1", log.now_ms));
    }
    let answers = [
        Algorithm::Popularity,
        Algorithm::ItemKnn,
        Algorithm::Rp3Beta,
        Algorithm::SessionKnn,
        Algorithm::Ease,
        Algorithm::ImplicitAls,
        Algorithm::Hybrid,
    ]
    .map(|algorithm| answers(&log, &reader, algorithm));
    let measured = json!({
        "events": log.events.len(),
        "customers": log.customers.len(),
        "products": log.products.len(),
        "online": online,
        "bulk": bulk,
        "answers": answers,
    });
    if as_json {
        println!("{measured}");
    } else {
        show(&measured);
    }
    Ok(())
}
