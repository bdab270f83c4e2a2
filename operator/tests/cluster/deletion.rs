//! What goes with a pipeline, and what holds it.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use recommendation_api::pipeline::RecommendationPipeline;
use recommendation_operator::kafka::{Admin, Connection, TopicSpec};
use serde_json::json;

use crate::harness::Harness;

async fn topics(harness: &Harness) -> BTreeSet<String> {
    let admin = Admin::new(&Connection::plain(std::slice::from_ref(&harness.kafka))).unwrap();
    let view = admin.observe(&BTreeSet::new()).await.unwrap();
    let ours = view
        .topics
        .into_keys()
        .filter_map(|name| name.strip_prefix(&harness.prefix).map(str::to_owned));
    ours.collect()
}

async fn gone(harness: &Harness) {
    let api = harness.api::<RecommendationPipeline>();
    harness
        .until("the pipeline to go", || async {
            api.get_opt("shop").await.unwrap().is_none()
        })
        .await;
}

#[tokio::test]
async fn by_default_nothing_holds_a_pipeline_and_its_topics_stay() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    harness.apply("shop", json!({})).await.unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    let api = harness.api::<RecommendationPipeline>();
    assert!(api.get("shop").await.unwrap().finalizers().is_empty());
    api.delete("shop", &Default::default()).await.unwrap();
    gone(&harness).await;
    assert_eq!(topics(&harness).await.len(), 7);
    harness.end(operator).await;
}

#[tokio::test]
async fn with_delete_the_made_topics_go_and_the_found_ones_stay() {
    let harness = Harness::new().await;
    let admin = Admin::new(&Connection::plain(std::slice::from_ref(&harness.kafka))).unwrap();
    let found = TopicSpec {
        name: format!("{}products", harness.prefix),
        partitions: 1,
        replication_factor: None,
        config: Default::default(),
    };
    admin.create(&found).await.unwrap();
    let operator = harness.operator().await;
    harness
        .apply("shop", json!({"deletionPolicy": "Delete"}))
        .await
        .unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    harness
        .condition("shop", "SpecAccepted", "True", "Accepted")
        .await;
    harness
        .api::<RecommendationPipeline>()
        .delete("shop", &Default::default())
        .await
        .unwrap();
    gone(&harness).await;
    harness
        .until("the topics to go", || async {
            topics(&harness).await == BTreeSet::from(["products".to_owned()])
        })
        .await;
    assert!(
        harness
            .api::<Deployment>()
            .get_opt("shop")
            .await
            .unwrap()
            .is_none()
    );
    harness.end(operator).await;
}

#[tokio::test]
async fn a_cleanup_that_cannot_go_on_says_how_to_release_the_pipeline() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    harness
        .apply("shop", json!({"deletionPolicy": "Delete"}))
        .await
        .unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    let away = json!({"deletionPolicy": "Delete", "kafka": {"bootstrapServers": ["127.0.0.1:1"]}});
    harness.apply("shop", away).await.unwrap();
    let api = harness.api::<RecommendationPipeline>();
    api.delete("shop", &Default::default()).await.unwrap();
    let message = harness
        .condition("shop", "CleanupBlocked", "True", "KafkaUnreachable")
        .await;
    assert!(
        message.contains("recommendation.dev/skip-cleanup=true"),
        "{message}"
    );
    assert!(
        message.contains("customer_behavior"),
        "it says what would stay: {message}"
    );
    let skip = json!({"metadata": {"annotations": {"recommendation.dev/skip-cleanup": "true"}}});
    api.patch("shop", &PatchParams::default(), &Patch::Merge(&skip))
        .await
        .unwrap();
    gone(&harness).await;
    assert_eq!(topics(&harness).await.len(), 7);
    harness.end(operator).await;
}

/// A suspended pipeline that an operator once made a topic for.
async fn recorded(harness: &Harness, spec: serde_json::Value) {
    let mut spec = spec;
    spec["suspend"] = true.into();
    spec["deletionPolicy"] = "Delete".into();
    let pipeline = harness.apply("shop", spec).await.unwrap();
    let record = json!({"topics": {format!("{}products", harness.prefix): "Created"}, "statements": {}});
    let applied = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "shop-applied", "ownerReferences": [{
            "apiVersion": "recommendation.dev/v1alpha1", "kind": "RecommendationPipeline", "name": "shop",
            "uid": pipeline.metadata.uid, "controller": true,
        }]},
        "data": {"applied.json": record.to_string()},
    });
    harness
        .api::<ConfigMap>()
        .patch(
            "shop-applied",
            &PatchParams::apply("tests"),
            &Patch::Apply(&applied),
        )
        .await
        .unwrap();
    let api = harness.api::<RecommendationPipeline>();
    harness
        .until("the finalizer of a suspended pipeline", || async {
            !api.get("shop").await.unwrap().finalizers().is_empty()
        })
        .await;
}

#[tokio::test]
async fn credentials_that_are_gone_block_a_cleanup_and_are_named() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let kafka = json!({"bootstrapServers": [harness.kafka],
        "authentication": {"type": "Plain", "secretRef": {"name": "gone"}}});
    recorded(&harness, json!({"kafka": kafka})).await;
    let api = harness.api::<RecommendationPipeline>();
    api.delete("shop", &Default::default()).await.unwrap();
    let message = harness
        .condition("shop", "CleanupBlocked", "True", "CredentialsGone")
        .await;
    assert!(message.contains("Secret gone"), "{message}");
    let skip = json!({"metadata": {"annotations": {"recommendation.dev/skip-cleanup": "true"}}});
    api.patch("shop", &PatchParams::default(), &Patch::Merge(&skip))
        .await
        .unwrap();
    gone(&harness).await;
    harness.end(operator).await;
}

#[tokio::test]
async fn a_blocked_cleanup_is_given_up_after_the_operators_timeout() {
    let harness = Harness::new().await;
    let operator = harness
        // Longer than the first look at a Kafka that does not answer, which is waited for.
        .operator_with(|options| options.cleanup_timeout = Some(std::time::Duration::from_secs(20)))
        .await;
    recorded(&harness, json!({"kafka": {"bootstrapServers": ["127.0.0.1:1"]}})).await;
    let api = harness.api::<RecommendationPipeline>();
    api.delete("shop", &Default::default()).await.unwrap();
    harness
        .condition("shop", "CleanupBlocked", "True", "KafkaUnreachable")
        .await;
    gone(&harness).await;
    harness.end(operator).await;
}
