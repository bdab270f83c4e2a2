//! How soon an operator has seen all of its pipelines, how much memory they take, that it writes nothing once they are as
//! declared, and how little it asks of Kafka.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::api::{Patch, PatchParams};
use kube::config::Kubeconfig;
use kube::core::PartialObjectMeta;
use recommendation_api::pipeline::RecommendationPipeline;
use serde_json::{Value, json};

use super::{Process, logged, number, shipped, within};
use crate::harness::Harness;

/// What all pipelines share; the first makes it, the others look.
const TOPICS: [&str; 7] = [
    "customer_behavior",
    "products",
    "customer_profiles",
    "customer_behavior_dead_letter",
    "customer_erasures",
    "customer_salts",
    "recommendation_impressions",
];
/// Memory of an operator that has nothing to do, and what each pipeline may add to it.
const MEMORY: (f64, f64) = (60.0 * 1024.0 * 1024.0, 64.0 * 1024.0);

async fn converged(harness: &Harness) -> usize {
    let pipelines = harness
        .api::<RecommendationPipeline>()
        .list(&Default::default())
        .await
        .unwrap();
    let ready = |pipeline: &RecommendationPipeline| {
        let conditions = pipeline.status.iter().flat_map(|s| &s.conditions);
        let mut topics = conditions.filter(|c| c.type_ == "TopicsReady");
        topics.any(|c| c.status == "True" && c.observed_generation == pipeline.metadata.generation)
    };
    pipelines.items.iter().filter(|pipeline| ready(pipeline)).count()
}

fn pipeline(harness: &Harness, name: &str, observe: bool) -> Value {
    let topics: Vec<Value> = TOPICS
        .iter()
        .map(|topic| match observe {
            true => json!({"name": topic, "managementPolicy": "Observe"}),
            false => json!({"name": topic, "partitions": 1}),
        })
        .collect();
    harness.manifest(name, json!({"topics": topics, "recommender": {"replicas": 1}}))
}

#[tokio::test]
async fn many_pipelines_are_seen_soon_held_in_little_memory_and_written_to_no_more() {
    let count = number("SOAK_PIPELINES", 15);
    let quiet = Duration::from_secs(number("SOAK_SECONDS", 5));
    let _: Kubeconfig = Kubeconfig::read_from(std::env::var("TEST_KUBECONFIG").unwrap()).unwrap();
    let harness = Harness::new().await;
    let operator = Process::start(&harness, 30).await;
    let api = harness.api::<RecommendationPipeline>();
    let params = PatchParams::apply("tests").force();
    let apply = |name: String, observe: bool| {
        let (api, params, manifest) = (api.clone(), params.clone(), pipeline(&harness, &name, observe));
        async move { api.patch(&name, &params, &Patch::Apply(&manifest)).await.unwrap() }
    };
    apply("first".to_owned(), false).await;
    harness
        .condition("first", "TopicsReady", "True", "AsDeclared")
        .await;
    let idle = operator.metric("process_resident_memory_bytes").await;
    let begun = Instant::now();
    futures::stream::iter(1..count)
        .map(|n| apply(format!("shop-{n}"), true))
        .buffer_unordered(16)
        .for_each(|_| std::future::ready(()))
        .await;
    let made = begun.elapsed();
    let wanted = usize::try_from(count).unwrap();
    within("every pipeline to be as declared", || async {
        converged(&harness).await == wanted
    })
    .await;
    println!(
        "{count} pipelines applied in {made:.1?}, as declared after {:.1?}",
        begun.elapsed()
    );
    operator.stop().await;

    let operator = Process::start(&harness, 30).await;
    let expected = f64::from(u32::try_from(count).unwrap());
    within("every pipeline to be seen", || async {
        operator.reconciles().await >= expected
    })
    .await;
    let cold = operator.begun.elapsed();
    let memory = operator.metric("process_resident_memory_bytes").await;
    println!(
        "a cold start has looked at all of them after {cold:.1?}, {} writes",
        operator.writes().await
    );
    let mib = |bytes: f64| bytes / 1024.0 / 1024.0;
    println!(
        "resident memory: {:.0} MiB, {:.0} MiB with one pipeline: {:.1} KiB a pipeline",
        mib(memory),
        mib(idle),
        (memory - idle) / 1024.0 / expected
    );
    let versions =
        |list: kube::core::ObjectList<PartialObjectMeta<RecommendationPipeline>>| -> Vec<Option<String>> {
            list.items
                .into_iter()
                .map(|item| item.metadata.resource_version)
                .collect()
        };
    let before = versions(api.list_metadata(&Default::default()).await.unwrap());
    let (before_log, begun) = (logged(&harness).len(), Instant::now());
    let asked = || operator.metric("recommendation_operator_kafka_requests_total");
    let before_kafka = asked().await;
    tokio::time::sleep(quiet).await;
    assert_eq!(
        operator.writes().await,
        0.0,
        "what is as declared is not written to"
    );
    let all = logged(&harness);
    assert_eq!(
        all[before_log..],
        [""; 0],
        "nor does the API server know of any write"
    );
    // The interval that had begun counts too.
    let intervals = (begun.elapsed().as_secs_f64() / 30.0).ceil() + 1.0;
    let requests = asked().await - before_kafka;
    println!("{requests} requests to Kafka in {intervals} intervals");
    assert!(requests <= 2.0 * intervals, "{requests} in {intervals} intervals");
    let after = versions(api.list_metadata(&Default::default()).await.unwrap());
    assert_eq!(before, after);
    println!("no write in {quiet:?}");
    let later = operator.metric("process_resident_memory_bytes").await;
    println!("resident memory then: {:.0} MiB", mib(later));
    operator.stop().await;

    let operator = Process::start(&harness, 1).await;
    within("every pipeline to be seen", || async {
        operator.reconciles().await >= expected
    })
    .await;
    let (begun, looked) = (Instant::now(), operator.reconciles().await);
    tokio::time::sleep(quiet.min(Duration::from_secs(20))).await;
    let rate = (operator.reconciles().await - looked) / begun.elapsed().as_secs_f64();
    println!("{rate:.0} reconciles a second that change nothing");
    assert_eq!(operator.writes().await, 0.0);
    operator.stop().await;
    // Every figure is shown before one of them fails.
    if shipped() {
        let aim = Duration::from_secs(if count > 1_000 { 120 } else { 30 });
        assert!(cold < aim, "{cold:.1?}");
        assert!(later < MEMORY.0 + MEMORY.1 * expected, "{:.0} MiB", mib(later));
        // A pipeline is looked at once an interval at most: few of them cannot show it.
        assert!(count < 1_000 || rate >= 100.0, "{rate:.0} a second");
    }
    harness.remove().await;
}
