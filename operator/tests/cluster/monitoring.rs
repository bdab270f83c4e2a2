//! ServiceMonitors where their CRD is installed, also when it is installed later.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use recommendation_operator::build::service_monitor::gvk;
use serde_json::json;

use crate::harness::Harness;

const NAME: &str = "servicemonitors.monitoring.coreos.com";

#[tokio::test]
async fn a_service_monitor_is_applied_once_its_crd_is_there_and_goes_when_disabled() {
    let harness = Harness::alone().await;
    let operator = harness.operator().await;
    let policy =
        |policy: &str| json!({"monitoring": {"serviceMonitor": {"policy": policy, "interval": "30s"}}});
    harness.apply("shop", policy("Required")).await.unwrap();
    harness
        .condition("shop", "MonitoringReady", "False", "CRDNotInstalled")
        .await;
    harness.apply("shop", policy("IfAvailable")).await.unwrap();
    harness
        .condition("shop", "MonitoringReady", "True", "NotInstalled")
        .await;

    let crds: Api<CustomResourceDefinition> = Api::all(harness.client.clone());
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": NAME},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"plural": "servicemonitors", "singular": "servicemonitor", "kind": "ServiceMonitor"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    });
    crds.patch(NAME, &PatchParams::apply("tests"), &Patch::Apply(&crd))
        .await
        .unwrap();
    harness
        .condition("shop", "MonitoringReady", "True", "Applied")
        .await;
    let api: Api<DynamicObject> = Api::namespaced_with(
        harness.client.clone(),
        &harness.namespace,
        &ApiResource::from_gvk(&gvk()),
    );
    let monitor = api.get("shop").await.unwrap();
    assert_eq!(monitor.data["spec"]["endpoints"][0]["interval"], "30s");
    operator.settled().await;
    harness.apply("shop", policy("Disabled")).await.unwrap();
    harness
        .until("the ServiceMonitor to go", || async {
            api.get_opt("shop").await.unwrap().is_none()
        })
        .await;
    crds.delete(NAME, &Default::default()).await.unwrap();
    harness.end(operator).await;
}
