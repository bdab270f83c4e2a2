//! Kafka that is not there, and then is.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::Harness;

/// A port where nothing listens.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Forwards a port of this machine to Kafka.
async fn proxy(port: u16, kafka: String) -> tokio::task::JoinHandle<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut inbound, _)) = listener.accept().await {
            let kafka = kafka.clone();
            tokio::spawn(async move {
                if let Ok(mut outbound) = TcpStream::connect(kafka).await {
                    let _ = tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await;
                }
            });
        }
    })
}

#[tokio::test]
async fn kafka_that_is_not_reachable_is_unknown_hides_nothing_and_heals_by_itself() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let port = free_port().await;
    let spec = json!({"kafka": {"bootstrapServers": [format!("127.0.0.1:{port}")]}});
    harness.apply("shop", spec).await.unwrap();
    let message = harness
        .condition("shop", "TopicsReady", "Unknown", "KafkaUnreachable")
        .await;
    assert!(message.contains(&format!("127.0.0.1:{port}")), "{message}");
    let _: Deployment = harness.get("shop").await;
    harness
        .condition("shop", "SpecAccepted", "True", "Accepted")
        .await;
    operator.settled().await;

    let kafka = proxy(port, harness.kafka.clone()).await;
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    kafka.abort();
    harness.end(operator).await;
}

/// Its own topics, on this Kafka.
fn on(harness: &Harness, name: &str, kafka: &str) -> serde_json::Value {
    json!({
        "namePrefix": format!("{}{name}-", harness.prefix),
        "kafka": {"bootstrapServers": [kafka]},
        "topics": [{"name": "customer_behavior", "partitions": 1}, {"name": "recommendation_impressions", "partitions": 1}],
    })
}

#[tokio::test]
async fn pipelines_on_a_dead_kafka_do_not_slow_those_on_another() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let dead = format!("127.0.0.1:{}", free_port().await);
    // Twice as many as are looked at at the same time.
    for i in 0..16 {
        let name = format!("dead-{i}");
        harness.apply(&name, on(&harness, &name, &dead)).await.unwrap();
    }
    harness
        .condition("dead-15", "TopicsReady", "Unknown", "KafkaUnreachable")
        .await;
    let begun = Instant::now();
    harness
        .apply("alive", on(&harness, "alive", &harness.kafka))
        .await
        .unwrap();
    harness
        .condition("alive", "TopicsReady", "True", "AsDeclared")
        .await;
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "topics took {:?} beside a dead Kafka",
        begun.elapsed()
    );
    harness.end(operator).await;
}

#[tokio::test]
async fn a_cluster_is_asked_at_most_twice_an_interval_however_many_pipelines_are_on_it() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    for name in ["a", "b", "c", "d", "e"] {
        harness
            .apply(name, on(&harness, name, &harness.kafka))
            .await
            .unwrap();
    }
    for name in ["a", "b", "c", "d", "e"] {
        harness.condition(name, "TopicsReady", "True", "AsDeclared").await;
    }
    operator.settled().await;
    let (before, begun) = (operator.context.kafka.requests(), Instant::now());
    operator.reconciles(30).await;
    let asked = operator.context.kafka.requests() - before;
    // The interval of these operators is a second; the one that had begun counts too.
    let intervals = begun.elapsed().as_secs() + 2;
    assert!(asked >= 2, "drift would not be seen");
    assert!(
        asked <= 2 * intervals,
        "{asked} requests in {intervals} intervals"
    );
    harness.end(operator).await;
}
