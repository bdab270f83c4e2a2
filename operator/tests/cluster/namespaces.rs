//! Named namespaces, with rights in these alone.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use recommendation_api::pipeline::RecommendationPipeline;
use serde_json::json;

use crate::harness::Harness;

/// Nobody gives it anything but Roles.
const USER: &str = "system:serviceaccount:elsewhere:roles-only";

/// The rules of the shipped ClusterRole as a Role of one namespace.
async fn grant(harness: &Harness, namespace: &str) {
    let shipped: Api<ClusterRole> = Api::all(harness.client.clone());
    let rules = shipped.get("recommendation-operator").await.unwrap().rules;
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "operator"}, "rules": rules});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": USER}]});
    let params = PatchParams::apply("tests").force();
    let roles: Api<Role> = Api::namespaced(harness.client.clone(), namespace);
    roles
        .patch("operator", &params, &Patch::Apply(&role))
        .await
        .unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(harness.client.clone(), namespace);
    bindings
        .patch("operator", &params, &Patch::Apply(&binding))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_operator_of_two_namespaces_needs_roles_alone_and_leaves_a_third_alone() {
    let harness = Harness::new().await;
    let namespaces: Api<Namespace> = Api::all(harness.client.clone());
    let [second, third] = ["second", "third"].map(|name| format!("{}-{name}", harness.namespace));
    for name in [&second, &third] {
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
    }
    grant(&harness, &harness.namespace).await;
    grant(&harness, &second).await;
    let operator = harness
        .operator_as(USER, vec![harness.namespace.clone(), second.clone()])
        .await;
    let in_each = json!({"recommender": {"ingress": {"host": "a.example.org"}}, "namePrefix": format!("{}2-", harness.prefix)});
    for namespace in [&second, &third] {
        let api: Api<RecommendationPipeline> = Api::namespaced(harness.client.clone(), namespace);
        let manifest = harness.manifest("shop", in_each.clone());
        api.patch(
            "shop",
            &PatchParams::apply("tests").force(),
            &Patch::Apply(&manifest),
        )
        .await
        .unwrap();
    }
    harness.apply("shop", json!({})).await.unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    let deployments =
        |namespace: &str| -> Api<Deployment> { Api::namespaced(harness.client.clone(), namespace) };
    let there = deployments(&second);
    harness
        .until("the Deployment in the second namespace", || async {
            there.get_opt("shop").await.unwrap().is_some()
        })
        .await;
    assert!(deployments(&third).get_opt("shop").await.unwrap().is_none());
    // A child of the second namespace wakes the second namespace's pipeline.
    operator.settled().await;
    there.delete("shop", &Default::default()).await.unwrap();
    let uid = |d: Option<Deployment>| d.and_then(|d| d.uid());
    harness
        .until("the Deployment to be back", || async {
            uid(there.get_opt("shop").await.unwrap()).is_some()
        })
        .await;
    for name in [&second, &third] {
        namespaces.delete(name, &Default::default()).await.unwrap();
    }
    harness.end(operator).await;
}
