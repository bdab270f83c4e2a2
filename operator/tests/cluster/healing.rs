//! What people change by hand is set back; what is no longer wanted goes.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::harness::Harness;

#[tokio::test]
async fn children_that_are_edited_or_deleted_by_hand_are_healed() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    harness.apply("shop", json!({})).await.unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    operator.settled().await;

    let by_hand = PatchParams::default();
    let maps = harness.api::<ConfigMap>();
    maps.patch(
        "shop-config",
        &by_hand,
        &Patch::Merge(&json!({"data": {"config.json": "{}"}})),
    )
    .await
    .unwrap();
    let deployments = harness.api::<Deployment>();
    deployments
        .patch("shop", &by_hand, &Patch::Merge(&json!({"spec": {"replicas": 0}})))
        .await
        .unwrap();
    let services = harness.api::<Service>();
    services
        .delete("shop-internal", &Default::default())
        .await
        .unwrap();
    // The same name on another port: applied beside it, ours would make the list invalid.
    let port = json!({"spec": {"ports": [{"name": "http", "port": 81, "targetPort": 1234}]}});
    services
        .patch("shop", &by_hand, &Patch::Merge(&port))
        .await
        .unwrap();

    harness
        .until("the children to be healed", || async {
            let config = maps.get("shop-config").await.unwrap().data.unwrap()["config.json"].clone();
            let replicas = deployments.get("shop").await.unwrap().spec.unwrap().replicas;
            let service = services.get_opt("shop-internal").await.unwrap();
            let public = services.get("shop").await.unwrap();
            // Nobody but the operator's apply owns what it wrote: it can take it away again.
            let owners = public.metadata.managed_fields.unwrap();
            let repaired = owners
                .iter()
                .all(|o| !o.manager.as_deref().unwrap_or_default().ends_with("-repair"));
            let ports = public.spec.unwrap().ports.unwrap();
            config.contains("customer_behavior")
                && replicas == Some(2)
                && service.is_some()
                && repaired
                && ports.iter().map(|port| port.port).eq([80])
        })
        .await;
    harness.end(operator).await;
}

#[tokio::test]
async fn a_made_key_is_never_changed_and_a_lost_one_is_made_anew() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    harness.apply("shop", json!({})).await.unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    let key = |secret: Secret| secret.data.unwrap()["secret"].0.clone();
    let first = key(harness.get("shop-jwt").await);
    harness
        .apply("shop", json!({"recommender": {"replicas": 4}}))
        .await
        .unwrap();
    operator.reconciles(2).await;
    assert_eq!(key(harness.get("shop-jwt").await), first);
    let secrets = harness.api::<Secret>();
    secrets.delete("shop-jwt", &Default::default()).await.unwrap();
    harness
        .until("a new key", || async {
            secrets.get_opt("shop-jwt").await.unwrap().is_some()
        })
        .await;
    assert_ne!(key(harness.get("shop-jwt").await), first);
    harness.end(operator).await;
}

#[tokio::test]
async fn a_field_that_is_no_longer_wanted_and_a_child_that_is_not_go() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    harness
        .apply(
            "shop",
            json!({"recommender": {"template": {"nodeSelector": {"disk": "ssd"}}}}),
        )
        .await
        .unwrap();
    let deployments = harness.api::<Deployment>();
    let selector = || async {
        deployments
            .get("shop")
            .await
            .unwrap()
            .spec
            .unwrap()
            .template
            .spec
            .unwrap()
            .node_selector
    };
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    assert!(selector().await.is_some());
    harness
        .apply(
            "shop",
            json!({"recommender": {"template": {"serviceAccountName": "default"}}}),
        )
        .await
        .unwrap();
    let accounts = harness.api::<ServiceAccount>();
    harness
        .until("the node selector and the account to go", || async {
            selector().await.is_none() && accounts.get_opt("shop").await.unwrap().is_none()
        })
        .await;
    harness.end(operator).await;
}
