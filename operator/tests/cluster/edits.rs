//! Somebody edits every child by hand, and deletes every child by hand.

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use recommendation_operator::build::{http_route, rules, service_monitor};
use serde_json::{Value, json};

use crate::harness::Harness;
use crate::life::install_all;
use crate::monitoring::uninstall;

/// Kind, name, what somebody sets, and where that is to be seen.
type Edit = (GroupVersionKind, &'static str, Value, &'static str);

fn edits() -> Vec<Edit> {
    let core = |kind| GroupVersionKind::gvk("", "v1", kind);
    let kind = GroupVersionKind::gvk;
    vec![
        (
            core("ConfigMap"),
            "shop-config",
            json!({"data": {"config.json": "{}"}}),
            "/data/config.json",
        ),
        (
            core("ConfigMap"),
            "shop-applied",
            json!({"data": {"applied.json": "{}"}}),
            "/data/applied.json",
        ),
        (
            core("ConfigMap"),
            "shop-dashboard",
            json!({"metadata": {"labels": {"grafana_dashboard": "0"}}}),
            "/metadata/labels/grafana_dashboard",
        ),
        (
            core("ServiceAccount"),
            "shop",
            json!({"automountServiceAccountToken": true}),
            "/automountServiceAccountToken",
        ),
        (
            core("Service"),
            "shop",
            json!({"spec": {"selector": {"app.kubernetes.io/instance": "other"}}}),
            "/spec/selector/app.kubernetes.io~1instance",
        ),
        (
            core("Service"),
            "shop-internal",
            json!({"spec": {"publishNotReadyAddresses": false}}),
            "/spec/publishNotReadyAddresses",
        ),
        (
            kind("apps", "v1", "Deployment"),
            "shop",
            json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}),
            "/spec/template/spec/terminationGracePeriodSeconds",
        ),
        (
            kind("policy", "v1", "PodDisruptionBudget"),
            "shop",
            json!({"spec": {"maxUnavailable": 9}}),
            "/spec/maxUnavailable",
        ),
        (
            kind("autoscaling", "v2", "HorizontalPodAutoscaler"),
            "shop",
            json!({"spec": {"maxReplicas": 99}}),
            "/spec/maxReplicas",
        ),
        (
            kind("batch", "v1", "CronJob"),
            "shop",
            json!({"spec": {"schedule": "1 1 1 1 1"}}),
            "/spec/schedule",
        ),
        (
            kind("networking.k8s.io", "v1", "Ingress"),
            "shop",
            json!({"spec": {"rules": [{"host": "evil.example.org"}]}}),
            "/spec/rules",
        ),
        (
            kind("networking.k8s.io", "v1", "NetworkPolicy"),
            "shop",
            json!({"spec": {"ingress": [{}]}}),
            "/spec/ingress",
        ),
        (
            service_monitor::gvk(),
            "shop",
            json!({"spec": {"endpoints": []}}),
            "/spec/endpoints",
        ),
        (
            rules::gvk(),
            "shop",
            json!({"spec": {"groups": []}}),
            "/spec/groups",
        ),
        (
            http_route::gvk(),
            "shop",
            json!({"spec": {"hostnames": ["evil.example.org"]}}),
            "/spec/hostnames",
        ),
    ]
}

fn api(harness: &Harness, gvk: &GroupVersionKind) -> Api<DynamicObject> {
    Api::namespaced_with(
        harness.client.clone(),
        &harness.namespace,
        &ApiResource::from_gvk(gvk),
    )
}

async fn at(api: &Api<DynamicObject>, name: &str, place: &str) -> Option<Value> {
    let object = api.get_opt(name).await.unwrap()?;
    let object = serde_json::to_value(object).unwrap();
    Some(object.pointer(place).cloned().unwrap_or_default())
}

#[tokio::test]
async fn every_child_that_somebody_edits_or_deletes_is_as_it_was_again() {
    let harness = Harness::alone().await;
    let installed = install_all(&harness.client).await;
    let operator = harness.operator().await;
    let spec = json!({"recommender": {
        "snapshots": {"url": "s3://models"},
        "model": {"retrain": {"schedule": "0 3 * * *"}},
        "autoscaling": {"maxReplicas": 3},
        "ingress": {"host": "shop.example.org"},
        "httpRoute": {"parentRefs": [{"name": "edge"}], "hostnames": ["shop.example.org"]},
    }});
    harness.apply("shop", spec).await.unwrap();
    let all = edits();
    harness
        .until("every child", || async {
            let mut there = true;
            for (gvk, name, _, _) in &all {
                there &= api(&harness, gvk).get_opt(name).await.unwrap().is_some();
            }
            there
        })
        .await;
    operator.settled().await;
    let mut before = Vec::new();
    for (gvk, name, edit, place) in &all {
        let api = api(&harness, gvk);
        let was = at(&api, name, place).await.unwrap();
        api.patch(name, &PatchParams::default(), &Patch::Merge(edit))
            .await
            .unwrap();
        before.push(was);
    }
    for ((gvk, name, _, place), was) in all.iter().zip(&before) {
        let api = api(&harness, gvk);
        harness
            .until(&format!("{} {name} to be set back", gvk.kind), || async {
                at(&api, name, place).await.as_ref() == Some(was)
            })
            .await;
    }
    operator.settled().await;

    for (gvk, name, _, _) in &all {
        api(&harness, gvk)
            .delete(name, &Default::default())
            .await
            .unwrap();
    }
    for ((gvk, name, _, place), was) in all.iter().zip(&before) {
        let api = api(&harness, gvk);
        harness
            .until(&format!("{} {name} to be made again", gvk.kind), || async {
                at(&api, name, place).await.as_ref() == Some(was)
            })
            .await;
    }
    uninstall(&harness.client, &installed).await;
    harness.end(operator).await;
}
