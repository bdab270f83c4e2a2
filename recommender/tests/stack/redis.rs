//! The rate limit that replicas share.

use crate::shop::{Shop, redis};
use crate::support::{Running, eventually};

#[tokio::test]
async fn two_replicas_share_one_limit_through_redis() {
    let mut shop = Shop::new(1).await.with_redis(&redis());
    // A caller of this test alone: addresses count over all services on one Redis.
    shop.config.http.trusted_proxies = vec!["127.0.0.1".into()];
    let caller = format!(
        "2001:db8::{:x}:{:x}",
        rand::random::<u16>(),
        rand::random::<u16>()
    );
    let (a, b) = (
        Running::start(shop.replica()).await,
        Running::start(shop.replica()).await,
    );
    eventually("Redis", || async {
        a.status().await["redis"] == "Up" && b.status().await["redis"] == "Up"
    })
    .await;
    let mut statuses = Vec::new();
    for service in [&a, &b, &a, &b, &a, &b, &a] {
        let request = service
            .client
            .get(format!("http://{}/api/resource", service.public));
        let response = request.header("x-forwarded-for", &caller).send().await.unwrap();
        statuses.push((
            response.status().as_u16(),
            response.headers()["ratelimit-remaining"]
                .to_str()
                .unwrap()
                .to_owned(),
        ));
    }
    let expected = [
        (200, "4"),
        (200, "3"),
        (200, "2"),
        (200, "1"),
        (200, "0"),
        (429, "0"),
        (429, "0"),
    ];
    assert_eq!(
        statuses.iter().map(|(s, r)| (*s, r.as_str())).collect::<Vec<_>>(),
        expected
    );
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
