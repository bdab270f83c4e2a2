//! `recommender bench start`: how long a replica takes from nothing to its first answer, from the log and from a
//! snapshot, beside what bounds it: a bare consumer of the same topic, and the engine's bulk build of the same events.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use recommendation_api::config::{AuthConfig, KafkaConfig, RecommenderConfig, SnapshotsConfig};
use recommendation_api::duration::HumanDuration;
use recommender_engine::{Gathered, engine};
use serde::Serialize;

use super::running::{Folder, Running, config};
use super::stream::{Log, zipf};
use super::topic::Topics;
use crate::cli::{Output, print};
use crate::clock::now_ms;
use crate::log::Log as _;
use crate::log::embedded::EmbeddedLog;
use crate::model;
use crate::service::{Mode, snapshots};

/// Events appended to an embedded log at once.
const AT_ONCE: usize = 10_000;
/// Longest to wait for a snapshot.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(600);

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  recommender bench start --kafka 127.0.0.1:9092 --events 10000000 --customers 1000000\n  \
    recommender bench start --events 100000"
)]
pub(super) struct Args {
    /// Brokers, host:port separated by commas; topics are made there and removed again. Absent: an embedded log
    #[arg(long, value_name = "SERVERS")]
    kafka: Option<String>,
    /// Events in the log
    #[arg(long, default_value_t = 1_000_000, value_parser = super::at_least_one)]
    events: usize,
    /// Their customers
    #[arg(long, default_value_t = 100_000, value_parser = super::at_least_one)]
    customers: usize,
    /// Their products
    #[arg(long, default_value_t = 20_000, value_parser = super::at_least_one)]
    products: usize,
    /// Form of the result
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

/// Seconds, and events a second.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct Took {
    seconds: f64,
    events_per_second: f64,
}

impl Took {
    fn since(started: Instant, events: usize) -> Self {
        let seconds = started.elapsed().as_secs_f64();
        Self {
            seconds,
            events_per_second: events as f64 / seconds,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    events: usize,
    customers: usize,
    products: usize,
    /// The engine alone, of events in memory, on one thread.
    one_thread: Took,
    /// The same on as many as there are processors, as a replica does it.
    bulk: Took,
    /// A client that does nothing with what it reads; none of an embedded log.
    consumer: Option<Took>,
    /// From nothing to ready, without a snapshot.
    log: Took,
    /// Events a second of `log` as a share of the slower of half the consumer's and the engine's.
    share: f64,
    /// From nothing to ready, with one of all events.
    snapshot: Took,
    snapshot_bytes: u64,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let folder = Folder::new().context("no folder for the log")?;
    eprintln!("making up {} events", args.events);
    let log = zipf(args.events, args.customers, args.products);
    let mut config = config(false);
    config.pipeline = format!("bench-{}", uuid::Uuid::new_v4().simple());
    eprintln!("building the model in bulk");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let bulk = [bulk(&log, &config, 1)?, bulk(&log, &config, threads)?];
    let (mode, consumer, topics) = match &args.kafka {
        None => {
            let path = folder.0.join("shop.db");
            let embedded = EmbeddedLog::open(&path)?;
            append(&embedded, &log).await?;
            embedded.close().await;
            (Mode::Embedded(path), None, None)
        }
        Some(servers) => {
            std::fs::write(folder.0.join("key"), hex::encode(rand::random::<[u8; 32]>()))?;
            config.auth = AuthConfig {
                jwt_secret_file: Some("key".into()),
                ..AuthConfig::default()
            };
            config.privacy.key_file = Some("key".into());
            config.kafka = Some(KafkaConfig {
                bootstrap_servers: servers.split(',').map(str::to_owned).collect(),
                ..KafkaConfig::default()
            });
            let topics = Topics::make(servers, &mut config.topics).await?;
            let consumer = topics.fill_and_read(&log).await;
            (Mode::Kafka, Some(consumer), Some(topics))
        }
    };
    // Whatever happens, topics do not stay.
    let measured = measure(&args, &folder, mode, config, bulk, consumer, log.events.len()).await;
    if let Some(topics) = topics {
        topics.remove().await?;
    }
    let report = measured?;
    match args.output {
        Output::Json => print(&[serde_json::to_vec(&report)?, b"\n".to_vec()].concat()),
        Output::Text => print(text(&report).as_bytes()),
    }
}

async fn measure(
    args: &Args,
    folder: &Folder,
    mode: Mode,
    mut config: RecommenderConfig,
    [one_thread, bulk]: [Took; 2],
    consumer: Option<anyhow::Result<f64>>,
    events: usize,
) -> anyhow::Result<Report> {
    let consumer = consumer.transpose()?.map(|seconds| Took {
        seconds,
        events_per_second: events as f64 / seconds,
    });
    let store = folder.0.join("snapshots");
    std::fs::create_dir(&store)?;
    config.snapshots = Some(SnapshotsConfig {
        url: format!("file://{}", store.display()),
        interval: HumanDuration::from_secs(1),
        ..SnapshotsConfig::default()
    });
    eprintln!("starting from the log");
    let started = Instant::now();
    let service = Running::start(&folder.0, mode.clone(), config.clone()).await?;
    let log = Took::since(started, events);
    let kept = snapshots(&config, &folder.0, &mode)?.context("there is a place for snapshots")?;
    let until = Instant::now() + SNAPSHOT_WITHIN;
    let snapshot_bytes = loop {
        if let Some(newest) = kept.list().await?.first() {
            break newest.bytes;
        }
        anyhow::ensure!(Instant::now() < until, "no snapshot was written");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    service.stop().await?;
    eprintln!("starting from a snapshot");
    let started = Instant::now();
    let service = Running::start(&folder.0, mode, config).await?;
    let snapshot = Took::since(started, events);
    service.stop().await?;
    let slower = consumer
        .map_or(f64::INFINITY, |consumer| consumer.events_per_second / 2.0)
        .min(bulk.events_per_second);
    Ok(Report {
        events,
        customers: args.customers,
        products: args.products,
        one_thread,
        bulk,
        consumer,
        log,
        share: log.events_per_second / slower,
        snapshot,
        snapshot_bytes,
    })
}

/// Builds a model as a replica does with its log, from events that are in memory.
fn bulk(log: &Log, config: &RecommenderConfig, threads: usize) -> anyhow::Result<Took> {
    let (mut writer, _reader) = engine(model::engine_config(config)?)?;
    let started = Instant::now();
    let mut gathered = Gathered::default();
    for event in log.iter() {
        writer.gather(&mut gathered, &event, log.now_ms);
    }
    writer.learn_gathered(gathered, log.now_ms, threads);
    Ok(Took::since(started, log.events.len()))
}

/// The records of a log, as a shop writes them: with ids, and their own times, which end now.
pub(super) fn records(log: &Log) -> impl Iterator<Item = (&str, Vec<u8>)> {
    let shift = now_ms() - log.now_ms;
    log.events.iter().map(move |(customer, product, kind, time_ms)| {
        let (customer, product) = (
            log.customers[*customer as usize].as_str(),
            &log.products[*product as usize],
        );
        let (id, time) = (
            crate::ids::new(),
            recommendation_api::event::rfc3339(time_ms + shift),
        );
        let kind = match kind {
            recommender_engine::EventKind::Purchase => "purchase",
            recommender_engine::EventKind::Cart => "cart",
            _ => "view",
        };
        let value = format!(
            r#"{{"event_id":"{id}","customer_id":"{customer}","product_id":"{product}","event_type":"{kind}","timestamp":"{time}"}}"#
        );
        (customer, value.into_bytes())
    })
}

pub(super) async fn append(embedded: &EmbeddedLog, log: &Log) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(AT_ONCE);
    let mut records = records(log).peekable();
    while let Some((_, value)) = records.next() {
        batch.push(recommendation_api::Event::parse(&value, None)?);
        if batch.len() == AT_ONCE || records.peek().is_none() {
            let appended = embedded.append(&batch).await;
            appended.into_iter().collect::<Result<Vec<_>, _>>()?;
            batch.clear();
        }
    }
    Ok(())
}

fn text(report: &Report) -> String {
    let line = |what: &str, took: Took| {
        format!(
            "{what}: {:.2} s, {:.0} events/s\n",
            took.seconds, took.events_per_second
        )
    };
    let mut out = format!(
        "{} events, {} customers, {} products\n",
        report.events, report.customers, report.products
    );
    out += &line("the engine's bulk build, one thread", report.one_thread);
    out += &line("the same on all processors", report.bulk);
    if let Some(consumer) = report.consumer {
        out += &line("a bare consumer", consumer);
    }
    out += &line("ready from the log", report.log);
    out += &format!(
        "that is {:.2} of the slower of half the consumer and the bulk build\n",
        report.share
    );
    out += &line("ready from a snapshot", report.snapshot);
    out += &format!("the snapshot has {:.1} MB\n", report.snapshot_bytes as f64 / 1e6);
    out
}
