//! The operator's own metrics. No label names an object: a pipeline more is no time series more.

use std::time::Instant;

use prometheus::core::Collector;
use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// Counters, gauges and durations of the controller.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Reconciles that ended, with or without an error.
    pub reconciles: IntCounter,
    /// Reconciles that ended with an error, by the variant that failed.
    pub errors: IntCounterVec,
    /// Seconds by step.
    pub steps: HistogramVec,
    /// Status writes, by outcome.
    pub status_writes: IntCounterVec,
    /// Pipelines by the status of their Ready condition.
    pub pipelines: IntGaugeVec,
    /// Objects that cannot be read as a pipeline.
    pub malformed: IntGauge,
    /// Seconds that calls take, by what is called.
    pub dependencies: HistogramVec,
    /// Requests to the API server by method.
    pub requests: IntCounterVec,
    /// Requests to Kafka, all clusters together.
    pub kafka_requests: IntCounter,
    /// Watches that failed, by kind.
    pub watch_errors: IntCounterVec,
    /// Pipelines that wait to be looked at.
    pub queue_depth: IntGauge,
    /// Pipelines that are being looked at.
    pub running: IntGauge,
    /// 1 while this operator may act.
    pub leader: IntGauge,
}

impl Metrics {
    /// Fresh metrics in a registry of their own.
    ///
    /// # Errors
    /// When two metrics share a name: a bug.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let name = |suffix: &str| format!("recommendation_operator_{suffix}");
        let metrics = Self {
            reconciles: IntCounter::new(name("reconciles_total"), "Reconciles that ended")?,
            errors: IntCounterVec::new(
                Opts::new(
                    name("reconcile_errors_total"),
                    "Reconciles that failed, by what failed",
                ),
                &["reason"],
            )?,
            steps: HistogramVec::new(
                HistogramOpts::new(name("step_duration_seconds"), "Time by step of a reconcile").buckets(
                    vec![
                        0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
                    ],
                ),
                &["step"],
            )?,
            status_writes: IntCounterVec::new(
                Opts::new(
                    name("status_writes_total"),
                    "Writes of a pipeline's status, by outcome",
                ),
                &["outcome"],
            )?,
            pipelines: IntGaugeVec::new(
                Opts::new(
                    name("pipelines"),
                    "Pipelines by the status of their Ready condition",
                ),
                &["ready"],
            )?,
            malformed: IntGauge::new(
                name("malformed_pipelines"),
                "Objects that cannot be read as a pipeline",
            )?,
            dependencies: HistogramVec::new(
                HistogramOpts::new(
                    name("dependency_duration_seconds"),
                    "Time of calls by what is called: kubernetes, kafka, ksqldb, recommender",
                )
                .buckets(vec![
                    0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0,
                ]),
                &["dependency"],
            )?,
            requests: IntCounterVec::new(
                Opts::new(
                    name("kubernetes_requests_total"),
                    "Requests to the API server by method",
                ),
                &["method"],
            )?,
            kafka_requests: IntCounter::new(
                name("kafka_requests_total"),
                "Requests to Kafka, all clusters together",
            )?,
            watch_errors: IntCounterVec::new(
                Opts::new(
                    name("watch_errors_total"),
                    "Watches that failed and were begun again, by kind",
                ),
                &["kind"],
            )?,
            queue_depth: IntGauge::new(name("queue_depth"), "Pipelines that wait to be looked at")?,
            running: IntGauge::new(name("reconciles_running"), "Pipelines that are being looked at")?,
            leader: IntGauge::new(name("leader"), "1 while this operator may act")?,
            registry,
        };
        for collector in metrics.collectors() {
            metrics.registry.register(collector)?;
        }
        #[cfg(target_os = "linux")]
        metrics.registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        Ok(metrics)
    }

    /// All of them but those of the process.
    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.reconciles.clone()),
            Box::new(self.errors.clone()),
            Box::new(self.steps.clone()),
            Box::new(self.status_writes.clone()),
            Box::new(self.pipelines.clone()),
            Box::new(self.malformed.clone()),
            Box::new(self.dependencies.clone()),
            Box::new(self.requests.clone()),
            Box::new(self.kafka_requests.clone()),
            Box::new(self.watch_errors.clone()),
            Box::new(self.queue_depth.clone()),
            Box::new(self.running.clone()),
            Box::new(self.leader.clone()),
        ]
    }

    /// A call to `dependency` that began then has ended.
    pub fn dependency(&self, dependency: &str, begun: Instant) {
        self.dependencies
            .with_label_values(&[dependency])
            .observe(begun.elapsed().as_secs_f64());
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "cannot render the metrics");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that is counted and registered nowhere would be shown to nobody.
    #[test]
    fn every_metric_is_exported() {
        let metrics = Metrics::new().unwrap();
        metrics.watch_errors.with_label_values(&["Pod"]).inc();
        metrics.errors.with_label_values(&["Read"]).inc();
        metrics.requests.with_label_values(&["GET"]).inc();
        metrics.status_writes.with_label_values(&["written"]).inc();
        metrics.pipelines.with_label_values(&["true"]).set(1);
        metrics.steps.with_label_values(&["apply"]).observe(0.1);
        metrics.dependencies.with_label_values(&["kafka"]).observe(0.1);
        let text = metrics.render();
        let source = include_str!("metrics.rs").split("#[cfg(test)]").next().unwrap();
        let names = source
            .split("name(\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap());
        let mut count = 0;
        for name in names {
            assert!(
                text.contains(&format!("recommendation_operator_{name}")),
                "{name}"
            );
            count += 1;
        }
        assert!(count >= 13, "{count}");
    }

    #[test]
    fn every_metric_stands_in_the_reference_with_its_labels_and_meaning() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docs/reference/operator-metrics.md"
        );
        let mut rows: Vec<String> = Metrics::new()
            .unwrap()
            .collectors()
            .iter()
            .flat_map(|collector| {
                collector
                    .desc()
                    .into_iter()
                    .map(|metric| {
                        let labels = metric.variable_labels.join(", ");
                        format!("| `{}` | {labels} | {} |", metric.fq_name, metric.help)
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        rows.sort();
        let page = format!(
            "# Metrics of the operator\n\n\
             Generated from the code: `UPDATE=1 cargo test -p recommendation-operator --lib metrics` writes it. Both operators\n\
             serve them on port 9090 at `/metrics`; `process_*` comes with Prometheus's client library. What to be woken for is\n\
             among the [alerts](alerts.md); the recommender's metrics have [a page of their own](../metrics.md).\n\n\
             | metric | labels | meaning |\n|---|---|---|\n{}\n",
            rows.join("\n")
        );
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap_or_default() == page,
            "docs/reference/operator-metrics.md is not what the code says: \
             `UPDATE=1 cargo test -p recommendation-operator --lib metrics` writes it"
        );
    }
}
