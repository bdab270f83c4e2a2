//! Topics on a real Kafka.

use std::collections::{BTreeMap, BTreeSet};

use recommendation_api::pipeline::RecommendationPipeline;
use recommendation_api::pipeline::status::TopicOrigin;
use recommendation_operator::kafka::{Admin, Connection, LiveTopic, TopicSpec};
use serde_json::{Value, json};

use crate::harness::Harness;

fn admin(harness: &Harness) -> Admin {
    Admin::new(&Connection::plain(std::slice::from_ref(&harness.kafka))).unwrap()
}

async fn live(harness: &Harness, name: &str) -> LiveTopic {
    let name = format!("{}{name}", harness.prefix);
    let view = admin(harness)
        .observe(&BTreeSet::from([name.clone()]))
        .await
        .unwrap();
    view.topics
        .get(&name)
        .cloned()
        .unwrap_or_else(|| panic!("there is no topic {name}"))
}

async fn create(harness: &Harness, name: &str, partitions: u32, config: &[(&str, &str)]) {
    let config = config
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let name = format!("{}{name}", harness.prefix);
    admin(harness)
        .create(&TopicSpec {
            name,
            partitions,
            replication_factor: Some(1),
            config,
        })
        .await
        .unwrap();
}

fn topics(list: Value) -> Value {
    json!({ "topics": list })
}

#[tokio::test]
async fn topics_are_made_with_their_configuration_and_drift_is_set_back() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let declared =
        json!([{"name": "customer_behavior", "partitions": 2, "config": {"max.message.bytes": "2000000"}}]);
    harness.apply("shop", topics(declared)).await.unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    let events = live(&harness, "customer_behavior").await;
    assert_eq!(
        (events.partitions, events.config["max.message.bytes"].as_str()),
        (2, "2000000")
    );
    assert_eq!(events.config["retention.ms"], "7776000000");
    let erasures = live(&harness, "customer_erasures").await;
    assert_eq!(erasures.config["cleanup.policy"], "compact");

    let by_hand = BTreeMap::from([
        ("retention.ms".to_owned(), "1000000".to_owned()),
        ("segment.bytes".to_owned(), "104857600".to_owned()),
    ]);
    let name = format!("{}customer_behavior", harness.prefix);
    admin(&harness).set_config(&name, &by_hand).await.unwrap();
    harness
        .until("the configuration to be set back", || async {
            let config = live(&harness, "customer_behavior").await.config;
            config["retention.ms"] == "7776000000" && config["max.message.bytes"] == "2000000"
        })
        .await;
    let config = live(&harness, "customer_behavior").await.config;
    assert_eq!(
        config["segment.bytes"], "104857600",
        "keys that nobody declared are left alone"
    );
    harness.end(operator).await;
}

#[tokio::test]
async fn a_topic_that_exists_is_adopted_and_grown_but_never_made_smaller_or_reassigned() {
    let harness = Harness::new().await;
    create(&harness, "customer_behavior", 1, &[("retention.ms", "86400000")]).await;
    create(&harness, "products", 4, &[]).await;
    let operator = harness.operator().await;
    harness
        .apply(
            "shop",
            topics(json!([{"name": "customer_behavior", "partitions": 3}])),
        )
        .await
        .unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    let events = live(&harness, "customer_behavior").await;
    assert_eq!(
        (events.partitions, events.config["retention.ms"].as_str()),
        (3, "86400000")
    );
    let status = harness
        .get::<RecommendationPipeline>("shop")
        .await
        .status
        .unwrap();
    let origins: BTreeMap<String, TopicOrigin> = status
        .topics
        .unwrap()
        .into_iter()
        .map(|t| (t.name.replace(&harness.prefix, ""), t.origin))
        .collect();
    assert_eq!(origins["customer_behavior"], TopicOrigin::Adopted);
    assert_eq!(origins["products"], TopicOrigin::Adopted);
    assert_eq!(origins["customer_salts"], TopicOrigin::Created);

    let smaller =
        json!([{"name": "customer_behavior", "partitions": 3}, {"name": "products", "partitions": 2}]);
    harness.apply("shop", topics(smaller)).await.unwrap();
    let message = harness
        .condition("shop", "TopicsReady", "False", "PartitionDecrease")
        .await;
    assert!(message.contains("products"), "{message}");

    let factor = json!([{"name": "customer_behavior", "partitions": 3, "replicationFactor": 2}]);
    harness.apply("shop", topics(factor)).await.unwrap();
    harness
        .condition("shop", "TopicsReady", "False", "ReplicationFactorMismatch")
        .await;
    harness.end(operator).await;
}

#[tokio::test]
async fn what_kafka_refuses_is_told_in_its_words_and_the_other_topics_are_made() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let bad = json!([{"name": "customer_behavior", "config": {"retention.ms": "soon"}}]);
    harness.apply("shop", topics(bad)).await.unwrap();
    let message = harness
        .condition("shop", "TopicsReady", "False", "TopicRejected")
        .await;
    assert!(message.contains("customer_behavior"), "{message}");
    assert_eq!(live(&harness, "products").await.partitions, 3);
    harness.end(operator).await;
}

#[tokio::test]
async fn the_older_of_two_pipelines_owns_a_topic_and_another_cluster_is_not_touched() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    harness.apply("first", json!({})).await.unwrap();
    harness
        .condition("first", "TopicsReady", "True", "AsDeclared")
        .await;
    // Creation times are in whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    harness.apply("second", json!({})).await.unwrap();
    let message = harness
        .condition("second", "TopicsReady", "False", "TopicConflict")
        .await;
    assert!(message.contains("/first"), "{message}");
    harness
        .condition("first", "TopicsReady", "True", "AsDeclared")
        .await;
    let elsewhere = json!({"kafka": {"bootstrapServers": [harness.kafka], "clusterId": "another"}});
    harness.apply("third", elsewhere).await.unwrap();
    harness
        .condition("third", "TopicsReady", "False", "ClusterIdMismatch")
        .await;
    harness.end(operator).await;
}
