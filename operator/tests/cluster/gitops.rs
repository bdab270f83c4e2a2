//! What tools that hold a cluster to a Git repository see: nothing to do.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Resource};
use recommendation_api::pipeline::RecommendationPipeline;
use serde_json::{Value, json};

use crate::harness::Harness;

/// Argo CD's name when it applies.
const ARGO_CD: &str = "argocd-controller";
const HASH: &str = "recommendation.dev/applied-hash";

/// An object but for what every write changes.
fn content(object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    let metadata = value["metadata"].as_object_mut().unwrap();
    metadata.remove("managedFields");
    metadata.remove("resourceVersion");
    // A Deployment's goes up with its annotations too.
    metadata.remove("generation");
    value
}

fn dynamic<K: Resource<DynamicType = ()>>(harness: &Harness) -> Api<DynamicObject> {
    Api::namespaced_with(
        harness.client.clone(),
        &harness.namespace,
        &ApiResource::erase::<K>(&()),
    )
}

/// Something of every part of the spec that has defaults of its own.
fn from_git(harness: &Harness) -> Value {
    harness.manifest(
        "shop",
        json!({
            "deletionPolicy": "Delete",
            "recommender": {
                "model": {"halfLife": "30d", "eventWeights": {"purchase": 5}},
                "rules": {"maxPerCategory": 3},
                "quality": {"maxLagSeconds": 60},
            },
            "monitoring": {"serviceMonitor": {"policy": "IfAvailable"}},
        }),
    )
}

#[tokio::test]
async fn a_pipeline_just_applied_is_what_git_says_and_not_yet_done() {
    let harness = Harness::new().await;
    let pipelines = dynamic::<RecommendationPipeline>(&harness);
    let git = from_git(&harness);
    let params = PatchParams::apply(ARGO_CD).force();
    let made = pipelines
        .patch("shop", &params, &Patch::Apply(&git))
        .await
        .unwrap();
    assert_eq!(made.data["spec"], git["spec"], "defaulting added something");
    // kstatus takes an object whose status is of another generation for one in progress.
    assert_eq!(made.data["status"], json!({"observedGeneration": -1}));
    harness.remove().await;
}

#[tokio::test]
async fn a_server_side_diff_of_a_reconciled_pipeline_and_of_its_children_is_empty() {
    let harness = Harness::new().await;
    let pipelines = dynamic::<RecommendationPipeline>(&harness);
    let git = from_git(&harness);
    let params = PatchParams::apply(ARGO_CD).force();
    pipelines
        .patch("shop", &params, &Patch::Apply(&git))
        .await
        .unwrap();
    let operator = harness.operator().await;
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    operator.settled().await;

    let live = pipelines.get("shop").await.unwrap();
    assert_eq!(live.data["spec"], git["spec"], "the spec is not what Git said");
    let diff = PatchParams {
        dry_run: true,
        ..params
    };
    let would_be = pipelines.patch("shop", &diff, &Patch::Apply(&git)).await.unwrap();
    assert_eq!(content(&would_be), content(&live));
    assert_eq!(would_be.metadata.resource_version, live.metadata.resource_version);

    // Without the note of what was applied, the operator applies a child once more: nothing in it may change.
    for (name, api) in [
        ("shop", dynamic::<Deployment>(&harness)),
        ("shop", dynamic::<Service>(&harness)),
        ("shop-internal", dynamic::<Service>(&harness)),
        ("shop-config", dynamic::<ConfigMap>(&harness)),
        ("shop", dynamic::<ServiceAccount>(&harness)),
        ("shop", dynamic::<PodDisruptionBudget>(&harness)),
    ] {
        let before = api.get(name).await.unwrap();
        let forget = json!({"metadata": {"annotations": {HASH: null}}});
        let forgotten = api
            .patch(name, &PatchParams::default(), &Patch::Merge(&forget))
            .await
            .unwrap();
        let api = &api;
        harness
            .until(&format!("{name} to be applied again"), || async {
                let now = api.get(name).await.unwrap();
                now.metadata.resource_version != forgotten.metadata.resource_version
            })
            .await;
        let after = api.get(name).await.unwrap();
        assert_eq!(content(&after), content(&before), "{:?} {name}", before.types);
    }
    harness.end(operator).await;
}
