//! One pipeline's whole life, in which an operator does everything that it can do to a cluster.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{GroupVersionKind, PartialObjectMeta};
use kube::{Client, ResourceExt as _};
use prometheus::core::Collector as _;
use recommendation_api::pipeline::RecommendationPipeline;
use recommendation_operator::build::{http_route, rules, service_monitor};
use recommendation_operator::kafka::{Admin, Connection, TopicSpec};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use crate::harness::{Harness, Operator};
use crate::lifecycle::{drifting, play_the_node};
use crate::monitoring::install;

/// Strimzi's description of a topic.
pub fn kafka_topic() -> GroupVersionKind {
    GroupVersionKind::gvk("kafka.strimzi.io", "v1beta2", "KafkaTopic")
}

/// Everything that somebody else installs and the operator knows of.
pub async fn install_all(client: &Client) -> [String; 4] {
    [
        install(client, &service_monitor::gvk(), "servicemonitors").await,
        install(client, &rules::gvk(), "prometheusrules").await,
        install(client, &http_route::gvk(), "httproutes").await,
        install(client, &kafka_topic(), "kafkatopics").await,
    ]
}

/// A topic that Strimzi manages: it is waited for, and never made.
const MANAGED: &str = "managed";

fn topics() -> Value {
    json!([
        {"name": "customer_behavior", "partitions": 1},
        {"name": "recommendation_impressions", "partitions": 1},
        {"name": MANAGED, "partitions": 2},
    ])
}

/// Everything, with something outside to delete at the end and a Secret that is missing.
fn full() -> Value {
    json!({
        "deletionPolicy": "Delete",
        "topics": topics(),
        "recommender": {
            "snapshots": {"url": "s3://models"},
            "model": {"retrain": {"schedule": "0 3 * * *"}},
            "autoscaling": {"maxReplicas": 3},
            "auth": {"usersSecretRef": {"name": "users"}},
            "ingress": {"host": "shop.example.org"},
            "httpRoute": {"parentRefs": [{"name": "edge"}]},
        },
    })
}

/// Nothing that can be left out.
fn bare() -> Value {
    json!({
        "deletionPolicy": "Delete",
        "topics": topics(),
        "recommender": {"replicas": 1, "template": {"serviceAccountName": "default"}, "networkPolicy": {"policy": "Disabled"}},
        "monitoring": {
            "serviceMonitor": {"policy": "Disabled"}, "rules": {"policy": "Disabled"}, "dashboard": {"policy": "Disabled"},
        },
    })
}

/// Kinds that somebody else installs; the first three have an object named like the pipeline.
fn foreign(harness: &Harness) -> [Api<DynamicObject>; 4] {
    [
        service_monitor::gvk(),
        rules::gvk(),
        http_route::gvk(),
        kafka_topic(),
    ]
    .map(|gvk| {
        Api::namespaced_with(
            harness.client.clone(),
            &harness.namespace,
            &ApiResource::from_gvk(&gvk),
        )
    })
}

/// Customers begin to behave otherwise than before, until one fit is made for that.
async fn fit(harness: &Harness) {
    // Lives stand beside each other: each has a replica at an address of its own.
    static LIVES: AtomicU8 = AtomicU8::new(1);
    let jobs = harness.api::<Job>();
    if !jobs.list(&ListParams::default()).await.unwrap().items.is_empty() {
        return;
    }
    let deployments = harness.api::<Deployment>();
    harness
        .until("the Deployment", || async {
            deployments.get_opt("shop").await.unwrap().is_some()
        })
        .await;
    let ip = format!("127.78.1.{}", LIVES.fetch_add(1, Ordering::Relaxed));
    let _node = AbortOnDropHandle::new(play_the_node(harness, &ip, drifting()).await);
    harness
        .until("a fit", || async {
            let made = jobs.list(&ListParams::default()).await.unwrap();
            made.items.len() == 1
        })
        .await;
    let at_once = DeleteParams::default().grace_period(0);
    harness.api::<Pod>().delete("shop-0", &at_once).await.unwrap();
}

/// Lives through all of it; `at` is what is being waited for. It has ended well once the pipeline is gone, every watch is
/// well and nothing is written any more.
pub async fn live(harness: &Harness, operator: &Operator, at: &Mutex<&'static str>) {
    let now = |what: &'static str| *at.lock().unwrap() = what;
    let managed = json!({
        "apiVersion": "kafka.strimzi.io/v1beta2", "kind": "KafkaTopic", "metadata": {"name": MANAGED},
        "spec": {"topicName": format!("{}{MANAGED}", harness.prefix), "partitions": 2},
    });
    let [_, _, _, kafka_topics] = foreign(harness);
    let params = PatchParams::apply("tests");
    harness
        .until("the CRD of topics to be served", || async {
            kafka_topics
                .patch(MANAGED, &params, &Patch::Apply(&managed))
                .await
                .is_ok()
        })
        .await;
    now("a missing Secret that is told");
    harness.apply("shop", full()).await.unwrap();
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
        now("a Secret that is found");
        secrets.create(&PostParams::default(), &users).await.unwrap();
        harness
            .condition("shop", "SpecAccepted", "True", "Accepted")
            .await;
        now("a fit for customers who behave otherwise than before");
        fit(harness).await;
        secrets.delete("users", &DeleteParams::default()).await.unwrap();
        harness
            .condition("shop", "SpecAccepted", "False", "SecretNotFound")
            .await;
    }
    now("a topic that somebody else has to make");
    harness
        .condition("shop", "TopicsReady", "False", "TopicRejected")
        .await;
    let admin = Admin::new(&Connection::plain(std::slice::from_ref(&harness.kafka))).unwrap();
    let made = TopicSpec {
        name: format!("{}{MANAGED}", harness.prefix),
        partitions: 2,
        replication_factor: None,
        config: Default::default(),
    };
    admin.create(&made).await.unwrap();
    now("topics");
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    now("monitoring");
    harness
        .condition("shop", "MonitoringReady", "True", "Applied")
        .await;
    now("an event that is counted on");
    let events = harness.api::<Event>();
    harness
        .until("an event that is counted on", || async {
            let found = events.list(&Default::default()).await.unwrap();
            found.items.iter().any(|event| event.series.is_some())
        })
        .await;
    now("children");
    harness.until("every child", || everything(harness)).await;
    operator.settled().await;

    now("children that are no longer wanted and go");
    harness.apply("shop", bare()).await.unwrap();
    harness
        .until("what is no longer wanted to go", || nothing(harness))
        .await;
    operator.settled().await;

    now("a malformed object that is told so");
    let broken = json!({"recommender": {"model": {"halfLife": "99999999999999999999999d"}}});
    harness.apply("broken", broken).await.unwrap_err();
    let kind = ApiResource::erase::<RecommendationPipeline>(&());
    let untyped: Api<DynamicObject> = Api::namespaced_with(harness.client.clone(), &harness.namespace, &kind);
    harness
        .until("the malformed object to be told so", || async {
            let broken = untyped.get("broken").await.unwrap();
            broken.data["status"]["conditions"].is_array()
        })
        .await;
    untyped.delete("broken", &DeleteParams::default()).await.unwrap();

    now("an end");
    let pipelines = harness.api::<RecommendationPipeline>();
    let touch = json!({"metadata": {"annotations": {"look": "again"}}});
    pipelines
        .patch("shop", &PatchParams::default(), &Patch::Merge(&touch))
        .await
        .unwrap();
    let held = pipelines.get("shop").await.unwrap();
    assert!(!held.finalizers().is_empty(), "there is something to delete");
    pipelines.delete("shop", &DeleteParams::default()).await.unwrap();
    let raw: Api<PartialObjectMeta<RecommendationPipeline>> = harness.api();
    harness
        .until("the pipeline to be gone", || async {
            raw.get_opt("shop").await.unwrap().is_none()
        })
        .await;
    now("watches without an error");
    harness
        .until("watches without an error", || {
            std::future::ready(!watch_failed(operator))
        })
        .await;
}

fn watch_failed(operator: &Operator) -> bool {
    let families = operator.context.metrics.watch_errors.collect();
    let failures = families.iter().flat_map(|family| family.get_metric());
    failures
        .into_iter()
        .any(|metric| metric.get_counter().get_value() > 0.0)
}

/// Children that only the full pipeline has.
async fn there(harness: &Harness) -> Vec<bool> {
    let mut there = vec![
        harness
            .api::<ConfigMap>()
            .get_opt("shop-dashboard")
            .await
            .unwrap()
            .is_some(),
        harness
            .api::<HorizontalPodAutoscaler>()
            .get_opt("shop")
            .await
            .unwrap()
            .is_some(),
        harness
            .api::<ServiceAccount>()
            .get_opt("shop")
            .await
            .unwrap()
            .is_some(),
        harness.api::<Ingress>().get_opt("shop").await.unwrap().is_some(),
        harness
            .api::<NetworkPolicy>()
            .get_opt("shop")
            .await
            .unwrap()
            .is_some(),
        harness.api::<CronJob>().get_opt("shop").await.unwrap().is_some(),
    ];
    for api in foreign(harness).into_iter().take(3) {
        there.push(api.get_opt("shop").await.unwrap().is_some());
    }
    there
}

async fn everything(harness: &Harness) -> bool {
    there(harness).await.into_iter().all(|there| there)
}

async fn nothing(harness: &Harness) -> bool {
    there(harness).await.into_iter().all(|there| !there)
}
