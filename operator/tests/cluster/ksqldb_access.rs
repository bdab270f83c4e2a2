//! How a pipeline reaches its ksqlDB, and how it is upgraded there.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::double::Double;
use crate::harness::Harness;
use crate::ksqldb::adopted;
use crate::listener::serve;

async fn secret(harness: &Harness, name: &str, data: Value) {
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
    harness
        .api::<Secret>()
        .patch(name, &PatchParams::apply("tests").force(), &Patch::Apply(&secret))
        .await
        .unwrap();
}

#[tokio::test]
async fn synthetic_a_server_behind_tls_is_asked_with_the_authority_and_the_login_of_the_secrets() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    // This user may not: the answer shows that the login arrived.
    let (routes, tape) = Double::routes(&["807-auth-no-role-ksql"]);
    let (authority, address) = serve(routes).await;
    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    secret(&harness, "ksql-ca", json!({"authority.pem": stranger.cert.pem()})).await;
    let login = json!({"username": "viewer", "password": "view-pass"});
    secret(&harness, "ksql-user", login).await;
    let spec = json!({"ksqldb": {
        "endpoint": address,
        "statements": [],
        "tls": {"caSecretRef": {"name": "ksql-ca", "key": "authority.pem"}},
        "authentication": {"secretRef": {"name": "ksql-user"}},
    }});
    harness.apply("shop", spec).await.unwrap();
    let message = harness
        .condition("shop", "StatementsReady", "Unknown", "KsqldbUnreachable")
        .await;
    assert!(message.contains("certificate"), "{message}");
    secret(&harness, "ksql-ca", json!({"authority.pem": authority})).await;
    let message = harness
        .condition("shop", "StatementsReady", "False", "AuthorizationFailed")
        .await;
    assert!(message.contains("spec.ksqldb.authentication"), "{message}");
    let strangers = tape.lock().unwrap().strangers().to_vec();
    assert!(strangers.is_empty(), "{strangers:?}");
    harness.end(operator).await;
}

#[tokio::test]
async fn what_cannot_be_replaced_is_left_in_place_or_made_anew_as_the_upgrade_policy_says() {
    let text = "CREATE STREAM customer_behavior (customer_id VARCHAR KEY, event_type VARCHAR) WITH \
                (kafka_topic='customer_behavior', value_format='JSON', partitions=3);";
    // Somebody else reads it: dropped it cannot be, which shows that it was tried.
    for (policy, reader) in [("InPlace", false), ("Recreate", true)] {
        let harness = Harness::new().await;
        let operator = harness.operator().await;
        let double = Double::replay(&[
            "120-show-streams",
            "122-list-tables",
            "125-list-queries",
            "502-or-replace-drop-column",
            "400-drop-source-still-read",
        ])
        .await;
        let statements = json!([{"name": "behavior", "sql": text}]);
        let spec = json!({"suspend": false, "ksqldb": {
            "endpoint": double.address(), "upgradePolicy": policy, "statements": statements}});
        adopted(&harness, double.address(), "CUSTOMER_BEHAVIOR", spec).await;
        let message = harness
            .condition("shop", "StatementsReady", "False", "UpgradeNotSupported")
            .await;
        assert_eq!(message.contains("SESSIONS"), reader, "{policy}: {message}");
        let asked = double.asked();
        let dropped = asked.iter().any(|asked| asked.starts_with("DROP"));
        assert_eq!(dropped, reader, "{policy}: {asked:?}");
        harness.end(operator).await;
    }
}
