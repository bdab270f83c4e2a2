//! How soon a change of a pipeline is seen, and how soon its topics are there.

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use recommendation_api::pipeline::RecommendationPipeline;
use serde_json::{Value, json};

use super::{Process, shipped};
use crate::harness::Harness;

/// Changes that are measured, and pipelines that are made with ten topics each; at full size ten times as many.
const CHANGES: usize = 20;
const MADE: usize = 4;
/// This often is looked for what is waited for: the error of each time.
const TICK: Duration = Duration::from_millis(10);

/// The time below which this share of `times` is.
fn percentile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a short list"
    )]
    let at = (times.len() as f64 * share).ceil() as usize;
    times[at.clamp(1, times.len()) - 1]
}

/// Applies a pipeline and waits for `done`.
async fn timed(
    harness: &Harness,
    name: &str,
    spec: Value,
    done: impl Fn(&RecommendationPipeline) -> bool,
) -> Duration {
    let api = harness.api::<RecommendationPipeline>();
    let manifest = harness.manifest(name, spec);
    let params = PatchParams::apply("tests").force();
    let begun = Instant::now();
    api.patch(name, &params, &Patch::Apply(&manifest)).await.unwrap();
    while !done(&api.get(name).await.unwrap()) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "waited in vain for {name}"
        );
        tokio::time::sleep(TICK).await;
    }
    begun.elapsed()
}

fn observed(pipeline: &RecommendationPipeline) -> bool {
    let status = pipeline.status.as_ref();
    status.and_then(|status| status.observed_generation) == pipeline.metadata.generation
}

fn topics_ready(pipeline: &RecommendationPipeline) -> bool {
    let mut conditions = pipeline.status.iter().flat_map(|status| &status.conditions);
    observed(pipeline) && conditions.any(|c| c.type_ == "TopicsReady" && c.status == "True")
}

#[tokio::test]
async fn a_change_is_observed_within_a_second_and_ten_topics_are_there_within_five() {
    let harness = Harness::new().await;
    let operator = Process::start(&harness, 30).await;
    let times = if shipped() { 10 } else { 1 };
    let ten = |name: &str| {
        let mut topics = vec![
            json!({"name": "customer_behavior", "partitions": 12}),
            json!({"name": "recommendation_impressions", "partitions": 1}),
        ];
        topics.extend((0..3).map(|n| json!({"name": format!("extra_{n}"), "partitions": 3})));
        json!({"namePrefix": format!("{}{name}-", harness.prefix), "topics": topics})
    };
    let mut made = Vec::new();
    for n in 0..MADE * times {
        let name = format!("made-{n}");
        made.push(timed(&harness, &name, ten(&name), topics_ready).await);
        let status = harness.get::<RecommendationPipeline>(&name).await.status.unwrap();
        assert_eq!(status.topics_summary.as_deref(), Some("10/10"));
    }
    let mut changed = Vec::new();
    for n in 0..CHANGES * times {
        let mut spec = ten("made-0");
        spec["recommender"] = json!({"replicas": 3 + n % 7});
        changed.push(timed(&harness, "made-0", spec, observed).await);
    }
    let (p99, p95) = (percentile(&mut changed, 0.99), percentile(&mut made, 0.95));
    println!(
        "from apply to observedGeneration: p50 {:.0?}, p99 {p99:.0?}, of {}; to ten topics that are ready: p50 {:.0?}, p95 {p95:.0?}, of {}",
        percentile(&mut changed, 0.5),
        changed.len(),
        percentile(&mut made, 0.5),
        made.len()
    );
    // Debug builds of several tests at once are no measure; far too slow is wrong anywhere.
    let slack = if shipped() { 1 } else { 5 };
    assert!(p99 < Duration::from_secs(1) * slack, "{p99:?}");
    assert!(p95 < Duration::from_secs(5) * slack, "{p95:?}");
    operator.stop().await;
    harness.remove().await;
}
