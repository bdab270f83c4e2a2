//! The model after faults equals the model built from the log in one pass.

use std::net::SocketAddr;
use std::time::Duration;

use recommender::headless::Headless;
use recommender::service::Mode;
use recommender::snapshot;
use recommender::snapshot::load::Snapshots;
use recommender::store::Store;
use recommender_engine::Reader;
use serde_json::{Value, json};

use crate::replica::Replica;
use crate::shop::Shop;
use crate::support::{Running, event, eventually, snapshots_in, token};

/// Everything that was learned, in a form that compares.
fn dump(reader: &Reader) -> Value {
    let stats = reader.stats();
    let near = |product: &str| -> Vec<Value> {
        let found = reader.similar(product, 100);
        found
            .iter()
            .map(|item| json!([&*item.product, item.score]))
            .collect()
    };
    json!({
        "products": stats.products, "customers": stats.customers, "pairs": stats.pairs,
        "learned": stats.learned, "newest": stats.newest_event_ms,
        "histories": (0..CUSTOMERS).map(|c| json!(reader.customer_history(&format!("c{c}")))).collect::<Vec<_>>(),
        "near": (0..PRODUCTS).map(|p| near(&format!("p{p}"))).collect::<Vec<_>>(),
        "trending": reader.trending(100, None, 0).iter().map(|item| json!([&*item.product, item.score])).collect::<Vec<_>>(),
    })
}

/// Reads the log up to its end, from a snapshot or from its start, and writes down what was learned.
async fn learned(shop: &Shop, snapshots: Option<Snapshots>) -> (Value, u64, bool) {
    let from_snapshot = snapshots.is_some();
    let mut config = shop.config.clone();
    config.privacy.key_file = Some("privacy".into());
    let mut model = Headless::start(&config, shop.dir.path(), &Mode::Kafka, snapshots).unwrap();
    model.caught_up().await.unwrap();
    let frozen = model.freeze().await.unwrap();
    let used = model.metrics.snapshot_created.get() > 0.0;
    assert!(used || !from_snapshot, "started from a snapshot");
    model.stop().await;
    let events = frozen.manifest.events;
    // Through bytes and back: readers then see everything, lists that wait to be refreshed too.
    let dump = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        snapshot::write(&frozen, &mut bytes).unwrap();
        let back = snapshot::read(
            recommender_engine::EngineConfig {
                max_events_per_minute: 300,
                ..recommender_engine::EngineConfig::default()
            },
            &mut &bytes[..],
        );
        dump(&back.unwrap().reader)
    });
    (dump.await.unwrap(), events, used)
}

const CUSTOMERS: usize = 41;
const PRODUCTS: usize = 37;
const EVENTS: usize = 3_000;
const BATCH: usize = 50;

/// Events in no order of time, some sent twice.
fn batch(at: usize) -> Vec<Value> {
    let start = 1_760_000_000_000_i64;
    let one = |i: usize| {
        // 101 and 3,000 have no common divisor: every event once, times all over three days.
        let n = i * 101 % EVENTS;
        let kind = ["view", "cart", "purchase", "return"][n % 4];
        let mut event = event(
            &format!("c{}", n % CUSTOMERS),
            &format!("p{}", n * 7 % PRODUCTS),
            kind,
        );
        event["event_id"] = json!(format!("e{n}"));
        event["timestamp"] = json!(start + (n as i64 * 7_919 % 4_320) * 60_000);
        event
    };
    let mut events: Vec<Value> = (at..at + BATCH).map(one).collect();
    events.extend((at.saturating_sub(20)..at).step_by(3).map(one));
    events
}

#[tokio::test]
async fn after_kills_retries_and_restarts_the_model_equals_the_one_built_in_one_pass() {
    let mut shop = Shop::new(3).await;
    let folder = shop.dir.path().join("snapshots");
    shop.config.snapshots = snapshots_in(&folder);
    let writer = token("shop", &["events:write"]);
    // One replica that is restarted in good order, and one that is killed while it is written to.
    let mut steady = Running::start(shop.replica()).await.ready().await;
    let client = steady.client.clone();
    let mut victim = Replica::start(&shop, &client).await;
    let mut unanswered = 0;
    for (round, at) in (0..EVENTS).step_by(BATCH).enumerate() {
        let body = batch(at);
        let post = |to: SocketAddr| {
            client
                .post(format!("http://{to}/v1/events/batch"))
                .bearer_auth(&writer)
                .json(&body)
                .send()
        };
        if round % 20 == 13 {
            // Killed with a request on its way: whether it was written is unknown, so it is sent again.
            let sending = tokio::spawn(post(victim.public));
            tokio::time::sleep(Duration::from_millis(3)).await;
            victim.kill();
            unanswered += usize::from(!sending.await.unwrap().is_ok_and(|answer| answer.status() == 202));
            victim = Replica::start(&shop, &client).await;
        }
        if round == 30 {
            steady.stop().await;
            steady = Running::start(shop.replica()).await.ready().await;
        }
        let to = if round % 2 == 0 {
            steady.public
        } else {
            victim.public
        };
        let answer = post(to).await.unwrap();
        assert_eq!(answer.status(), 202);
        if round % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(400)).await; // time for a snapshot
        }
    }
    steady.learned(EVENTS as u64).await;
    eventually("the killed one", || async {
        victim.status(&client).await["events"] == EVENTS as u64
    })
    .await;
    victim.kill();
    steady.stop().await;

    let snapshots = Snapshots {
        store: Store::folder(&folder).unwrap(),
    };
    let covered = snapshots
        .manifest(snapshots.list().await.unwrap()[0].name)
        .await
        .unwrap()
        .events;
    let (one_pass, events, _) = learned(&shop, None).await;
    let (restored, again, _) = learned(&shop, Some(snapshots)).await;
    println!("{unanswered} requests unanswered; the snapshot covered {covered} of {EVENTS} events");
    assert!(covered > 0);
    assert_eq!((events, again), (EVENTS as u64, EVENTS as u64), "lost or doubled");
    for part in [
        "products",
        "customers",
        "learned",
        "newest",
        "pairs",
        "histories",
        "near",
        "trending",
    ] {
        assert_eq!(restored[part], one_pass[part], "{part}");
    }
}

#[tokio::test]
async fn a_snapshot_of_a_topic_that_was_made_anew_is_not_used() {
    let mut shop = Shop::new(1).await;
    let folder = shop.dir.path().join("snapshots");
    shop.config.snapshots = snapshots_in(&folder);
    for product in ["p", "q", "r"] {
        shop.put(None, "c", event("c", product, "click").to_string().as_bytes())
            .await;
    }
    let service = Running::start(shop.replica()).await.ready().await;
    service.learned(3).await;
    let snapshots = Snapshots {
        store: Store::folder(&folder).unwrap(),
    };
    eventually("a snapshot", || async {
        !snapshots.list().await.unwrap().is_empty()
    })
    .await;
    service.stop().await;
    // The same name, longer than before: only what stands in it tells.
    shop.recreate().await;
    for product in ["s", "t", "u", "v"] {
        shop.put(None, "d", event("d", product, "view").to_string().as_bytes())
            .await;
    }
    let service = Running::start(shop.replica()).await.ready().await;
    service.learned(4).await;
    let metrics = service.internal("/metrics").await.text;
    assert!(
        metrics.contains(r#"recommender_snapshots_total{outcome="skipped"}"#),
        "{metrics}"
    );
    service.stop().await;
}
