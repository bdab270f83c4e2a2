//! Pipelines whose Kafka asks who they are.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::Harness;
use crate::{certificate, env};

async fn secret(harness: &Harness, name: &str, data: Value) {
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
    harness
        .api::<Secret>()
        .patch(name, &PatchParams::apply("tests").force(), &Patch::Apply(&secret))
        .await
        .unwrap();
}

fn kafka(variable: &str, kind: &str) -> Value {
    json!({"kafka": {
        "bootstrapServers": [env(variable)],
        "tls": {"caSecretRef": {"name": "shop-ca"}},
        "authentication": {"type": kind, "secretRef": {"name": "operator"}},
    }})
}

/// As Strimzi writes the Secret of a user with a password: no key holds the name, the Secret has it.
fn strimzi_user(password: &str) -> Value {
    let module = "org.apache.kafka.common.security.scram.ScramLoginModule";
    json!({
        "password": password,
        "sasl.jaas.config": format!("{module} required username=\"operator\" password=\"{password}\";"),
    })
}

async fn rendered(harness: &Harness) -> Value {
    let config: ConfigMap = harness.get("shop-config").await;
    let config: Value = serde_json::from_str(&config.data.unwrap()["config.json"]).unwrap();
    config["kafka"].clone()
}

#[tokio::test]
async fn a_wrong_password_is_an_authorization_failure_until_the_secret_is_mended() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    secret(&harness, "shop-ca", json!({"ca.crt": certificate("ca.crt")})).await;
    secret(&harness, "operator", strimzi_user("wrong")).await;
    harness
        .apply("shop", kafka("TEST_KAFKA_SASL", "ScramSha512"))
        .await
        .unwrap();
    let message = harness
        .condition("shop", "TopicsReady", "False", "AuthorizationFailed")
        .await;
    assert!(message.contains("spec.kafka.authentication"), "{message}");
    secret(&harness, "operator", strimzi_user("op-secret")).await;
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    harness
        .condition("shop", "SpecAccepted", "True", "Accepted")
        .await;
    let kafka = rendered(&harness).await;
    assert_eq!(kafka["tls"]["caFile"], "kafka-ca/ca.crt");
    assert_eq!(
        kafka["authentication"],
        json!({"type": "ScramSha512", "username": "operator", "passwordFile": "kafka-user/password"})
    );
    harness.end(operator).await;
}

#[tokio::test]
async fn a_client_certificate_of_strimzi_is_used_by_the_operator_and_mounted_for_the_recommender() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let authority = |file: &str| json!({"authority.pem": certificate(file)});
    secret(&harness, "shop-ca", authority("stranger.crt")).await;
    let user =
        json!({"user.crt": certificate("client.crt"), "user.key": certificate("client.key"), "ca.crt": "x"});
    secret(&harness, "operator", user).await;
    let mut spec = kafka("TEST_KAFKA_MTLS", "Mtls");
    spec["kafka"]["tls"]["caSecretRef"]["key"] = json!("authority.pem");
    harness.apply("shop", spec).await.unwrap();
    let message = harness
        .condition("shop", "TopicsReady", "Unknown", "KafkaUnreachable")
        .await;
    assert!(message.contains("spec.kafka"), "{message}");
    secret(&harness, "shop-ca", authority("ca.crt")).await;
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    let kafka = rendered(&harness).await;
    assert_eq!(
        kafka["authentication"],
        json!({"type": "Mtls", "certificateFile": "kafka-user/user.crt", "keyFile": "kafka-user/user.key"})
    );
    harness.end(operator).await;
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_named_and_nothing_is_asked_of_kafka() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    harness
        .apply("shop", kafka("TEST_KAFKA_SASL", "Plain"))
        .await
        .unwrap();
    let message = harness
        .condition("shop", "TopicsReady", "False", "SecretNotFound")
        .await;
    assert!(message.contains("there is no Secret shop-ca"), "{message}");
    harness
        .condition("shop", "SpecAccepted", "False", "SecretNotFound")
        .await;
    assert_eq!(operator.context.kafka.requests(), 0);
    harness.end(operator).await;
}
