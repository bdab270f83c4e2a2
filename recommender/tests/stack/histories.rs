//! Histories in Redis: replicas that hold a handful of customers answer as one does that holds them all.

use std::process::Command;
use std::time::Duration;

use recommendation_api::pipeline::recommender::Histories;
use recommender::service::Options;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cable::{Cable, Line};
use crate::replica::Replica;
use crate::shop::{Shop, redis, redis_address};
use crate::support::{Running, event, eventually, send, snapshots_in, token};

const CUSTOMERS: usize = 41;
const PRODUCTS: usize = 37;
const EVENTS: usize = 1_200;
const BATCH: usize = 50;
/// Customers whom a replica holds.
const HELD: u64 = 6;

/// A shop whose histories are in Redis, at `url`.
async fn shop(url: &str) -> Shop {
    let mut shop = Shop::new(3).await.with_redis(url);
    shop.config.histories = Histories::Redis;
    shop.config.limits.max_customers = HELD;
    shop.config.model.exploration = 0.0;
    let folder = shop.dir.path().join("snapshots");
    shop.config.snapshots = snapshots_in(&folder);
    shop
}

/// One whose connections are not ended for their age in the midst of a test.
fn long_lived(shop: &Shop) -> Options {
    let mut options = shop.replica();
    options.max_connection_age = Duration::from_secs(600);
    options
}

fn batch(at: usize) -> Vec<Value> {
    let start = 1_760_000_000_000_i64;
    let one = |n: usize| {
        let kind = ["view", "cart", "purchase", "return"][n % 4];
        let (customer, product) = (
            format!("c{}", n * 5 % CUSTOMERS),
            format!("p{}", n * 7 % PRODUCTS),
        );
        let mut event = event(&customer, &product, kind);
        event["event_id"] = json!(format!("e{n}"));
        event["timestamp"] = json!(start + (n as i64 * 7_919 % 4_320) * 60_000);
        event
    };
    (at..at + BATCH).map(one).collect()
}

/// What a replica tells of products and customers. Answers of other models than these depend on the order between
/// customers, or on when they are asked.
async fn told(replica: &Running) -> Value {
    let mut told = json!({});
    for product in 0..PRODUCTS {
        let path = format!("/v1/products/p{product}/similar?limit=50");
        told[path.clone()] = replica.get(&path).await.json()["items"].clone();
    }
    let reader = token("shop", &["recommendations:read"]);
    for customer in 0..CUSTOMERS {
        let path =
            format!("/v1/recommendations/c{customer}?algorithm=ItemKnn&diversity=0&explain=true&limit=20");
        let answer = replica.call(Method::GET, &path, Some(&reader), None).await.json();
        told[&path] = json!([answer["fallback"], answer["items"], answer["explanation"]]);
    }
    told
}

/// Whether replicas come to tell what one does that reads the log anew into its memory.
async fn tell_the_same(shop: &Shop, replicas: &[&Running], events: u64) {
    let mut config = long_lived(shop);
    config.config.histories = Histories::Memory;
    config.config.limits.max_customers = 1_000;
    config.config.snapshots = None;
    config.config.redis = None;
    let memory = Running::start(config).await.ready().await;
    memory.learned(events).await;
    let expected = told(&memory).await;
    for replica in replicas {
        replica.learned(events).await;
        let mut last = Value::Null;
        // Lists of neighbours are shown in turns.
        for _ in 0..100 {
            last = told(replica).await;
            if last == expected {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for (path, expected) in expected.as_object().unwrap() {
            assert_eq!(last[path], *expected, "{path}");
        }
        let held = replica.status().await["model"]["customers"].as_u64().unwrap();
        assert!(held <= HELD, "{held} customers in memory");
    }
    memory.stop().await;
}

async fn keys(pipeline: &str) -> Vec<String> {
    let client = redis::Client::open(redis()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("KEYS")
        .arg(format!("recommender:{pipeline}:history:*"))
        .query_async(&mut connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn replicas_that_hold_a_few_customers_answer_as_one_that_holds_all_through_kills_aliases_and_erasures()
{
    let shop = shop(&redis()).await;
    let mut steady = Running::start(long_lived(&shop)).await.ready().await;
    let client = steady.client.clone();
    let mut victim = Replica::start(&shop, &client).await;
    for (round, at) in (0..EVENTS).step_by(BATCH).enumerate() {
        if round == 9 {
            victim.kill();
            victim = Replica::start(&shop, &client).await;
        }
        if round == 15 {
            // Time for a snapshot, from which the next one goes on.
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            steady.stop().await;
            steady = Running::start(long_lived(&shop)).await.ready().await;
        }
        send(&steady, &batch(at)).await;
    }
    victim.kill();
    // One that was not there when the events came.
    let late = Running::start(long_lived(&shop)).await.ready().await;
    let events = EVENTS as u64;
    tell_the_same(&shop, &[&steady, &late], events).await;
    assert_eq!(keys(&shop.config.pipeline).await.len(), CUSTOMERS);

    // Two of them turn out to be one, and one is erased: neither is likely to be held.
    alias(&steady, "c8", "c3").await;
    erase(&late, "c5").await;
    tell_the_same(&shop, &[&steady, &late], events).await;
    let forgotten: Vec<String> = keys(&shop.config.pipeline).await;
    let (gone, there): (Vec<_>, Vec<_>) = forgotten.iter().partition(|key| key.ends_with(":forgotten"));
    assert_eq!((gone.len(), there.len()), (1, CUSTOMERS - 1), "{forgotten:?}");

    // Erased and back: whoever reads of the erasure later leaves alone what came after it.
    send(
        &steady,
        &[event("c5", "p1", "purchase"), event("c5", "p2", "purchase")],
    )
    .await;
    let events = events + 2;
    tell_the_same(&shop, &[&steady, &late], events).await;
    let anew = Running::start(long_lived(&shop)).await.ready().await;
    tell_the_same(&shop, &[&anew, &steady], events).await;
    anew.stop().await;

    // The one that has an alias goes with it, and whoever starts now knows of all this.
    erase(&steady, "c8").await;
    tell_the_same(&shop, &[&steady, &late], events).await;
    let anew = Running::start(long_lived(&shop)).await.ready().await;
    tell_the_same(&shop, &[&anew], events).await;
    for replica in [steady, late, anew] {
        replica.stop().await;
    }
}

async fn alias(replica: &Running, customer: &str, alias: &str) {
    let writer = token("shop", &["events:write"]);
    let path = format!("/v1/customers/{customer}/aliases");
    let body = json!({"alias": alias});
    let answer = replica
        .call(Method::POST, &path, Some(&writer), Some(&body))
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

async fn erase(replica: &Running, customer: &str) {
    let (own, path) = (token(customer, &[]), format!("/v1/customers/{customer}"));
    let answer = replica.call(Method::DELETE, &path, Some(&own), None).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

async fn profile(replica: &Running, customer: &str, profile: Value) {
    let writer = token("shop", &["events:write"]);
    let path = format!("/v1/customers/{customer}/profile");
    let answer = replica
        .call(Method::PUT, &path, Some(&writer), Some(&profile))
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

/// What is told to a customer who asks what is known of them.
async fn exported(replica: &Running, customer: &str) -> Value {
    let (own, path) = (token(customer, &[]), format!("/v1/customers/{customer}"));
    let answer = replica.call(Method::GET, &path, Some(&own), None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["history"].clone()
}

#[tokio::test]
async fn what_was_taken_back_is_not_taken_back_again_nor_does_it_come_back() {
    let mut shop = shop(&redis()).await;
    shop.config.quality.max_events_per_minute = 20;
    let steady = Running::start(long_lived(&shop)).await.ready().await;
    let other = Running::start(long_lived(&shop)).await.ready().await;
    let mut events = 0;
    for at in (0..12 * BATCH).step_by(BATCH) {
        send(&steady, &batch(at)).await;
        events += BATCH as u64;
    }
    let buys = |customer: &str, products: &[usize]| -> Vec<Value> {
        let buy = |product: &usize| event(customer, &format!("p{product}"), "purchase");
        products.iter().map(buy).collect()
    };
    tell_the_same(&shop, &[&steady, &other], events).await;

    // Erased by two replicas at once, and again.
    erase(&steady, "c5").await;
    erase(&other, "c5").await;
    tell_the_same(&shop, &[&steady, &other], events).await;
    erase(&steady, "c5").await;
    tell_the_same(&shop, &[&steady, &other], events).await;

    // A refusal is an erasure and a profile that refuses; said again it is another.
    for said in [false, false, true, true] {
        profile(
            &other,
            "c6",
            json!({"consent": said, "attributes": {"skin": ["dry"]}}),
        )
        .await;
        tell_the_same(&shop, &[&steady, &other], events).await;
    }
    send(&steady, &buys("c6", &[1, 2])).await;
    events += 2;
    tell_the_same(&shop, &[&steady, &other], events).await;

    // The record of an alias is written again with its profile.
    alias(&steady, "c8", "c3").await;
    tell_the_same(&shop, &[&steady, &other], events).await;
    profile(&steady, "c3", json!({"attributes": {"skin": ["dry"]}})).await;
    send(&steady, &buys("c3", &[3, 4, 5])).await;
    events += 3;
    tell_the_same(&shop, &[&steady, &other], events).await;
    for replica in [&steady, &other] {
        assert_ne!(exported(replica, "c8").await, json!([]));
    }

    // Erased, and signed in again in the same browser.
    erase(&other, "c8").await;
    tell_the_same(&shop, &[&steady, &other], events).await;
    for replica in [&steady, &other] {
        assert_eq!(exported(replica, "c8").await, json!([]));
    }
    send(&steady, &buys("c3", &[6, 7])).await;
    events += 2;
    alias(&steady, "c8", "c3").await;
    tell_the_same(&shop, &[&steady, &other], events).await;
    for replica in [&steady, &other] {
        assert_eq!(exported(replica, "c8").await.as_array().map(Vec::len), Some(2));
    }

    // Who refuses signs in: what the visit did goes too, and it stays a visit of theirs.
    profile(&other, "c11", json!({"consent": false})).await;
    alias(&steady, "c11", "c12").await;
    // A visit that was erased with its customer goes on by itself.
    alias(&steady, "c14", "c13").await;
    tell_the_same(&shop, &[&steady, &other], events).await;
    erase(&steady, "c14").await;
    tell_the_same(&shop, &[&steady, &other], events).await;
    send(&other, &buys("c13", &[12, 13])).await;
    events += 2;

    tell_the_same(&shop, &[&steady, &other], events).await;

    // Too fast for a person: what was counted before goes, on a replica too that is behind by more than is kept of one.
    other.stop().await;
    let (folder, then) = (shop.dir.path().join("snapshots"), shop.dir.path().join("then"));
    let copied = Command::new("cp").arg("-R").args([&folder, &then]).status();
    assert!(copied.unwrap().success());
    let bot: Vec<Value> = (0..5_100)
        .map(|n| {
            let mut event = event("c9", &format!("p{}", n % PRODUCTS), "view");
            event["timestamp"] = json!(1_761_000_000_000_i64);
            event
        })
        .collect();
    for some in bot.chunks(500) {
        send(&steady, some).await;
        events += some.len() as u64;
    }
    steady.learned(events).await;
    let mut behind = long_lived(&shop);
    behind.config.snapshots = snapshots_in(&then);
    let mut other = Running::start(behind).await.ready().await;
    tell_the_same(&shop, &[&steady, &other], events).await;
    // Nor is anything learned of a visit that turns out to be theirs.
    alias(&steady, "c9", "c15").await;
    tell_the_same(&shop, &[&steady, &other], events).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    other.stop().await;
    other = Running::start(long_lived(&shop)).await.ready().await;
    send(&steady, &buys("c9", &[8, 9])).await;
    erase(&steady, "c9").await;
    send(&steady, &buys("c9", &[10, 11])).await;
    events += 4;
    tell_the_same(&shop, &[&steady, &other], events).await;

    // One that reads the log anew, and writes there what it learns.
    shop.config.snapshots = None;
    let anew = Running::start(long_lived(&shop)).await.ready().await;
    tell_the_same(&shop, &[&anew, &steady, &other], events).await;
    for customer in ["c10", "c11", "c13"] {
        erase(&anew, customer).await;
    }
    tell_the_same(&shop, &[&anew, &steady, &other], events).await;
    for replica in [steady, other, anew] {
        replica.stop().await;
    }
}

#[tokio::test]
async fn without_redis_reads_go_on_and_what_was_acknowledged_is_learned_when_it_is_back() {
    let cable = Cable::to(&redis_address()).await;
    let shop = shop(&format!("redis://{}", cable.address)).await;
    let service = Running::start(long_lived(&shop)).await.ready().await;
    let mut sent = 0;
    for at in (0..4 * BATCH).step_by(BATCH) {
        send(&service, &batch(at)).await;
        sent += BATCH as u64;
    }
    tell_the_same(&shop, &[&service], sent).await;
    let reader = token("shop", &["recommendations:read"]);
    for line in [Line::Cut, Line::Dead] {
        cable.is(line);
        send(&service, &batch(sent as usize)).await;
        sent += BATCH as u64;
        eventually("the loss to be told", async || {
            service
                .status()
                .await
                .to_string()
                .contains("learning waits for histories")
        })
        .await;
        assert!(service.internal("/readyz").await.status.is_success());
        // All of it is read at once, later.
        for said in [false, true] {
            profile(
                &service,
                &format!("c{}", sent % CUSTOMERS as u64),
                json!({"consent": said}),
            )
            .await;
        }
        for customer in 0..CUSTOMERS {
            let path = format!("/v1/recommendations/c{customer}");
            let answer = service.call(Method::GET, &path, Some(&reader), None).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
        cable.is(Line::Whole);
        tell_the_same(&shop, &[&service], sent).await;
    }
    let metrics = service.internal("/metrics").await.text;
    for (by, result) in [("learning", "found"), ("request", "found"), ("request", "failed")] {
        let counter = format!("recommender_histories_recalled_total{{by=\"{by}\",result=\"{result}\"}}");
        assert!(metrics.contains(&counter), "{metrics}");
    }
    service.stop().await;
}
