//! The operator's traces as a collector gets them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use recommendation_operator::traces::Traces;
use serde_json::json;

use crate::harness::Harness;

/// Takes what is exported.
async fn collector() -> (String, Arc<Mutex<Vec<u8>>>, tokio::task::JoinHandle<()>) {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let of_route = Arc::clone(&taken);
    let take = move |body: Bytes| {
        of_route.lock().unwrap().extend_from_slice(&body);
        std::future::ready(())
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().route("/v1/traces", post(take));
    let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (address, taken, task)
}

/// A span as its protobuf message begins: trace (field 1), own id (2), parent (4), name (5).
#[derive(Debug)]
struct Span {
    trace: [u8; 16],
    id: [u8; 8],
    parent: Option<[u8; 8]>,
    name: String,
}

fn spans(bytes: &[u8]) -> Vec<Span> {
    let read = |at: usize| -> Option<Span> {
        let rest = bytes[at..].strip_prefix(&[0x0a, 16])?;
        let (trace, rest) = rest.split_first_chunk::<16>()?;
        let (id, mut rest) = rest.strip_prefix(&[0x12, 8])?.split_first_chunk::<8>()?;
        let mut parent = None;
        if let Some(found) = rest.strip_prefix(&[0x22, 8]) {
            let (id, after) = found.split_first_chunk::<8>()?;
            (parent, rest) = (Some(*id), after);
        }
        let (length, rest) = rest.strip_prefix(&[0x2a])?.split_first()?;
        let name = String::from_utf8(rest.get(..usize::from(*length))?.to_vec()).ok()?;
        Some(Span {
            trace: *trace,
            id: *id,
            parent,
            name,
        })
    };
    (0..bytes.len()).filter_map(read).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_look_is_a_trace_with_its_steps_and_the_calls_below_them() {
    let harness = Harness::new().await;
    let (address, taken, task) = collector().await;
    let traces = Traces::new(&address, Some("test")).unwrap();
    let of_operator = traces.clone();
    let operator = harness
        .operator_with(move |options| options.traces = of_operator)
        .await;
    harness.apply("shop", json!({})).await.unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    operator.settled().await;
    // The end of the process sends what is left.
    tokio::task::spawn_blocking(move || traces.close()).await.unwrap();
    let bytes = taken.lock().unwrap().clone();
    for text in ["recommendation-operator", &format!("{}/shop", harness.namespace)] {
        let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(found, "nothing says {text}");
    }
    let all = spans(&bytes);
    let below = |parent: &Span| -> BTreeSet<&str> {
        let children = all
            .iter()
            .filter(|span| span.trace == parent.trace && span.parent == Some(parent.id));
        children.map(|span| span.name.as_str()).collect()
    };
    let named = |name: &str| -> Vec<&Span> { all.iter().filter(|span| span.name == name).collect() };
    // The look that made the topics: every step, and below each the calls that it made.
    let looks = named("reconcile");
    assert!(looks.iter().all(|span| span.parent.is_none()));
    let steps = BTreeSet::from(["apply", "dereference", "report"]);
    assert!(
        looks.iter().any(|look| steps.is_subset(&below(look))),
        "{looks:?}"
    );
    for (step, wanted) in [
        ("dereference", vec!["kafka", "kubernetes GET", "recommender"]),
        ("apply", vec!["children", "topics", "kubernetes PATCH"]),
        (
            "children",
            vec!["kubernetes GET", "kubernetes PATCH", "kubernetes POST"],
        ),
        ("report", vec!["kubernetes PUT"]),
    ] {
        let wanted: BTreeSet<&str> = wanted.into_iter().collect();
        let found: Vec<BTreeSet<&str>> = named(step).into_iter().map(below).collect();
        assert!(
            found.iter().any(|below| wanted.is_subset(below)),
            "below {step}: {found:?}"
        );
    }
    task.abort();
    harness.end(operator).await;
}
