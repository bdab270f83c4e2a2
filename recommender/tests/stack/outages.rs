//! Servers that go away and come back, under a client that does not stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;
use recommendation_api::config::KafkaConfig;
use reqwest::Method;
use tokio::task::JoinHandle;

use crate::cable::{Cable, Line};
use crate::shop::{Shop, redis_address};
use crate::support::{Running, event, eventually, token};

/// Redis is asked twice a second whether it is back; an attempt to connect that began while it was gone takes a second,
/// and the next one begins within another. Twice that, for machines that have other things to do.
const REDIS_HEALS_WITHIN: Duration = Duration::from_secs(6);

/// Asks for recommendations all the while; how many were refused, of how many, and the longest wait.
struct Reader {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(usize, usize, Duration)>,
}

impl Reader {
    fn of(service: &Running) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (of_task, client, address) = (Arc::clone(&stop), service.client.clone(), service.public);
        let token = token("shop", &["recommendations:read"]);
        let task = tokio::spawn(async move {
            let (mut failed, mut asked, mut longest) = (0, 0, Duration::ZERO);
            while !of_task.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let url = format!("http://{address}/v1/recommendations/c{}", asked % 50);
                let answer = client.get(url).bearer_auth(&token).send().await;
                longest = longest.max(begun.elapsed());
                asked += 1;
                failed += usize::from(!answer.is_ok_and(|answer| answer.status().is_success()));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (failed, asked, longest)
        });
        Self { stop, task }
    }

    async fn end(self) -> (usize, usize, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

#[tokio::test]
async fn redis_goes_and_comes_back_and_no_reader_notices() {
    let cable = Cable::to(&redis_address()).await;
    let shop = Shop::new(1)
        .await
        .with_redis(&format!("redis://{}", cable.address));
    let service = Running::start(shop.replica()).await.ready().await;
    eventually("Redis", || async { service.status().await["redis"] == "Up" }).await;
    let reader = Reader::of(&service);
    for line in [Line::Cut, Line::Dead] {
        cable.is(line);
        eventually("the loss to be told", || async {
            let metrics = service.internal("/metrics").await.text;
            service.status().await["redis"] == "Down"
                && metrics.contains("recommender_breaker_open{dependency=\"redis\"} 1")
        })
        .await;
        assert!(service.internal("/readyz").await.status.is_success());
        // Long enough that whoever waits longer after each attempt has come to wait long.
        tokio::time::sleep(Duration::from_secs(5)).await;
        cable.is(Line::Whole);
        let back = Instant::now();
        eventually("Redis again", || async {
            let metrics = service.internal("/metrics").await.text;
            service.status().await["redis"] == "Up"
                && metrics.contains("recommender_breaker_open{dependency=\"redis\"} 0")
        })
        .await;
        let healed = back.elapsed();
        println!("Redis: {line:?} and whole again: healed in {healed:?}");
        assert!(healed < REDIS_HEALS_WITHIN, "{line:?}: {healed:?}");
    }
    let (failed, asked, longest) = reader.end().await;
    println!("Redis: {failed} of {asked} reads failed, longest {longest:?}");
    assert!(asked > 20);
    assert_eq!(failed, 0, "of {asked}");
    service.stop().await;
}

#[tokio::test]
async fn kafka_goes_and_comes_back_reads_go_on_and_no_acknowledged_event_is_lost() {
    let cluster = MockCluster::new(1).unwrap();
    let mut shop = Shop::new(1).await;
    for topic in [
        &shop.config.topics.events,
        &shop.config.topics.catalog,
        &shop.config.topics.dead_letter,
    ] {
        cluster.create_topic(topic, 1, 1).unwrap();
    }
    shop.config.kafka = Some(KafkaConfig {
        bootstrap_servers: vec![cluster.bootstrap_servers()],
        ..KafkaConfig::default()
    });
    let service = Running::start(shop.replica()).await.ready().await;
    let write = token("shop", &["events:write"]);
    let mut acknowledged = 0u64;
    for n in 0..20 {
        let body = event(&format!("c{n}"), "cup", "purchase");
        let answer = service
            .call(Method::POST, "/v1/events", Some(&write), Some(&body))
            .await;
        acknowledged += u64::from(answer.status == 202);
    }
    assert_eq!(acknowledged, 20);
    service.learned(20).await;

    let reader = Reader::of(&service);
    cluster.broker_down(-1).unwrap();
    eventually("the loss to be told", || async {
        service.status().await["log"] == "Down"
    })
    .await;
    // Many at once: the first of them wait for their delivery time, those after them are refused at once.
    let refused = futures::future::join_all((0..6).map(|n| {
        let body = event(&format!("lost{n}"), "mug", "view");
        let (service, write) = (&service, &write);
        async move {
            service
                .call(Method::POST, "/v1/events", Some(write), Some(&body))
                .await
        }
    }))
    .await;
    assert!(
        refused
            .iter()
            .all(|answer| answer.status == 503 && answer.headers.contains_key("retry-after"))
    );
    let begun = Instant::now();
    let body = event("late", "mug", "view");
    let answer = service
        .call(Method::POST, "/v1/events", Some(&write), Some(&body))
        .await;
    let took = begun.elapsed();
    assert_eq!(answer.status, 503);
    assert!(
        service.internal("/readyz").await.status.is_success(),
        "it answers from memory"
    );

    cluster.broker_up(-1).unwrap();
    let back = Instant::now();
    eventually("an event to be acknowledged again", || async {
        let body = event("back", "cup", "view");
        let answer = service
            .call(Method::POST, "/v1/events", Some(&write), Some(&body))
            .await;
        answer.status == 202
    })
    .await;
    let healed = back.elapsed();
    eventually("the log to be up", || async {
        service.status().await["log"] == "Up"
    })
    .await;
    let (failed, asked, longest) = reader.end().await;
    println!(
        "Kafka: {failed} of {asked} reads failed, longest {longest:?}; a refusal took {took:?}; healed in {healed:?}"
    );
    assert_eq!(failed, 0, "of {asked}");
    // What was acknowledged is learned; what was refused may have been written all the same, never twice.
    eventually("what was acknowledged to be learned", || async {
        service.status().await["events"].as_u64().unwrap() >= 21
    })
    .await;
    service.stop().await;
}
