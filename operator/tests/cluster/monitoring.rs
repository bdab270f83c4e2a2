//! Monitoring objects and routes where their CRDs are installed, also when they are installed later.

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use recommendation_operator::build::{http_route, rules, service_monitor};
use serde_json::json;

use crate::harness::Harness;

/// Stands in for a CRD of somebody else: any fields.
pub async fn install(client: &Client, gvk: &GroupVersionKind, plural: &str) -> String {
    let name = format!("{plural}.{}", gvk.group);
    let mut crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
        "spec": {
            "group": gvk.group, "scope": "Namespaced",
            "names": {"plural": plural, "singular": gvk.kind.to_lowercase(), "kind": gvk.kind},
            "versions": [{"name": gvk.version, "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    });
    // The API server guards its own groups.
    crd["metadata"]["annotations"]["api-approved.kubernetes.io"] = json!("unapproved, a test's stand-in");
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    crds.patch(&name, &PatchParams::apply("tests"), &Patch::Apply(&crd))
        .await
        .unwrap();
    name
}

pub async fn uninstall(client: &Client, names: &[String]) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in names {
        crds.delete(name, &Default::default()).await.unwrap();
    }
}

fn api(harness: &Harness, gvk: &GroupVersionKind) -> Api<DynamicObject> {
    Api::namespaced_with(
        harness.client.clone(),
        &harness.namespace,
        &ApiResource::from_gvk(gvk),
    )
}

#[tokio::test]
async fn monitoring_is_applied_once_its_crds_are_there_and_goes_when_disabled() {
    let harness = Harness::alone().await;
    let operator = harness.operator().await;
    let policy = |policy: &str| {
        json!({"monitoring": {
            "serviceMonitor": {"policy": policy, "interval": "30s"},
            "rules": {"policy": policy, "labels": {"role": "alerts"}},
        }})
    };
    harness.apply("shop", policy("Required")).await.unwrap();
    let message = harness
        .condition("shop", "MonitoringReady", "False", "CRDNotInstalled")
        .await;
    assert!(message.contains("spec.monitoring.rules.policy"), "{message}");
    harness.apply("shop", policy("IfAvailable")).await.unwrap();
    harness
        .condition("shop", "MonitoringReady", "True", "NotInstalled")
        .await;

    let installed = [
        install(&harness.client, &service_monitor::gvk(), "servicemonitors").await,
        install(&harness.client, &rules::gvk(), "prometheusrules").await,
    ];
    let message = harness
        .condition("shop", "MonitoringReady", "True", "Applied")
        .await;
    assert_eq!(message, "applied: serviceMonitor, rules, dashboard");
    let monitors = api(&harness, &service_monitor::gvk());
    let monitor = monitors.get("shop").await.unwrap();
    assert_eq!(monitor.data["spec"]["endpoints"][0]["interval"], "30s");
    let alerts = api(&harness, &rules::gvk());
    assert_eq!(
        alerts.get("shop").await.unwrap().metadata.labels.unwrap()["role"],
        "alerts"
    );
    operator.settled().await;
    // Edited by hand: it is looked at again before long.
    let by_hand = json!({"spec": {"endpoints": []}});
    monitors
        .patch("shop", &PatchParams::default(), &Patch::Merge(&by_hand))
        .await
        .unwrap();
    harness
        .until("the ServiceMonitor to be healed", || async {
            monitors.get("shop").await.unwrap().data["spec"]["endpoints"][0]["interval"] == "30s"
        })
        .await;
    harness.apply("shop", policy("Disabled")).await.unwrap();
    harness
        .until("both to go", || async {
            monitors.get_opt("shop").await.unwrap().is_none()
                && alerts.get_opt("shop").await.unwrap().is_none()
        })
        .await;
    uninstall(&harness.client, &installed).await;
    harness.end(operator).await;
}

#[tokio::test]
async fn a_route_is_missed_until_the_gateway_apis_crds_are_there() {
    let harness = Harness::alone().await;
    let operator = harness.operator().await;
    let spec = json!({"recommender": {"httpRoute": {"parentRefs": [{"name": "edge"}], "hostnames": ["a.example.org"]}}});
    harness.apply("shop", spec).await.unwrap();
    let message = harness
        .condition("shop", "SpecAccepted", "False", "CRDNotInstalled")
        .await;
    assert!(message.starts_with("spec.recommender.httpRoute"), "{message}");
    let installed = install(&harness.client, &http_route::gvk(), "httproutes").await;
    harness
        .condition("shop", "SpecAccepted", "True", "Accepted")
        .await;
    let routes = api(&harness, &http_route::gvk());
    let route = routes.get("shop").await.unwrap();
    assert_eq!(route.data["spec"]["parentRefs"][0]["name"], "edge");
    assert_eq!(route.data["spec"]["rules"][0]["backendRefs"][0]["port"], 80);
    harness.apply("shop", json!({})).await.unwrap();
    harness
        .until("the route to go", || async {
            routes.get_opt("shop").await.unwrap().is_none()
        })
        .await;
    uninstall(&harness.client, &[installed]).await;
    harness.end(operator).await;
}

#[tokio::test]
async fn the_dashboard_is_there_unless_disabled() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    harness
        .apply("shop", json!({"monitoring": {"dashboard": {"folder": "Shops"}}}))
        .await
        .unwrap();
    let maps = harness.api::<ConfigMap>();
    harness
        .until("the dashboard", || async {
            maps.get_opt("shop-dashboard").await.unwrap().is_some()
        })
        .await;
    let metadata = maps.get("shop-dashboard").await.unwrap().metadata;
    assert_eq!(metadata.annotations.unwrap()["grafana_folder"], "Shops");
    operator.settled().await;
    harness
        .apply(
            "shop",
            json!({"monitoring": {"dashboard": {"policy": "Disabled"}}}),
        )
        .await
        .unwrap();
    harness
        .until("the dashboard to go", || async {
            maps.get_opt("shop-dashboard").await.unwrap().is_none()
        })
        .await;
    harness.end(operator).await;
}
