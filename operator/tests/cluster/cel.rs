//! Every rule of the CRD refuses what it should, on the real API server, with a message that names the field.

use recommendation_api::pipeline::RecommendationPipeline;
use serde_json::{Value, json};

use crate::harness::Harness;

fn refusal(result: kube::Result<RecommendationPipeline>, what: &str) -> String {
    match result {
        Err(kube::Error::Api(status)) => status.message,
        Ok(_) => panic!("accepted: {what}"),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn every_manifest_that_breaks_a_rule_is_refused_by_the_fields_name() {
    let harness = Harness::new().await;
    let recommender = |part: Value| json!({ "recommender": part });
    let kafka = |part: Value| json!({ "kafka": part });
    let cases: Vec<(&str, Value, &str)> = vec![
        (
            "no brokers",
            kafka(json!({"bootstrapServers": []})),
            "spec.kafka.bootstrapServers",
        ),
        (
            "no port",
            kafka(json!({"bootstrapServers": ["kafka"]})),
            "spec.kafka.bootstrapServers[0]",
        ),
        (
            "credentials that are missing",
            kafka(json!({"bootstrapServers": ["k:1"], "authentication": {"type": "Plain"}})),
            "spec.kafka.authentication.secretRef",
        ),
        (
            "credentials for nothing",
            kafka(
                json!({"bootstrapServers": ["k:1"], "authentication": {"type": "None", "secretRef": {"name": "x"}}}),
            ),
            "spec.kafka.authentication.secretRef",
        ),
        (
            "replicas and autoscaling",
            recommender(json!({"replicas": 2, "autoscaling": {"maxReplicas": 3}})),
            "spec.recommender.replicas",
        ),
        (
            "least over most",
            recommender(json!({"autoscaling": {"minReplicas": 4, "maxReplicas": 3}})),
            "spec.recommender.autoscaling.minReplicas",
        ),
        (
            "percents that are not 100",
            recommender(json!({"experiments": [{"name": "e", "arms": [
                {"algorithm": "Hybrid", "percent": 90}, {"algorithm": "Popularity", "percent": 5}]}]})),
            "percent",
        ),
        (
            "an unknown algorithm",
            recommender(json!({"model": {"algorithm": "Magic"}})),
            "spec.recommender.model.algorithm",
        ),
        (
            "no duration",
            recommender(json!({"model": {"halfLife": "soon"}})),
            "spec.recommender.model.halfLife",
        ),
        (
            "a share over 1",
            recommender(json!({"model": {"diversity": 2}})),
            "spec.recommender.model.diversity",
        ),
        (
            "no partitions",
            json!({"topics": [{"name": "a", "partitions": 0}]}),
            "spec.topics[0].partitions",
        ),
        (
            "two topics of one name",
            json!({"topics": [{"name": "a"}, {"name": "a"}]}),
            "spec.topics",
        ),
    ];
    for (what, spec, field) in cases {
        let message = refusal(harness.apply("shop", spec).await, what);
        assert!(message.contains(field), "{what}: {message}");
    }
    let long = "a".repeat(53);
    let message = refusal(harness.apply(&long, json!({})).await, "a long name");
    assert!(
        message.contains("metadata.name must be at most 52 characters"),
        "{message}"
    );
}

#[tokio::test]
async fn what_is_fixed_once_set_cannot_be_changed() {
    let harness = Harness::new().await;
    let topics = |partitions: i32, factor: i32| {
        json!({"topics": [{"name": "a", "partitions": partitions, "replicationFactor": factor}],
            "kafka": {"bootstrapServers": ["k:1"], "clusterId": "abc"}})
    };
    harness.apply("shop", topics(4, 2)).await.unwrap();
    let message = refusal(harness.apply("shop", topics(3, 2)).await, "fewer partitions");
    assert!(
        message.contains("spec.topics[].partitions can only grow"),
        "{message}"
    );
    let message = refusal(
        harness.apply("shop", topics(4, 3)).await,
        "another replication factor",
    );
    assert!(
        message.contains("spec.topics[].replicationFactor is fixed once set"),
        "{message}"
    );
    let mut other = topics(4, 2);
    other["kafka"]["clusterId"] = json!("xyz");
    let message = refusal(harness.apply("shop", other).await, "another cluster");
    assert!(
        message.contains("spec.kafka.clusterId is fixed once set"),
        "{message}"
    );
    harness.apply("shop", topics(5, 2)).await.unwrap();
}
