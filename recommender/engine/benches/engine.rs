//! Learning and answering on the shop's log that lies in `data/`: `cargo bench -p recommender-engine`.
//!
//! `recommender bench engine` measures this on any file and on a stream that is made up, with the 99th percentile, and
//! shows what was learned as often as the service; `cargo xtask bench instructions` counts what does not depend on the
//! load.

#![allow(missing_docs, reason = "a program")]

use std::{
    io::Read as _,
    sync::{LazyLock, atomic::AtomicUsize, atomic::Ordering::Relaxed},
};

use divan::{Bencher, counter::ItemsCount};
use recommender_engine::{
    Algorithm, Artifact, EngineConfig, Interaction, Query, Reader, Writer, engine,
    eval::{AlsParams, EaseParams, LogEvent, parse_log},
};

const LOG: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../data/online-retail/events.jsonl.gz"
);
const YEAR_MS: i64 = 365 * 86_400_000;
/// Events between two publishes, and lists refreshed by each.
const BATCH: usize = 1_000;
const LISTS: usize = 50;
/// Events learned one by one.
const ONLINE: usize = 100_000;

struct Shop {
    log: Vec<LogEvent>,
    customers: Vec<String>,
    now_ms: i64,
    reader: Reader,
    _writer: Writer,
}

static SHOP: LazyLock<Shop> = LazyLock::new(|| {
    let file = std::fs::File::open(LOG).expect("the log lies in data/");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("the log is gzipped text");
    let log = parse_log(&text).expect("the log is one of events");
    let now_ms = log.iter().map(|event| event.time_ms).max().unwrap_or_default();
    let mut customers: Vec<String> = log.iter().map(|event| event.customer.to_string()).collect();
    customers.sort_unstable();
    customers.dedup();
    let (mut writer, reader) = engine(EngineConfig::default()).expect("the defaults are valid");
    writer.bulk(log.iter().map(interaction), now_ms);
    let data = reader.training_data(now_ms, YEAR_MS / 2);
    let ease = Artifact::ease(&data, &EaseParams::default(), "1", now_ms).expect("it is small enough");
    writer.install(&ease);
    let params = AlsParams {
        factors: 64,
        ..AlsParams::default()
    };
    writer.install(&Artifact::implicit_als(&data, &params, 2, "1", now_ms));
    Shop {
        log,
        customers,
        now_ms,
        reader,
        _writer: writer,
    }
});

fn interaction(event: &LogEvent) -> Interaction<'_> {
    Interaction::new(&event.customer, &event.product, event.kind, event.time_ms)
}

/// One answer of twenty, for another customer each time: the median is the time of a typical one.
#[divan::bench(
    args = [
        Algorithm::Popularity, Algorithm::ItemKnn, Algorithm::Rp3Beta, Algorithm::SessionKnn, Algorithm::Ease,
        Algorithm::ImplicitAls, Algorithm::Hybrid,
    ],
    sample_count = 4_000,
    sample_size = 1
)]
fn answer(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let (shop, next) = (&*SHOP, AtomicUsize::new(0));
    let customer = || &shop.customers[next.fetch_add(1, Relaxed) % shop.customers.len()];
    bencher.with_inputs(customer).bench_values(|customer| {
        shop.reader.recommend(&Query {
            customer: Some(customer),
            algorithm: Some(algorithm),
            limit: 20,
            now_ms: shop.now_ms,
            ..Query::default()
        })
    });
}

/// Event by event, with a publish after each batch.
#[divan::bench(args = [Algorithm::ItemKnn, Algorithm::Hybrid], sample_count = 5, sample_size = 1)]
fn learn_online(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let (shop, mut config) = (&*SHOP, EngineConfig::default());
    config.tuning.algorithm = algorithm;
    let empty = || engine(config.clone()).expect("the configuration is valid");
    bencher
        .counter(ItemsCount::new(ONLINE))
        .with_inputs(empty)
        .bench_values(|(mut writer, reader)| {
            for (batch, events) in shop.log[..ONLINE].chunks(BATCH).enumerate() {
                for event in events {
                    writer.apply(&interaction(event), shop.now_ms);
                }
                writer.publish(shop.now_ms + batch as i64, LISTS);
            }
            (writer, reader)
        });
}

/// The whole log at once.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn learn_in_bulk(bencher: Bencher<'_, '_>) {
    let shop = &*SHOP;
    bencher
        .counter(ItemsCount::new(shop.log.len()))
        .with_inputs(|| engine(EngineConfig::default()).expect("the defaults are valid"))
        .bench_values(|(mut writer, reader)| {
            writer.bulk(shop.log.iter().map(interaction), shop.now_ms);
            (writer, reader)
        });
}

fn main() {
    divan::main();
}
