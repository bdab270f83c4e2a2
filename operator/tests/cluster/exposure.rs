//! What stands in front of the recommender, and who says how many of it there are.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use kube::api::{Patch, PatchParams};
use recommendation_api::pipeline::RecommendationPipeline;
use serde_json::json;

use crate::harness::Harness;

async fn replicas(harness: &Harness) -> Option<i32> {
    let deployment = harness.api::<Deployment>().get_opt("shop").await.unwrap()?;
    deployment.spec.unwrap().replicas
}

#[tokio::test]
async fn an_autoscaler_takes_the_number_of_pods_over_and_gives_it_back() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    harness
        .apply("shop", json!({"recommender": {"replicas": 3}}))
        .await
        .unwrap();
    harness
        .until("three pods", || async { replicas(&harness).await == Some(3) })
        .await;
    operator.settled().await;

    let bounds = json!({"minReplicas": 2, "maxReplicas": 9, "targetCPUUtilizationPercentage": 50});
    harness
        .apply("shop", json!({"recommender": {"autoscaling": bounds}}))
        .await
        .unwrap();
    let autoscalers = harness.api::<HorizontalPodAutoscaler>();
    harness
        .until("the autoscaler", || async {
            let pods = replicas(&harness).await;
            assert_eq!(pods, Some(3), "the number never falls while it changes hands");
            autoscalers.get_opt("shop").await.unwrap().is_some()
        })
        .await;
    let spec = autoscalers.get("shop").await.unwrap().spec.unwrap();
    assert_eq!((spec.min_replicas, spec.max_replicas), (Some(2), 9));
    operator.settled().await;
    assert_eq!(replicas(&harness).await, Some(3));

    // What an autoscaler does.
    let scale = json!({"spec": {"replicas": 7}});
    let deployments = harness.api::<Deployment>();
    deployments
        .patch_scale("shop", &PatchParams::default(), &Patch::Merge(&scale))
        .await
        .unwrap();
    let patches = || {
        let asked = operator.asked().into_iter();
        asked
            .filter(|(method, address)| method == "PATCH" && address.contains("/deployments/"))
            .count()
    };
    let before = patches();
    operator.reconciles(3).await;
    assert_eq!(replicas(&harness).await, Some(7), "it is left what it decided");
    assert_eq!(patches(), before);

    harness
        .apply("shop", json!({"recommender": {"replicas": 4}}))
        .await
        .unwrap();
    harness
        .until("four pods and no autoscaler", || async {
            replicas(&harness).await == Some(4) && autoscalers.get_opt("shop").await.unwrap().is_none()
        })
        .await;
    harness.end(operator).await;
}

/// The scale subresource is all that a HorizontalPodAutoscaler writes: who writes to it here stands in for one, and for the
/// metrics that it would decide by.
#[tokio::test]
async fn what_an_autoscaler_decides_stays_while_the_pipeline_changes_and_its_children_are_healed() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let bounds = json!({"minReplicas": 2, "maxReplicas": 20});
    let spec =
        |neighbors: i32| json!({"recommender": {"autoscaling": bounds, "model": {"neighbors": neighbors}}});
    harness.apply("shop", spec(50)).await.unwrap();
    harness
        .until("the fewest pods", || async {
            replicas(&harness).await == Some(2)
        })
        .await;
    operator.settled().await;
    let deployments = harness.api::<Deployment>();
    let rolled = || async {
        let template = deployments.get("shop").await.unwrap().spec.unwrap().template;
        template.metadata.unwrap().annotations.unwrap()["recommendation.dev/config-hash"].clone()
    };
    for pods in 3..9 {
        let before = rolled().await;
        let scale = Patch::Merge(json!({"spec": {"replicas": pods}}));
        // A change of the pipeline, a hand at a child and the autoscaler, all at once.
        let hand = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": pods}}}});
        let hand = Patch::Merge(hand);
        let params = PatchParams::default();
        let (changed, edited, scaled) = tokio::join!(
            harness.apply("shop", spec(50 + pods)),
            deployments.patch("shop", &params, &hand),
            deployments.patch_scale("shop", &params, &scale),
        );
        changed.unwrap();
        edited.unwrap();
        scaled.unwrap();
        harness
            .until("the change to reach the pods", || async {
                let spec = deployments.get("shop").await.unwrap().spec.unwrap();
                let grace = spec.template.spec.unwrap().termination_grace_period_seconds;
                rolled().await != before && grace != Some(i64::from(pods))
            })
            .await;
        assert_eq!(replicas(&harness).await, Some(pods), "nobody else scales");
    }
    operator.settled().await;
    assert_eq!(replicas(&harness).await, Some(8));
    harness.end(operator).await;
}

#[tokio::test]
async fn an_autoscaled_pipeline_begins_with_its_fewest_pods() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let bounds = json!({"minReplicas": 3, "maxReplicas": 9});
    harness
        .apply("shop", json!({"recommender": {"autoscaling": bounds}}))
        .await
        .unwrap();
    harness
        .until("three pods", || async { replicas(&harness).await == Some(3) })
        .await;
    operator.settled().await;
    harness.end(operator).await;
}

#[tokio::test]
async fn kubectl_scale_changes_the_pipeline_and_the_pipeline_its_deployment() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    harness
        .apply("shop", json!({"recommender": {"replicas": 2}}))
        .await
        .unwrap();
    harness
        .until("two pods", || async { replicas(&harness).await == Some(2) })
        .await;
    let scale = json!({"spec": {"replicas": 5}});
    harness
        .api::<RecommendationPipeline>()
        .patch_scale("shop", &PatchParams::default(), &Patch::Merge(&scale))
        .await
        .unwrap();
    harness
        .until("five pods", || async { replicas(&harness).await == Some(5) })
        .await;
    harness.end(operator).await;
}

#[tokio::test]
async fn ingress_and_network_policy_come_are_healed_and_go() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let spec = json!({"recommender": {
        "ingress": {"className": "nginx", "host": "shop.example.org", "tlsSecretName": "shop-tls"},
        "networkPolicy": {"monitoringNamespace": "observability"},
    }});
    harness.apply("shop", spec).await.unwrap();
    let (ingresses, policies) = (harness.api::<Ingress>(), harness.api::<NetworkPolicy>());
    harness
        .until("both", || async {
            ingresses.get_opt("shop").await.unwrap().is_some()
                && policies.get_opt("shop").await.unwrap().is_some()
        })
        .await;
    let ingress = ingresses.get("shop").await.unwrap().spec.unwrap();
    assert_eq!(
        ingress.rules.unwrap()[0].host.as_deref(),
        Some("shop.example.org")
    );
    assert_eq!(ingress.tls.unwrap()[0].secret_name.as_deref(), Some("shop-tls"));
    operator.settled().await;
    let open = json!({"spec": {"ingress": [{}]}});
    policies
        .patch("shop", &PatchParams::default(), &Patch::Merge(&open))
        .await
        .unwrap();
    harness
        .until("the policy to be closed again", || async {
            policies
                .get("shop")
                .await
                .unwrap()
                .spec
                .unwrap()
                .ingress
                .unwrap()
                .len()
                == 2
        })
        .await;
    harness
        .apply(
            "shop",
            json!({"recommender": {"networkPolicy": {"policy": "Disabled"}}}),
        )
        .await
        .unwrap();
    harness
        .until("both to go", || async {
            ingresses.get_opt("shop").await.unwrap().is_none()
                && policies.get_opt("shop").await.unwrap().is_none()
        })
        .await;
    harness.end(operator).await;
}
