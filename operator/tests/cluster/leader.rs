//! Two operators as processes, of which the one that leads is frozen and wakes up: what it began before is over, and
//! the API server's audit log shows who wrote what.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use recommendation_api::pipeline::RecommendationPipeline;
use serde_json::{Value, json};

use crate::harness::Harness;
use crate::process::Process;

async fn leads(harness: &Harness, process: &Process) -> bool {
    let lease = harness
        .api::<Lease>()
        .get_opt("recommendation-operator")
        .await
        .unwrap();
    let holder = lease
        .and_then(|lease| lease.spec?.holder_identity)
        .unwrap_or_default();
    holder.starts_with(&format!("{}_", process.name))
}

/// Writes to the test's namespace that the API server has logged of a process.
fn writes(harness: &Harness, process: &Process) -> Vec<String> {
    let file = std::env::var("TEST_AUDIT_LOG").expect("TEST_AUDIT_LOG is not set: run `cargo xtask test`");
    let text = std::fs::read_to_string(file).unwrap();
    // The last line may be half there.
    let events = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let agent = format!("({})", process.name);
    let of = |event: &Value| {
        event["userAgent"].as_str().is_some_and(|by| by.ends_with(&agent))
            && event["objectRef"]["namespace"] == json!(harness.namespace)
    };
    let what = |event: Value| format!("{} {}", event["verb"], event["requestURI"]);
    events.filter(of).map(what).collect()
}

async fn observed(harness: &Harness) -> bool {
    let pipeline = harness.get::<RecommendationPipeline>("shop").await;
    let status = pipeline.status.unwrap_or_default();
    status.observed_generation == pipeline.metadata.generation
}

#[tokio::test]
async fn a_leader_that_was_frozen_writes_nothing_when_it_wakes_and_ends() {
    let harness = Harness::new().await;
    let mut first = Process::start(&harness, "first", true);
    harness
        .until("the first to lead", || leads(&harness, &first))
        .await;
    let second = Process::start(&harness, "second", true);
    harness.apply("shop", json!({})).await.unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    harness.until("a settled pipeline", || observed(&harness)).await;
    assert!(
        !writes(&harness, &first).is_empty(),
        "the log shows what a leader writes"
    );
    assert!(
        writes(&harness, &second)
            .iter()
            .all(|write| write.contains("leases"))
    );

    first.signal("-STOP");
    // There is work that the first would do if it could.
    harness
        .apply("shop", json!({"recommender": {"replicas": 3}}))
        .await
        .unwrap();
    tokio::time::timeout(Duration::from_secs(60), async {
        while !leads(&harness, &second).await || !observed(&harness).await {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .expect("the second takes over and does the work");
    let before = writes(&harness, &first).len();
    // And there is when it wakes: somebody's hand was at a child.
    let edit = json!({"spec": {"replicas": 7}});
    harness
        .api::<Deployment>()
        .patch("shop", &PatchParams::default(), &Patch::Merge(&edit))
        .await
        .unwrap();
    first.signal("-CONT");
    let ended = tokio::time::timeout(Duration::from_secs(30), first.child.wait()).await;
    assert!(
        !ended.expect("it ends").unwrap().success(),
        "another must not find two at work"
    );
    harness
        .until("the second to heal the child", || async {
            let found = harness.get::<Deployment>("shop").await;
            found.spec.and_then(|spec| spec.replicas) == Some(3)
        })
        .await;
    let all = writes(&harness, &first);
    assert!(
        all.len() == before,
        "it wrote after it woke: {:?}",
        &all[before..]
    );
    drop(second);
    harness.remove().await;
}
