use std::sync::{Arc, Mutex};

use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::build;
use crate::fixtures::{QUICKSTART, validated};

/// An API server on which everything that is asked for is `live`, and what was asked of it.
fn server(live: Value) -> (Client, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        log.lock().unwrap().push(request.method().to_string());
        let body = Body::from(live.to_string().into_bytes());
        std::future::ready(Ok::<_, std::convert::Infallible>(http::Response::new(body)))
    });
    (Client::new(service, "default"), asked)
}

fn health() -> Arc<crate::health::Health> {
    Arc::new(crate::health::Health::new(Arc::new(
        crate::metrics::Metrics::new().unwrap(),
    )))
}

async fn apply(live: Value) -> (Result<ConfigMap, ApplyError>, Vec<String>) {
    let (client, asked) = server(live);
    let (caches, _) = Caches::new(&client, &[None], &health());
    let valid = validated(QUICKSTART);
    let applier = Applier {
        client: &client,
        caches: &caches,
        id: &valid.id,
    };
    let result = applier
        .one(&caches.config_maps, &build::children(&valid).config)
        .await;
    let asked = asked.lock().unwrap().clone();
    (result, asked)
}

fn config_map(metadata: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
}

#[tokio::test]
async fn an_object_of_somebody_else_is_never_taken_over() {
    let owner = json!({"apiVersion": "v1", "kind": "Other", "name": "x", "uid": "u", "controller": true});
    let label = json!({MANAGED_BY.0: MANAGED_BY.1});
    for metadata in [
        json!({"name": "shop-config"}),
        json!({"name": "shop-config", "labels": label, "ownerReferences": [owner]}),
    ] {
        let (result, asked) = apply(config_map(metadata)).await;
        let error = result.unwrap_err();
        assert!(matches!(error, ApplyError::Foreign { .. }), "{error}");
        assert_eq!(asked, ["GET"], "nothing is written");
    }
}

#[tokio::test]
async fn an_own_object_and_one_that_an_orphaning_deletion_left_are_applied() {
    let owner = serde_json::to_value(&validated(QUICKSTART).id.owner).unwrap();
    let label = json!({MANAGED_BY.0: MANAGED_BY.1});
    for metadata in [
        json!({"name": "shop-config", "ownerReferences": [owner]}),
        json!({"name": "shop-config", "labels": label}),
    ] {
        let (result, asked) = apply(config_map(metadata)).await;
        result.unwrap();
        assert_eq!(asked, ["GET", "PATCH"]);
    }
}

#[tokio::test]
async fn a_key_that_lost_its_label_stands_and_is_not_asked_to_be_made_again() {
    let live = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop-jwt"}});
    let (client, asked) = server(live);
    let (caches, _) = Caches::new(&client, &[None], &health());
    let valid = validated(QUICKSTART);
    let applier = Applier {
        client: &client,
        caches: &caches,
        id: &valid.id,
    };
    applier.secret(&valid, "shop-jwt".to_owned()).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), ["GET"]);
}

#[tokio::test]
async fn what_is_as_wanted_is_not_written_where_the_cache_is_behind() {
    let wanted = serde_json::to_value(build::children(&validated(QUICKSTART)).config).unwrap();
    let (result, asked) = apply(wanted.clone()).await;
    result.unwrap();
    assert_eq!(asked, ["GET"]);
    let mut going = wanted.clone();
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut edited = wanted;
    edited["data"] = json!({"config.json": "{}"});
    for live in [going, edited] {
        let (result, asked) = apply(live).await;
        result.unwrap();
        assert_eq!(asked, ["GET", "PATCH"]);
    }
}
