//! One trace from the request over Kafka to the model, as a collector gets it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;

use crate::shop::Shop;
use crate::support::{Running, event, eventually, token};

/// Takes what is exported, as any collector reads it.
async fn collector() -> (String, Arc<Mutex<Vec<Span>>>, tokio::task::JoinHandle<()>) {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let of_route = Arc::clone(&taken);
    let router = Router::new().route(
        "/v1/traces",
        post(move |body: Bytes| {
            let exported = ExportTraceServiceRequest::decode(body).unwrap();
            let scopes = exported.resource_spans.into_iter().flat_map(|of| of.scope_spans);
            of_route
                .lock()
                .unwrap()
                .extend(scopes.flat_map(|scope| scope.spans));
            async {}
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, taken, task)
}

/// The caller's own span.
const CALLER: [u8; 8] = [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7];

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
        let parent = format!("00-{}-{}-01", trace.simple(), hex::encode(CALLER));
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
    let of_trace = || -> Vec<Span> {
        let taken = taken.lock().unwrap();
        let ours = taken.iter().filter(|span| span.trace_id == trace.as_bytes());
        ours.cloned().collect()
    };
    eventually("the spans", || async { of_trace().len() >= 5 }).await;
    let spans = of_trace();
    let span = |name: &str| {
        let found = spans.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no span {name}")).clone()
    };
    let (posted, produced, learned) = (span("POST /v1/events"), span("send"), span("learn"));
    let (got, recommended) = (span("GET /v1/recommendations/{customer_id}"), span("recommend"));
    // Each is a child of the one before: only a header of the record can have told the last of them.
    assert_eq!(
        (posted.parent_span_id, posted.kind),
        (CALLER.to_vec(), SpanKind::Server as i32)
    );
    assert_eq!(
        (produced.parent_span_id, produced.kind),
        (posted.span_id, SpanKind::Producer as i32)
    );
    assert_eq!(
        (learned.parent_span_id, learned.kind),
        (produced.span_id, SpanKind::Consumer as i32)
    );
    assert!(learned.start_time_unix_nano >= posted.start_time_unix_nano);
    assert_eq!(got.parent_span_id, CALLER);
    assert_eq!(recommended.parent_span_id, got.span_id);
    let told = format!("{:?}", taken.lock().unwrap());
    assert!(
        !told.contains("/v1/recommendations/ann"),
        "a customer's id is in a span"
    );
    task.abort();
}
