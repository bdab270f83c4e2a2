//! What a pipeline says of its pods, on the real API server, which fills in defaults of its own.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

use crate::harness::Harness;

#[tokio::test]
async fn every_field_of_the_template_reaches_the_pods_and_is_then_left_alone() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let affinity = json!({
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]}},
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 10,
            "podAffinityTerm": {
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchLabels": {"app.kubernetes.io/instance": "shop"}},
            }}]},
    });
    let spread = json!([{
        "maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/instance": "shop"}},
    }]);
    let tolerations = json!([{"key": "shop", "operator": "Exists", "effect": "NoSchedule"}]);
    let recommender = json!({
        "image": "mine:1",
        "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "1Gi"}},
        "disruptionBudget": {"maxUnavailable": 2},
        "service": {"type": "NodePort", "port": 8080, "annotations": {"shop": "yes"}},
        "template": {
            "metadata": {"labels": {"team": "a"}, "annotations": {"x": "y"}},
            "nodeSelector": {"kind": "fast"},
            "tolerations": tolerations,
            "affinity": affinity,
            "topologySpreadConstraints": spread,
            "serviceAccountName": "theirs",
        },
    });
    harness
        .apply("shop", json!({"recommender": recommender}))
        .await
        .unwrap();
    harness
        .condition("shop", "SpecAccepted", "True", "Accepted")
        .await;
    harness
        .until("the pods' template", || async {
            harness
                .api::<Deployment>()
                .get_opt("shop")
                .await
                .unwrap()
                .is_some()
        })
        .await;
    let template = || async {
        let deployment: Deployment = harness.get("shop").await;
        serde_json::to_value(deployment.spec.unwrap().template).unwrap()
    };
    let pods = template().await;
    assert_eq!(pods["spec"]["affinity"], affinity);
    assert_eq!(pods["spec"]["topologySpreadConstraints"], spread);
    assert_eq!(pods["spec"]["tolerations"], tolerations);
    assert_eq!(pods["spec"]["nodeSelector"], json!({"kind": "fast"}));
    assert_eq!(pods["spec"]["serviceAccountName"], "theirs");
    assert_eq!(pods["metadata"]["labels"]["team"], "a");
    assert_eq!(pods["metadata"]["annotations"]["x"], "y");
    let container = &pods["spec"]["containers"][0];
    assert_eq!(container["image"], "mine:1");
    assert_eq!(container["resources"]["requests"]["cpu"], "250m");
    assert_eq!(container["resources"]["limits"]["memory"], "1Gi");
    let service: Service = harness.get("shop").await;
    assert_eq!(service.metadata.annotations.unwrap()["shop"], "yes");
    let service = service.spec.unwrap();
    assert_eq!(service.type_.as_deref(), Some("NodePort"));
    assert_eq!(service.ports.unwrap()[0].port, 8080);
    let budget: PodDisruptionBudget = harness.get("shop").await;
    let budget: Value = serde_json::to_value(budget.spec.unwrap()).unwrap();
    assert_eq!(budget["maxUnavailable"], 2);

    // A look more writes nothing, whatever the API server made of it.
    operator.settled().await;
    let before = operator.writes();
    operator.reconciles(3).await;
    assert_eq!(operator.writes(), before);

    // Without them, they go; by default pods are spread over nodes.
    harness.apply("shop", json!({})).await.unwrap();
    harness
        .until("the template to be the default one", || async {
            let pods = template().await;
            let spread = &pods["spec"]["topologySpreadConstraints"][0];
            pods["spec"]["affinity"].is_null()
                && pods["spec"]["tolerations"].is_null()
                && spread["topologyKey"] == "kubernetes.io/hostname"
        })
        .await;
    harness.end(operator).await;
}
