//! The rate limit that replicas share.

use recommender::http::signature;
use secrecy::SecretString;
use serde_json::json;

use crate::shop::{Shop, redis};
use crate::support::{Running, eventually};

#[tokio::test]
async fn two_replicas_share_one_limit_through_redis() {
    let mut shop = Shop::new(1).await.with_redis(&redis());
    shop.config.http.trusted_proxies = vec!["127.0.0.1".into()];
    let (a, b) = (
        Running::start(shop.replica()).await,
        Running::start(shop.replica()).await,
    );
    let expected = [
        (200, "4"),
        (200, "3"),
        (200, "2"),
        (200, "1"),
        (200, "0"),
        (429, "0"),
        (429, "0"),
    ]
    .map(|(status, left)| (status, left.to_owned()));
    // An answer that takes Redis longer than a request waits for it is counted locally, as it should be. On a
    // machine that is that busy the next caller may fare better; were counts not shared, no caller would.
    let mut seen = Vec::new();
    for host in 1..=5 {
        eventually("Redis", || async {
            a.status().await["redis"] == "Up" && b.status().await["redis"] == "Up"
        })
        .await;
        seen.clear();
        for service in [&a, &b, &a, &b, &a, &b, &a] {
            let request = service
                .client
                .get(format!("http://{}/api/resource", service.public))
                .header("x-forwarded-for", format!("2001:db8::{host}"));
            let response = request.send().await.unwrap();
            let left = response.headers()["ratelimit-remaining"].to_str().unwrap();
            seen.push((response.status().as_u16(), left.to_owned()));
        }
        if seen == expected {
            break;
        }
    }
    assert_eq!(seen, expected);
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_webhook_that_one_replica_took_is_a_replay_for_the_other() {
    let mut shop = Shop::new(1).await.with_redis(&redis());
    std::fs::write(shop.dir.path().join("hmac"), "key").unwrap();
    shop.config.webhooks.hmac_secret_file = Some("hmac".into());
    let (a, b) = (
        Running::start(shop.replica()).await.ready().await,
        Running::start(shop.replica()).await.ready().await,
    );
    eventually("Redis", || async {
        a.status().await["redis"] == "Up" && b.status().await["redis"] == "Up"
    })
    .await;
    let key = SecretString::from("key");
    let at = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64;
    let send = async |service: &Running, product: &str| {
        let body = json!({"event": "click", "customer_id": "c", "product_id": product}).to_string();
        let request = service
            .client
            .post(format!("http://{}/webhook", service.public))
            .header("x-timestamp", at.to_string())
            .header("x-signature", signature::sign(&key, at, body.as_bytes()));
        request.body(body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(send(&a, "cup").await, 200);
    assert_eq!(send(&b, "cup").await, 409, "the same delivery");
    assert_eq!(send(&b, "mug").await, 200, "another one");
    assert_eq!(send(&a, "mug").await, 409);
    // One that came to nothing may come again, to whichever replica.
    assert_eq!(send(&a, "").await, 400);
    assert_eq!(send(&b, "").await, 400);
    a.learned(2).await;
    b.learned(2).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn pipelines_on_one_redis_count_apart() {
    let (one, other) = (
        Shop::new(1).await.with_redis(&redis()),
        Shop::new(1).await.with_redis(&redis()),
    );
    let (a, b) = (
        Running::start(one.replica()).await,
        Running::start(other.replica()).await,
    );
    for _ in 0..5 {
        assert_eq!(a.get("/api/resource").await.status, 200);
    }
    assert_eq!(b.get("/api/resource").await.headers["ratelimit-remaining"], "4");
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn without_redis_the_limit_holds_per_replica_and_nobody_is_turned_away() {
    let shop = Shop::new(1).await.with_redis("redis://127.0.0.1:9");
    let service = Running::start(shop.replica()).await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(service.get("/api/resource").await.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
    eventually("the note", || async { service.status().await["redis"] == "Down" }).await;
    service.stop().await;
}
