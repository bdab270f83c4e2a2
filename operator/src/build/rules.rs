//! The Prometheus operator's PrometheusRule, untyped: its CRD may not be installed. Burn rates as in Google's *Site
//! Reliability Workbook*, chapter 5: a fast and a slow pair of windows that page, and one that opens a ticket.

use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use recommendation_api::names::Children;
use serde_json::{Value, json};

use super::metadata;
use crate::validate::ValidatedPipeline;

/// Share of requests that may fail over thirty days.
const ERROR_BUDGET: f64 = 0.001;
/// Share of requests that may take longer than [`SLOW`].
const SLOW_BUDGET: f64 = 0.01;
/// Upper bound in seconds of the histogram's bucket that is fast enough.
const SLOW: &str = "0.1";
/// Multiple of the budget, its long and its short window, and who is told.
const BURNS: [(f64, &str, &str, &str); 3] = [
    (14.4, "1h", "5m", "critical"),
    (6.0, "6h", "30m", "critical"),
    (1.0, "3d", "6h", "warning"),
];

/// What the API server must know for a PrometheusRule to be applied.
pub fn gvk() -> GroupVersionKind {
    GroupVersionKind::gvk("monitoring.coreos.com", "v1", "PrometheusRule")
}

pub(super) fn build(pipeline: &ValidatedPipeline) -> DynamicObject {
    let id = &pipeline.id;
    let mut object = DynamicObject::new(&id.name, &ApiResource::from_gvk(&gvk()));
    object.metadata = metadata(id, Children(&id.name).workload());
    object
        .metadata
        .labels
        .get_or_insert_default()
        .extend(pipeline.rules.labels.clone());
    let group = |name: &str, rules: Vec<Value>| json!({"name": format!("{}/{}.{name}", id.namespace, id.name), "rules": rules});
    object.data = json!({"spec": {"groups": [
        group("requests", requests(pipeline)),
        group("model", model(pipeline)),
    ]}});
    object
}

/// What picks this pipeline's time series: the labels that a ServiceMonitor's target gets.
fn series(pipeline: &ValidatedPipeline) -> String {
    let id = &pipeline.id;
    format!(
        r#"namespace="{}",service="{}""#,
        id.namespace,
        Children(&id.name).internal_service()
    )
}

fn requests(pipeline: &ValidatedPipeline) -> Vec<Value> {
    let series = series(pipeline);
    let failing = |window: &str| {
        format!(
            "(sum(rate(recommender_http_requests_total{{{series},status=~\"5..\"}}[{window}])) / \
             sum(rate(recommender_http_requests_total{{{series}}}[{window}])))"
        )
    };
    let slow = |window: &str| {
        format!(
            "(1 - sum(rate(recommender_http_request_duration_seconds_bucket{{{series},le=\"{SLOW}\"}}[{window}])) / \
             sum(rate(recommender_http_request_duration_seconds_count{{{series}}}[{window}])))"
        )
    };
    let burn =
        |ratio: &dyn Fn(&str) -> String, budget: f64, (factor, long, short, _): (f64, &str, &str, &str)| {
            let limit = factor * budget;
            format!("{} > {limit:.4} and {} > {limit:.4}", ratio(long), ratio(short))
        };
    let mut rules = Vec::new();
    for window in BURNS {
        let (factor, long, _, severity) = window;
        rules.push(alert(
            pipeline,
            "RecommenderErrorBudgetBurn",
            &burn(&failing, ERROR_BUDGET, window),
            "2m",
            (severity, long),
            &format!("requests fail {factor} times as fast as 99.9 % of success in 30 days allow"),
        ));
        rules.push(alert(
            pipeline,
            "RecommenderLatencyBudgetBurn",
            &burn(&slow, SLOW_BUDGET, window),
            "2m",
            (severity, long),
            &format!("requests over {SLOW} s are {factor} times as many as 1 % in 30 days allow"),
        ));
    }
    rules.push(alert(
        pipeline,
        "RecommenderDown",
        &format!("absent(up{{{series}}} == 1)"),
        "5m",
        ("critical", ""),
        "no replica is scraped: look at the pipeline's conditions, then at its pods",
    ));
    rules
}

fn model(pipeline: &ValidatedPipeline) -> Vec<Value> {
    let series = series(pipeline);
    let quality = &pipeline.config.quality;
    vec![
        alert(
            pipeline,
            "RecommenderLagging",
            &format!(
                "max(recommender_lag_seconds{{{series}}}) > {}",
                quality.max_lag_seconds
            ),
            "5m",
            ("warning", ""),
            "the slowest replica is further behind the log than quality.maxLagSeconds",
        ),
        // Records wait, and none is learned: not slow, but stuck.
        alert(
            pipeline,
            "RecommenderStale",
            &format!(
                "max(recommender_lag_records{{{series}}}) > 0 and \
                 max(sum by (pod) (rate(recommender_events_total{{{series}}}[10m]))) == 0"
            ),
            "10m",
            ("critical", ""),
            "records wait in the log and no replica learns any: recommendations are as old as this alert",
        ),
        alert(
            pipeline,
            "RecommenderDeadLetters",
            &format!("sum(increase(recommender_dead_letters_total{{{series}}}[15m])) > 0"),
            "0m",
            ("warning", ""),
            "records were malformed: the dead-letter topic's header dead-letter-reason says why",
        ),
        alert(
            pipeline,
            "RecommenderModelDrifted",
            &format!(
                "max(recommender_drift_psi{{{series}}}) > {}",
                quality.drift_threshold
            ),
            "15m",
            ("warning", ""),
            "the last day differs from the week before it by more than quality.driftThreshold: see what changed in the shop",
        ),
    ]
}

fn alert(
    pipeline: &ValidatedPipeline,
    name: &str,
    expr: &str,
    lasting: &str,
    (severity, window): (&str, &str),
    summary: &str,
) -> Value {
    let id = &pipeline.id;
    let mut labels = json!({"severity": severity, "namespace": id.namespace, "pipeline": id.name});
    if !window.is_empty() {
        labels["window"] = json!(window);
    }
    json!({
        "alert": name,
        "expr": expr,
        "for": lasting,
        "labels": labels,
        "annotations": {"summary": format!("{}/{}: {summary}", id.namespace, id.name)},
    })
}
