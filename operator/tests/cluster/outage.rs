//! Kafka that is not there, and then is.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use crate::harness::Harness;
use crate::proxy::{Proxy, free_port};

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

    let kafka = Proxy::start(port, &harness.kafka).await;
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    kafka.cut().await;
    harness.end(operator).await;
}

#[tokio::test]
async fn a_kafka_whose_first_answer_takes_seconds_is_not_told_as_gone_by_an_operator_that_starts() {
    let harness = Harness::new().await;
    let port = free_port().await;
    let kafka = format!("127.0.0.1:{port}");
    let fast = Proxy::start(port, &harness.kafka).await;
    let operator = harness.operator().await;
    harness.apply("shop", on(&harness, "shop", &kafka)).await.unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    operator.settled().await;
    operator.stop().await;
    fast.cut().await;

    // Longer than a reconcile waits for it, and less than librdkafka does.
    let slow = Proxy::slow(port, &harness.kafka, Duration::from_millis(3_500)).await;
    let operator = harness.operator().await;
    // The first look has ended once the topics' configuration was asked for.
    harness
        .until("the first look", || {
            std::future::ready(operator.context.kafka.requests() >= 2)
        })
        .await;
    assert!(
        operator.context.metrics.reconciles.get() >= 1,
        "the pipeline was looked at meanwhile"
    );
    operator.reconciles(3).await;
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    assert_eq!(operator.writes(), 0, "{:?}", operator.asked());
    slow.cut().await;
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
