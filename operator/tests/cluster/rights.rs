//! The shipped ClusterRole is enough, as every test here shows, and holds nothing that is not used: one pipeline's whole
//! life makes use of every right.

use std::collections::BTreeSet;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::{GroupVersionKind, PartialObjectMeta};
use recommendation_api::pipeline::RecommendationPipeline;
use recommendation_operator::build::{http_route, rules, service_monitor};
use serde_json::json;

use crate::harness::Harness;
use crate::monitoring::{install, uninstall};

/// Group, resource and verb.
type Right = (String, String, String);

/// Rights that no request shows: the API server asks for this one itself where OwnerReferencesPermissionEnforcement is on,
/// when an owner reference blocks its owner's deletion.
const UNSEEN: [(&str, &str, &str); 1] = [(
    "recommendation.dev",
    "recommendationpipelines/finalizers",
    "update",
)];

/// The right that a request needs; `None` for discovery.
fn right(method: &str, address: &str) -> Option<Right> {
    let address: http::Uri = address.parse().unwrap();
    let parts: Vec<&str> = address.path().trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let rest = match rest {
        ["namespaces", _, rest @ ..] => rest,
        rest => rest,
    };
    let (resource, name) = match rest {
        [resource, _, sub] => (format!("{resource}/{sub}"), true),
        [resource, _] => ((*resource).to_owned(), true),
        [resource] => ((*resource).to_owned(), false),
        _ => return None,
    };
    let watch = address.query().is_some_and(|query| query.contains("watch=true"));
    let verb = match (method, name) {
        ("GET", true) => "get",
        ("GET", false) if watch => "watch",
        ("GET", false) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        _ => panic!("{method} {address}"),
    };
    Some((group.to_owned(), resource, verb.to_owned()))
}

async fn granted(harness: &Harness) -> BTreeSet<Right> {
    let shipped: Api<ClusterRole> = Api::all(harness.client.clone());
    let rules = shipped
        .get("recommendation-operator")
        .await
        .unwrap()
        .rules
        .unwrap();
    let mut rights = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    rights.insert((group.clone(), resource.clone(), verb.clone()));
                }
            }
        }
    }
    rights
}

/// Strimzi's description of a topic.
pub fn kafka_topic() -> GroupVersionKind {
    GroupVersionKind::gvk("kafka.strimzi.io", "v1beta2", "KafkaTopic")
}

#[tokio::test]
async fn every_right_of_the_shipped_role_is_used_in_the_life_of_a_pipeline() {
    let harness = Harness::alone().await;
    let operator = harness.operator().await;
    let installed = [
        install(&harness.client, &service_monitor::gvk(), "servicemonitors").await,
        install(&harness.client, &rules::gvk(), "prometheusrules").await,
        install(&harness.client, &http_route::gvk(), "httproutes").await,
        install(&harness.client, &kafka_topic(), "kafkatopics").await,
    ];
    // Everything, with something outside to delete at the end and a Secret that is missing.
    let full = json!({
        "deletionPolicy": "Delete",
        "topics": [{"name": "customer_behavior", "partitions": 1}, {"name": "recommendation_impressions", "partitions": 1}],
        "recommender": {
            "snapshots": {"url": "s3://models"},
            "model": {"retrain": {"schedule": "0 3 * * *"}},
            "autoscaling": {"maxReplicas": 3},
            "auth": {"usersSecretRef": {"name": "users"}},
            "ingress": {"host": "shop.example.org"},
            "httpRoute": {"parentRefs": [{"name": "edge"}]},
        },
    });
    harness.apply("shop", full).await.unwrap();
    harness
        .condition("shop", "SpecAccepted", "False", "SecretNotFound")
        .await;
    let users = Secret {
        metadata: kube::core::ObjectMeta {
            name: Some("users".into()),
            ..Default::default()
        },
        ..Secret::default()
    };
    let secrets = harness.api::<Secret>();
    // Twice the same transition: the second event is counted on to the first.
    for _ in 0..2 {
        secrets.create(&PostParams::default(), &users).await.unwrap();
        harness
            .condition("shop", "SpecAccepted", "True", "Accepted")
            .await;
        secrets.delete("users", &DeleteParams::default()).await.unwrap();
        harness
            .condition("shop", "SpecAccepted", "False", "SecretNotFound")
            .await;
    }
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    harness
        .condition("shop", "MonitoringReady", "True", "Applied")
        .await;
    operator.settled().await;

    // Nothing that can be left out.
    let bare = json!({
        "deletionPolicy": "Delete",
        "topics": [{"name": "customer_behavior", "partitions": 1}, {"name": "recommendation_impressions", "partitions": 1}],
        "recommender": {"replicas": 1, "template": {"serviceAccountName": "default"}, "networkPolicy": {"policy": "Disabled"}},
        "monitoring": {
            "serviceMonitor": {"policy": "Disabled"}, "rules": {"policy": "Disabled"}, "dashboard": {"policy": "Disabled"},
        },
    });
    harness.apply("shop", bare).await.unwrap();
    let (maps, autoscalers) = (
        harness.api::<ConfigMap>(),
        harness.api::<HorizontalPodAutoscaler>(),
    );
    harness
        .until("the dashboard and the autoscaler to go", || async {
            maps.get_opt("shop-dashboard").await.unwrap().is_none()
                && autoscalers.get_opt("shop").await.unwrap().is_none()
        })
        .await;
    operator.settled().await;

    // One that cannot be read is told so.
    let broken = json!({"recommender": {"model": {"halfLife": "99999999999999999999999d"}}});
    harness.apply("broken", broken).await.unwrap_err();
    let raw: Api<PartialObjectMeta<RecommendationPipeline>> = harness.api();
    let told = |(method, address): &(String, String)| method == "PATCH" && address.contains("/broken/status");
    harness
        .until("the malformed object to be told so", || async {
            operator.asked().iter().any(told)
        })
        .await;
    raw.delete("broken", &DeleteParams::default()).await.unwrap();

    // And its end.
    let pipelines = harness.api::<RecommendationPipeline>();
    let touch = json!({"metadata": {"annotations": {"look": "again"}}});
    pipelines
        .patch("shop", &PatchParams::default(), &Patch::Merge(&touch))
        .await
        .unwrap();
    pipelines.delete("shop", &DeleteParams::default()).await.unwrap();
    harness
        .until("the pipeline to be gone", || async {
            raw.get_opt("shop").await.unwrap().is_none()
        })
        .await;

    let mut used = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for (method, address) in operator.asked() {
        let Some((group, resource, verb)) = right(&method, &address) else {
            continue;
        };
        // An apply of what is not there yet: the API server asks for both rights.
        let path = address.split('?').next().unwrap_or_default().to_owned();
        if verb == "patch" && address.contains("force=true") && seen.insert(path) {
            used.insert((group.clone(), resource.clone(), "create".to_owned()));
        }
        used.insert((group, resource, verb));
    }
    let unseen =
        UNSEEN.map(|(group, resource, verb)| (group.to_owned(), resource.to_owned(), verb.to_owned()));
    let unused: Vec<Right> = granted(&harness)
        .await
        .into_iter()
        .filter(|right| !used.contains(right) && !unseen.contains(right))
        .collect();
    assert!(unused.is_empty(), "rights that nothing uses: {unused:#?}");
    uninstall(&harness.client, &installed).await;
    harness.end(operator).await;
}
