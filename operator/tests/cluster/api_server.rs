//! An API server that goes away and comes back, and a namespace that goes while Kafka is away.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use recommendation_api::pipeline::RecommendationPipeline;
use recommendation_operator::kafka::{Admin, Connection};
use serde_json::json;

use crate::harness::Harness;
use crate::life::install_all;
use crate::monitoring::uninstall;
use crate::proxy::{Proxy, free_port};

/// Longer than the client's own retries of one request take.
const OUTAGE: Duration = Duration::from_secs(6);

#[tokio::test]
async fn what_changed_while_the_api_server_was_away_is_taken_up_and_nothing_else_is_written() {
    // With kinds that no cache holds: what cannot be looked at is not thought to be gone.
    let harness = Harness::alone().await;
    let installed = install_all(&harness.client).await;
    let port = free_port().await;
    let server = Proxy::start(port, &harness.api_server().await).await;
    let operator = harness.operator_by(port).await;
    let on = |name: &str| json!({"namePrefix": format!("{}{name}-", harness.prefix)});
    for name in ["steady", "edited", "deleted"] {
        harness.apply(name, on(name)).await.unwrap();
        harness.condition(name, "TopicsReady", "True", "AsDeclared").await;
        harness
            .condition(name, "MonitoringReady", "True", "Applied")
            .await;
    }
    operator.settled().await;
    let version = || async {
        harness
            .get::<RecommendationPipeline>("steady")
            .await
            .resource_version()
    };
    let before = (version().await, operator.asked().len());

    server.cut().await;
    let edit = json!({"spec": {"replicas": 7}});
    let deployments = harness.api::<Deployment>();
    deployments
        .patch("edited", &PatchParams::default(), &Patch::Merge(&edit))
        .await
        .unwrap();
    let pipelines = harness.api::<RecommendationPipeline>();
    pipelines
        .delete("deleted", &DeleteParams::default())
        .await
        .unwrap();
    harness.apply("new", on("new")).await.unwrap();
    tokio::time::sleep(OUTAGE).await;
    let server = Proxy::start(port, &harness.api_server().await).await;

    harness
        .condition("new", "TopicsReady", "True", "AsDeclared")
        .await;
    harness
        .until("the edited child to be set back", || async {
            let found = deployments.get("edited").await.unwrap();
            found.spec.unwrap().replicas == Some(2)
        })
        .await;
    operator.settled().await;
    // Neither what was not touched nor what is gone is written to.
    assert_eq!(version().await, before.0);
    let asked = operator.asked();
    let needless: Vec<_> = asked[before.1..]
        .iter()
        .filter(|(method, address)| {
            method != "GET" && (address.contains("/steady") || address.contains("/deleted"))
        })
        .collect();
    assert!(needless.is_empty(), "{needless:?}");
    uninstall(&harness.client, &installed).await;
    server.cut().await;
    harness.end(operator).await;
}

#[tokio::test]
async fn a_namespace_that_is_deleted_while_kafka_is_away_says_so_and_goes_once_it_is_back() {
    let harness = Harness::new().await;
    let other = harness.beside().await;
    let port = free_port().await;
    let kafka = Proxy::start(port, &harness.kafka).await;
    let spec = json!({
        "deletionPolicy": "Delete",
        "kafka": {"bootstrapServers": [format!("127.0.0.1:{port}")]},
    });
    let operator = harness.operator().await;
    harness.apply("shop", spec).await.unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    operator.settled().await;
    // One that has a connection would keep it: the proxy leads to no more than the first address.
    operator.stop().await;
    kafka.cut().await;
    let namespaces = vec![harness.namespace.clone(), other.namespace.clone()];
    let operator = harness.operator_of(namespaces).await;
    harness
        .condition("shop", "TopicsReady", "Unknown", "KafkaUnreachable")
        .await;

    let all: Api<Namespace> = Api::all(harness.client.clone());
    all.delete(&harness.namespace, &DeleteParams::default())
        .await
        .unwrap();
    // What the namespace controller does, in an order that nobody promises: what was recorded goes first.
    let (params, everything) = (DeleteParams::default(), ListParams::default());
    for _ in 0..2 {
        harness
            .api::<ConfigMap>()
            .delete_collection(&params, &everything)
            .await
            .unwrap();
        harness
            .api::<Secret>()
            .delete_collection(&params, &everything)
            .await
            .unwrap();
        harness
            .api::<Deployment>()
            .delete_collection(&params, &everything)
            .await
            .unwrap();
    }
    let pipelines = harness.api::<RecommendationPipeline>();
    pipelines.delete_collection(&params, &everything).await.unwrap();
    let message = harness
        .condition("shop", "CleanupBlocked", "True", "KafkaUnreachable")
        .await;
    assert!(
        message.contains("recommendation.dev/skip-cleanup=true"),
        "{message}"
    );
    // Nobody else waits for it.
    other.apply("shop", json!({})).await.unwrap();
    other.condition("shop", "TopicsReady", "True", "AsDeclared").await;

    let kafka = Proxy::start(port, &harness.kafka).await;
    harness
        .until("the pipeline to go", || async {
            pipelines.get_opt("shop").await.unwrap().is_none()
        })
        .await;
    let admin = Admin::new(&Connection::plain(std::slice::from_ref(&harness.kafka))).unwrap();
    harness
        .until("its topics to go", || async {
            let view = admin.observe(&Default::default()).await.unwrap();
            !view.topics.keys().any(|name| name.starts_with(&harness.prefix))
        })
        .await;
    kafka.cut().await;
    other.remove().await;
    operator.stop().await;
}
