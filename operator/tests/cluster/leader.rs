//! Two operators as processes, of which the one that leads is frozen and wakes up: what it began before is over, and
//! the API server's audit log shows who wrote what.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Patch, PatchParams};
use recommendation_api::pipeline::RecommendationPipeline;
use recommendation_operator::leader::{Candidate, Fence, Times};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

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
    let frozen = std::time::Instant::now();
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
    // Past its lease in any case; longer where it is wanted.
    let wanted = std::env::var("FROZEN_SECONDS").map_or(0, |seconds| seconds.parse().unwrap());
    tokio::time::sleep(Duration::from_secs(wanted).saturating_sub(frozen.elapsed())).await;
    println!("frozen for {:.0?}", frozen.elapsed());
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

/// The rights of the shipped Role, one by one, as its rules.
fn shipped_rights() -> Vec<Value> {
    let text = include_str!("../../../manifests/operator.yaml");
    let objects = text
        .split("\n---\n")
        .map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
    let role = objects
        .into_iter()
        .find(|object| object["kind"] == "Role")
        .unwrap();
    let mut rights = Vec::new();
    for rule in role["rules"].as_array().unwrap() {
        for verb in rule["verbs"].as_array().unwrap() {
            let mut right = rule.clone();
            right["verbs"] = json!([verb]);
            rights.push(right);
        }
    }
    rights
}

/// Whether one with these rights comes to lead and goes on leading.
async fn leads_with(harness: &Harness, rights: &[Value]) -> bool {
    let place = harness.beside().await;
    let user = format!("leader-{}", place.namespace);
    let group = "rbac.authorization.k8s.io";
    let role = json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": "leader"}, "rules": rights});
    let binding = json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": "leader"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "leader"},
        "subjects": [{"kind": "User", "apiGroup": group, "name": user}]});
    let params = PatchParams::apply("tests");
    let (roles, bindings) = (place.api::<Role>(), place.api::<RoleBinding>());
    roles
        .patch("leader", &params, &Patch::Apply(&role))
        .await
        .unwrap();
    bindings
        .patch("leader", &params, &Patch::Apply(&binding))
        .await
        .unwrap();
    let times = Times {
        lease: Duration::from_secs(4),
        hold: Duration::from_secs(3),
        renew: Duration::from_millis(300),
        request: Duration::from_secs(1),
    };
    let client = place.client_as(&user).await;
    let candidate = Candidate::new(client, &place.namespace, "one".to_owned(), times, Fence::closed());
    let stop = CancellationToken::new();
    let acquired = tokio::time::timeout(Duration::from_secs(5), candidate.acquire(&stop)).await;
    let led = acquired == Ok(true) && {
        let end = stop.clone();
        let later = async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            end.cancel();
        };
        let (kept, ()) = tokio::join!(candidate.keep(&stop), later);
        kept.is_ok()
    };
    place.remove().await;
    led
}

#[tokio::test]
async fn without_any_one_right_of_the_shipped_role_nobody_leads() {
    let harness = Harness::new().await;
    let all = shipped_rights();
    assert!(leads_with(&harness, &all).await);
    let without = |left_out: usize| -> Vec<Value> {
        let rest = all.iter().enumerate().filter(|(n, _)| *n != left_out);
        rest.map(|(_, right)| right.clone()).collect()
    };
    let lives = (0..all.len()).map(|n| {
        let (harness, rights, right) = (&harness, without(n), &all[n]);
        async move { (right, leads_with(harness, &rights).await) }
    });
    for (right, led) in futures::future::join_all(lives).await {
        assert!(!led, "it leads without {right}");
    }
    harness.remove().await;
}
