//! Cached answers: shared by replicas, never hiding what a customer did, and no loss when Redis is away.

use recommendation_api::config::{RecommenderConfig, RedisConfig};
use recommendation_api::duration::HumanDuration;
use reqwest::Method;
use serde_json::json;

use crate::shop::{Shop, redis};
use crate::support::{Running, event, eventually, recommended, token};

fn with_ttl(config: &mut RecommenderConfig, seconds: u64) {
    if let Some(redis) = &mut config.redis {
        *redis = RedisConfig {
            ttl: HumanDuration::from_secs(seconds),
            ..redis.clone()
        };
    }
}

/// How many answers were found where.
async fn found(service: &Running, result: &str) -> u64 {
    let text = service.internal("/metrics").await.text;
    let name = format!("recommender_cache_requests_total{{result=\"{result}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().unwrap())
}

async fn send(service: &Running, events: &[serde_json::Value]) {
    let token = token("shop", &["events:write"]);
    let body = json!({"events": events});
    let answer = service
        .call(Method::POST, "/v1/events/batch", Some(&token), Some(&body))
        .await;
    assert!(answer.status.is_success(), "{}", answer.text);
}

/// Pairs that go together: cup and saucer, pen and paper. In the past, so that answers are settled.
fn pairs(customers: usize) -> Vec<serde_json::Value> {
    let mut events = Vec::new();
    for n in 0..customers {
        for (a, b) in [("cup", "saucer"), ("pen", "paper")] {
            for product in [a, b] {
                let mut event = event(&format!("{a}-{n}"), product, "purchase");
                event["timestamp"] = json!(1_700_000_000_000_i64);
                events.push(event);
            }
        }
    }
    events
}

#[tokio::test]
async fn replicas_share_answers_and_a_click_is_seen_at_once() {
    let mut shop = Shop::new(2).await.with_redis(&redis());
    with_ttl(&mut shop.config, 600);
    let a = Running::start(shop.replica()).await.ready().await;
    let b = Running::start(shop.replica()).await.ready().await;
    let mut events = pairs(8);
    let mut old = event("ann", "cup", "view");
    old["timestamp"] = json!(1_700_000_000_000_i64);
    events.push(old);
    send(&a, &events).await;
    let count = events.len() as u64;
    a.learned(count).await;
    b.learned(count).await;
    // Asked of a route that is not cached: an answer from before the lists are made would stay.
    let knows = async |service: &Running| {
        let path = "/v1/products/cup/similar";
        let answer = service.call(Method::GET, path, None, None).await;
        answer.text.contains("saucer")
    };
    eventually("the neighbours", async || knows(&a).await && knows(&b).await).await;

    let first = recommended(&a, "ann").await;
    assert_eq!(first[0], "saucer");
    assert_eq!(recommended(&a, "ann").await, first);
    assert!(found(&a, "local").await >= 1);
    // The other replica takes what the first one computed, once it is written.
    let before = found(&b, "shared").await;
    eventually("an answer of the other replica", || async {
        // Another length is another question: each is asked of both, first of a.
        for limit in 1..=10 {
            let path = format!("/v1/recommendations/ann?limit={limit}");
            let token = token("ann", &[]);
            a.call(Method::GET, &path, Some(&token), None).await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            b.call(Method::GET, &path, Some(&token), None).await;
        }
        found(&b, "shared").await > before
    })
    .await;

    // A click makes another key, on the replica that has read it; answers in the cache live for ten minutes.
    send(&b, &[event("ann", "pen", "purchase")]).await;
    a.learned(count + 1).await;
    b.learned(count + 1).await;
    for service in [&a, &b] {
        let after = recommended(service, "ann").await;
        assert_eq!(after[0], "paper", "{after:?}");
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_change_of_the_catalogue_is_seen_at_once_in_answers_that_are_kept() {
    let mut shop = Shop::new(1).await.with_redis(&redis());
    with_ttl(&mut shop.config, 600);
    let service = Running::start(shop.replica()).await.ready().await;
    let mut events = pairs(8);
    let mut old = event("ann", "cup", "view");
    old["timestamp"] = json!(1_700_000_000_000_i64);
    events.push(old);
    send(&service, &events).await;
    service.learned(events.len() as u64).await;
    let catalog = token("shop", &["catalog:write"]);
    let put = async |body: serde_json::Value| {
        let path = "/v1/products/saucer";
        let answer = service.call(Method::PUT, path, Some(&catalog), Some(&body)).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
    };
    let ann = token("ann", &[]);
    let answer = async || {
        let path = "/v1/recommendations/ann";
        service.call(Method::GET, path, Some(&ann), None).await.json()
    };
    let title = async || {
        let answer = answer().await;
        let items = answer["items"].as_array().unwrap().iter();
        items
            .filter(|item| item["product_id"] == "saucer")
            .map(|item| item["title"].as_str().unwrap().to_owned())
            .next()
    };
    eventually("the neighbours", async || title().await.is_some()).await;
    for n in ["Saucer", "Small plate"] {
        put(json!({"title": n})).await;
        // The service reads the change some milliseconds later; entries in the cache live for ten minutes.
        eventually("the new title", async || title().await.as_deref() == Some(n)).await;
        // And what is kept from now on is kept.
        eventually("an answer that is kept", async || {
            let before = found(&service, "local").await;
            assert_eq!(title().await.as_deref(), Some(n));
            found(&service, "local").await > before
        })
        .await;
    }
    put(json!({"title": "Saucer", "available": false})).await;
    eventually("it to go", async || title().await.is_none()).await;
    service.stop().await;
}

#[tokio::test]
async fn every_answer_has_an_id_of_its_own() {
    let mut shop = Shop::new(1).await.with_redis(&redis());
    with_ttl(&mut shop.config, 600);
    let service = Running::start(shop.replica()).await.ready().await;
    let mut ids = std::collections::HashSet::new();
    for _ in 0..5 {
        let answer = service
            .call(
                Method::GET,
                "/v1/recommendations/eve",
                Some(&token("eve", &[])),
                None,
            )
            .await;
        assert_eq!(answer.headers["content-type"], "application/json");
        let id = answer.json()["recommendation_id"].as_str().unwrap().to_owned();
        assert!(uuid::Uuid::parse_str(&id).unwrap().get_version_num() == 7);
        ids.insert(id);
    }
    assert_eq!(ids.len(), 5);
    service.stop().await;
}

#[tokio::test]
async fn without_redis_answers_come_from_memory_and_redis_is_left_alone() {
    let shop = Shop::new(1).await.with_redis("redis://127.0.0.1:9");
    let service = Running::start(shop.replica()).await.ready().await;
    let token = token("shop", &["recommendations:read"]);
    let begun = std::time::Instant::now();
    for n in 0..40 {
        let path = format!("/v1/recommendations/customer-{n}");
        let answer = service.call(Method::GET, &path, Some(&token), None).await;
        assert_eq!(answer.status, 200);
    }
    // Forty times the longest wait would be 400 ms, and much more on a busy machine with a real timeout each.
    assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    let metrics = service.internal("/metrics").await.text;
    assert!(
        metrics.contains("recommender_breaker_open{dependency=\"redis\"} 1"),
        "{metrics}"
    );
    let status = service.status().await;
    let notes = status["notes"].to_string();
    assert!(notes.contains("cached per replica"), "{notes}");
    assert!(service.internal("/readyz").await.status.is_success());
    service.stop().await;
}
