//! One trace from the request over Kafka to the model, as a collector gets it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;

use crate::shop::Shop;
use crate::support::{Running, event, eventually, token};

/// Takes what is exported; protobuf carries names and ids as they are.
async fn collector() -> (String, Arc<Mutex<Vec<u8>>>, tokio::task::JoinHandle<()>) {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let of_route = Arc::clone(&taken);
    let router = Router::new().route(
        "/v1/traces",
        post(move |body: Bytes| {
            of_route.lock().unwrap().extend_from_slice(&body);
            async {}
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, taken, task)
}

fn count(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).filter(|window| *window == part).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_trace_goes_on_through_kafka_to_the_model() {
    let (address, taken, task) = collector().await;
    let mut shop = Shop::new(1).await;
    shop.config.telemetry.otlp_endpoint = address;
    let service = Running::start(shop.replica()).await.ready().await;
    let trace = uuid::Uuid::new_v4();
    let request = |method: reqwest::Method, path: &str| {
        let url = format!("http://{}{path}", service.public);
        let token = token("ann", &["events:write"]);
        let parent = format!("00-{}-00f067aa0ba902b7-01", trace.simple());
        service
            .client
            .request(method, url)
            .bearer_auth(token)
            .header("traceparent", parent)
    };
    let sent = request(reqwest::Method::POST, "/v1/events")
        .json(&event("ann", "cup", "view"))
        .send()
        .await
        .unwrap();
    assert_eq!(sent.status(), 202);
    service.learned(1).await;
    let read = request(reqwest::Method::GET, "/v1/recommendations/ann")
        .send()
        .await
        .unwrap();
    assert_eq!(read.status(), 200);
    // The end of the service sends what is left.
    tokio::time::sleep(Duration::from_millis(300)).await;
    service.stop().await;
    eventually("the spans", || async {
        count(&taken.lock().unwrap(), trace.as_bytes()) >= 5
    })
    .await;
    let bytes = taken.lock().unwrap().clone();
    for name in [
        "POST /v1/events",
        "send",
        "learn",
        "GET /v1/recommendations/{customer_id}",
        "recommend",
    ] {
        assert!(count(&bytes, name.as_bytes()) >= 1, "no span {name}");
    }
    assert_eq!(
        count(&bytes, b"/v1/recommendations/ann"),
        0,
        "a customer's id is in a span"
    );
    task.abort();
}
