//! Topics on a real Kafka.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use recommendation_api::pipeline::RecommendationPipeline;
use recommendation_api::pipeline::status::TopicOrigin;
use recommendation_operator::kafka::{Admin, Connection, LiveTopic, TopicSpec};
use serde_json::{Value, json};

use crate::harness::Harness;
use crate::life::kafka_topic;
use crate::monitoring::{install, uninstall};

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

    let api = harness.api::<Event>();
    harness
        .until("the warning that keys move", || async {
            let events = api.list(&Default::default()).await.unwrap().items;
            events.iter().any(|event| {
                event.reason.as_deref() == Some("PartitionsAdded")
                    && event.type_.as_deref() == Some("Warning")
            })
        })
        .await;

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

#[tokio::test]
async fn a_role_a_topic_that_is_only_observed_and_a_policy_of_its_own_take_effect() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let declared = json!([
        {"name": "clicks", "role": "Events", "partitions": 2},
        {"name": "products", "managementPolicy": "Observe"},
        {"name": "customer_salts", "deletionPolicy": "Delete"},
        {"name": "extra", "replicationFactor": 1},
    ]);
    harness.apply("shop", topics(declared)).await.unwrap();
    let message = harness
        .condition("shop", "TopicsReady", "False", "TopicRejected")
        .await;
    assert!(message.contains("products does not exist"), "{message}");
    create(&harness, "products", 1, &[]).await;
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    let config: ConfigMap = harness.get("shop-config").await;
    let config: Value = serde_json::from_str(&config.data.unwrap()["config.json"]).unwrap();
    assert_eq!(config["topics"]["events"], format!("{}clicks", harness.prefix));
    assert_eq!(live(&harness, "clicks").await.partitions, 2);
    assert_eq!(live(&harness, "extra").await.replication_factor, 1);

    let api = harness.api::<RecommendationPipeline>();
    api.delete("shop", &Default::default()).await.unwrap();
    harness
        .until("the pipeline to go", || async {
            api.get_opt("shop").await.unwrap().is_none()
        })
        .await;
    let view = admin(&harness).observe(&BTreeSet::new()).await.unwrap();
    let left = |name: &str| view.topics.contains_key(&format!("{}{name}", harness.prefix));
    assert!(left("products") && left("clicks") && left("extra"));
    assert!(!left("customer_salts"), "its own entry says Delete");
    harness.end(operator).await;
}

#[tokio::test]
async fn a_topic_that_strimzi_manages_is_waited_for_and_never_changed() {
    let harness = Harness::alone().await;
    let crd = install(&harness.client, &kafka_topic(), "kafkatopics").await;
    let kind = ApiResource::from_gvk(&kafka_topic());
    let api: Api<DynamicObject> = Api::namespaced_with(harness.client.clone(), &harness.namespace, &kind);
    let object = json!({
        "apiVersion": "kafka.strimzi.io/v1beta2", "kind": "KafkaTopic", "metadata": {"name": "products"},
        "spec": {"topicName": format!("{}products", harness.prefix), "partitions": 5},
    });
    let params = PatchParams::apply("tests");
    harness
        .until("the CRD to be served", || async {
            api.patch("products", &params, &Patch::Apply(&object))
                .await
                .is_ok()
        })
        .await;
    let operator = harness.operator().await;
    let declared = json!([{"name": "products", "partitions": 9, "config": {"retention.ms": "1000"}}]);
    harness.apply("shop", topics(declared)).await.unwrap();
    let message = harness
        .condition("shop", "TopicsReady", "False", "TopicRejected")
        .await;
    assert!(message.contains("KafkaTopic"), "{message}");
    create(&harness, "products", 5, &[]).await;
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    operator.settled().await;
    let products = live(&harness, "products").await;
    assert_eq!(products.partitions, 5);
    assert!(products.overridden.is_empty());
    uninstall(&harness.client, &[crd]).await;
    harness.end(operator).await;
}
