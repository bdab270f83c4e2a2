//! From a manifest to a Ready pipeline, and then to silence.

use std::collections::BTreeMap;

use axum::Json;
use axum::routing::get;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use recommendation_api::RecommenderConfig;
use recommendation_api::pipeline::RecommendationPipeline;
use serde_json::{Value, json};

use crate::harness::Harness;

/// What the deployment controller and a node would do: two pods, one of which answers `/status` here.
pub async fn play_the_node(harness: &Harness, ip: &str, status: Value) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::TcpListener::bind(format!("{ip}:9090")).await.unwrap();
    let routes = axum::Router::new().route("/status", get(move || std::future::ready(Json(status.clone()))));
    let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let deployment: Deployment = harness.get("shop").await;
    let template = deployment.spec.as_ref().unwrap().template.clone();
    let mut pod = Pod {
        metadata: template.metadata.unwrap(),
        spec: template.spec,
        status: None,
    };
    pod.metadata.name = Some("shop-0".into());
    let pods = harness.api::<Pod>();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let running = json!({"status": {
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }});
    pods.patch_status("shop-0", &PatchParams::default(), &Patch::Merge(&running))
        .await
        .unwrap();
    let rolled_out = json!({"status": {
        "observedGeneration": deployment.metadata.generation,
        "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2,
        "conditions": [{"type": "Available", "status": "True"}],
    }});
    let deployments = harness.api::<Deployment>();
    deployments
        .patch_status("shop", &PatchParams::default(), &Patch::Merge(&rolled_out))
        .await
        .unwrap();
    server
}

pub fn serving() -> Value {
    json!({
        "version": "0.1.0", "phase": "Serving", "events": 406_829, "lagRecords": 0, "lagSeconds": 0.0, "deadLetters": 0,
        "model": {"algorithm": "Hybrid", "version": "v1", "products": 3_684, "customers": 4_372, "hitRateAt10": 0.123},
        "log": "Up", "redis": "Disabled", "notes": [],
    })
}

#[tokio::test]
async fn one_manifest_becomes_topics_children_and_conditions_until_ready() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    harness.apply("shop", json!({})).await.unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;

    let config: ConfigMap = harness.get("shop-config").await;
    let config: RecommenderConfig = serde_json::from_str(&config.data.unwrap()["config.json"]).unwrap();
    assert_eq!(
        config.topics.events,
        format!("{}customer_behavior", harness.prefix)
    );
    let deployment: Deployment = harness.get("shop").await;
    let owner = &deployment.owner_references()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.controller),
        ("RecommendationPipeline", Some(true))
    );
    for name in ["shop-jwt", "shop-privacy"] {
        let secret: Secret = harness.get(name).await;
        assert!(secret.data.unwrap()["secret"].0.len() >= 32);
    }
    let _: (Service, Service) = (harness.get("shop").await, harness.get("shop-internal").await);
    let _: (PodDisruptionBudget, ServiceAccount) = (harness.get("shop").await, harness.get("shop").await);
    harness
        .condition("shop", "Ready", "False", "RolloutInProgress")
        .await;

    let node = play_the_node(&harness, "127.77.1.1", serving()).await;
    harness.condition("shop", "Ready", "True", "Ready").await;
    let status = harness
        .get::<RecommendationPipeline>("shop")
        .await
        .status
        .unwrap();
    assert_eq!(status.topics_summary.as_deref(), Some("7/7"));
    let model = status.model.unwrap();
    assert_eq!(
        (model.algorithm.as_str(), model.products, model.customers),
        ("Hybrid", Some(3600), Some(4300))
    );
    assert_eq!(model.hit_rate_at10.as_deref(), Some("0.12"));
    assert_eq!(
        status.endpoint,
        Some(format!("http://shop.{}.svc", harness.namespace))
    );
    let scale = harness.api::<RecommendationPipeline>().get("shop").await.unwrap();
    assert_eq!(scale.status.unwrap().recommender.unwrap().ready_replicas, 2);
    let types: Vec<String> = status.conditions.into_iter().map(|c| c.type_).collect();
    assert!(
        !types.contains(&"Reconciling".to_owned()) && !types.contains(&"Stalled".to_owned()),
        "{types:?}"
    );
    node.abort();
    harness.end(operator).await;
}

/// What a replica says whose customers behave otherwise than before.
pub fn drifting() -> Value {
    let mut status = serving();
    status["drift"] = json!({"products": 0.4, "eventTypes": 0.1, "threshold": 0.2, "drifted": true});
    status
}

#[tokio::test]
async fn a_drift_makes_one_job_that_fits_and_then_nothing_more() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let spec = json!({"recommender": {
        "snapshots": {"url": "s3://models"}, "model": {"retrain": {"onDrift": "Enabled"}},
    }});
    harness.apply("shop", spec).await.unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    let jobs = harness.api::<Job>();
    let made = || async { jobs.list(&ListParams::default()).await.unwrap().items };
    assert!(made().await.is_empty());
    let node = play_the_node(&harness, "127.77.1.4", drifting()).await;
    harness.condition("shop", "ModelDrifted", "True", "Drifted").await;
    harness
        .until("the job", || async { made().await.len() == 1 })
        .await;
    let job = made().await.remove(0);
    assert!(job.name_any().starts_with("shop-fit-"), "{}", job.name_any());
    assert_eq!(job.owner_references()[0].kind, "RecommendationPipeline");
    let container = &job
        .spec
        .as_ref()
        .unwrap()
        .template
        .spec
        .as_ref()
        .unwrap()
        .containers[0];
    assert_eq!(container.args.as_ref().unwrap()[..2], ["model", "train"]);
    // The drift lasts, and is looked at again and again, by an operator that starts anew too: nobody asks twice.
    operator.settled().await;
    let before = operator.writes();
    operator.reconciles(3).await;
    assert_eq!(operator.writes(), before);
    let second = harness.operator().await;
    second.reconciles(2).await;
    let looked = |(_, address): &(String, String)| address.contains("/jobs/shop-fit-");
    assert!(second.asked().iter().any(looked), "{:?}", second.asked());
    assert_eq!(second.writes(), 0);
    assert_eq!(made().await.len(), 1);
    node.abort();
    harness.end(operator).await;
}

#[tokio::test]
async fn a_second_reconcile_of_an_unchanged_pipeline_writes_nothing() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let spec = json!({"recommender": {
        "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}},
        "service": {"annotations": {"a": "b"}},
        "template": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "a", "operator": "Exists"}]},
    }});
    harness.apply("shop", spec).await.unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    let node = play_the_node(&harness, "127.77.1.2", serving()).await;
    harness.condition("shop", "Ready", "True", "Ready").await;
    operator.settled().await;

    let before = operator.writes();
    // The resync goes on, and an annotation asks for one more look.
    let touch = json!({"metadata": {"annotations": {"look": "again"}}});
    harness
        .api::<RecommendationPipeline>()
        .patch("shop", &PatchParams::default(), &Patch::Merge(&touch))
        .await
        .unwrap();
    operator.reconciles(4).await;
    assert_eq!(operator.writes(), before, "no patch, no status, no event is sent");

    // Nor does an operator that starts anew write anything about what it finds as it should be.
    let second = harness.operator().await;
    second.reconciles(2).await;
    assert_eq!(second.writes(), 0);
    node.abort();
    harness.end(operator).await;
}

#[tokio::test]
async fn an_unsupported_field_is_named_and_the_rest_is_acted_on() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    harness
        .apply(
            "shop",
            json!({"recommender": {"model": {"retrain": {"onDrift": "Enabled"}}, "replicas": 3}}),
        )
        .await
        .unwrap();
    let message = harness
        .condition("shop", "SpecAccepted", "False", "UnsupportedField")
        .await;
    assert!(message.contains("spec.recommender.model.retrain"), "{message}");
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    let deployment: Deployment = harness.get("shop").await;
    assert_eq!(deployment.spec.unwrap().replicas, Some(3));
    harness
        .condition("shop", "Ready", "False", "UnsupportedField")
        .await;
    harness.end(operator).await;
}

#[tokio::test]
async fn a_contradictory_spec_stops_at_its_field_and_a_correction_is_taken_up() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    harness
        .apply(
            "shop",
            json!({"topics": [{"name": "a", "role": "Events"}, {"name": "b", "role": "Events"}]}),
        )
        .await
        .unwrap();
    let message = harness
        .condition("shop", "SpecAccepted", "False", "InvalidSpec")
        .await;
    assert!(message.starts_with("spec.topics["), "{message}");
    assert!(
        harness
            .api::<Deployment>()
            .get_opt("shop")
            .await
            .unwrap()
            .is_none()
    );
    harness.condition("shop", "Stalled", "True", "InvalidSpec").await;
    harness.apply("shop", json!({})).await.unwrap();
    harness
        .condition("shop", "SpecAccepted", "True", "Accepted")
        .await;
    harness.end(operator).await;
}

#[tokio::test]
async fn a_malformed_object_does_not_end_the_watch_of_the_others() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    // The schema's pattern takes it; no duration of that length exists.
    harness
        .apply(
            "broken",
            json!({"recommender": {"model": {"halfLife": "99999999999999999999999d"}}}),
        )
        .await
        .unwrap_err();
    harness.apply("shop", json!({})).await.unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    let resource = ApiResource::erase::<RecommendationPipeline>(&());
    let plain: kube::Api<DynamicObject> =
        kube::Api::namespaced_with(harness.client.clone(), &harness.namespace, &resource);
    harness
        .until("the object to be told so", || async {
            let conditions = plain.get("broken").await.unwrap().data["status"]["conditions"].clone();
            let mut conditions = conditions.as_array().cloned().unwrap_or_default().into_iter();
            conditions.any(|c| c["type"] == "SpecAccepted" && c["reason"] == "InvalidSpec")
        })
        .await;
    // The namespace of a test is never quite gone without a controller manager.
    let raw: kube::Api<kube::core::PartialObjectMeta<RecommendationPipeline>> = harness.api();
    raw.delete("broken", &Default::default()).await.unwrap();
    harness.end(operator).await;
}

#[tokio::test]
async fn a_suspended_pipeline_is_left_alone() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    harness.apply("shop", json!({})).await.unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    harness.apply("shop", json!({"suspend": true})).await.unwrap();
    harness.condition("shop", "Suspended", "True", "Suspended").await;
    operator.settled().await;
    harness
        .api::<Service>()
        .delete("shop", &Default::default())
        .await
        .unwrap();
    operator.reconciles(2).await;
    assert!(harness.api::<Service>().get_opt("shop").await.unwrap().is_none());
    harness.apply("shop", json!({"suspend": false})).await.unwrap();
    let services = harness.api::<Service>();
    harness
        .until("the Service to be back", || async {
            services.get_opt("shop").await.unwrap().is_some()
        })
        .await;
    harness.end(operator).await;
}

#[tokio::test]
async fn a_secret_that_is_missing_is_named_until_it_is_there() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let spec = json!({"recommender": {"auth": {"jwtSecretRef": {"name": "own", "key": "k"}}}});
    harness.apply("shop", spec).await.unwrap();
    let message = harness
        .condition("shop", "SpecAccepted", "False", "SecretNotFound")
        .await;
    assert_eq!(
        message,
        "spec.recommender.auth.jwtSecretRef: there is no Secret own"
    );
    let secret = Secret {
        metadata: kube::core::ObjectMeta {
            name: Some("own".into()),
            ..Default::default()
        },
        string_data: Some(BTreeMap::from([(
            "k".to_owned(),
            "0123456789abcdef0123456789abcdef".to_owned(),
        )])),
        ..Secret::default()
    };
    harness
        .api::<Secret>()
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
    harness
        .condition("shop", "SpecAccepted", "True", "Accepted")
        .await;
    assert!(
        harness
            .api::<Secret>()
            .get_opt("shop-jwt")
            .await
            .unwrap()
            .is_none()
    );
    harness.end(operator).await;
}
