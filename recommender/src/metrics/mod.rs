//! What Prometheus scrapes. Metrics of events are the same on every replica, because every replica reads
//! everything (aggregate them with `max`); metrics of requests add up.

mod experiments;
mod quality;
mod register;
mod resilience;
mod shown;

use std::collections::HashMap;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::StatusCode;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

pub use self::experiments::ExperimentMetrics;
pub use self::quality::QualityMetrics;
pub use self::register::Described;
use self::register::{Register, add};
pub use self::resilience::ResilienceMetrics;
pub use self::shown::ShownMetrics;

/// Every metric of one service; each service has its own registry, so that two may live in one process.
pub struct Metrics {
    registry: Registry,
    /// By route: what requests were answered like so far.
    served: ArcSwap<HashMap<Box<str>, Vec<Served>, ahash::RandomState>>,
    described: Vec<Described>,
    /// Caches, breakers and load.
    pub resilience: ResilienceMetrics,
    /// What comes in and how well it is predicted.
    pub quality: QualityMetrics,
    /// What recommendations lead to.
    pub experiments: ExperimentMetrics,
    /// What customers are shown.
    pub shown: ShownMetrics,
    /// Requests by route, method and status.
    pub requests: IntCounterVec,
    /// Duration of requests in seconds, by route and method.
    pub durations: HistogramVec,
    /// Requests refused because too many were in flight.
    pub shed: IntCounter,
    /// Answers by what they rest on: personal, session, popular.
    pub answers: IntCounterVec,
    /// Answers to customers by what became of their record: written, sampled_out, dropped, failed.
    pub impressions: IntCounterVec,
    /// Events read by type.
    pub events: IntCounterVec,
    /// Events skipped because their id was seen before.
    pub duplicates: IntCounter,
    /// Malformed records met while reading.
    pub malformed: IntCounter,
    /// Dead letters that this replica wrote.
    pub dead_letters: IntCounter,
    /// Customers whom the model was told to forget.
    pub erasures: IntCounter,
    /// Events with a plain customer id, where pseudonyms are configured.
    pub plain: IntCounter,
    /// E-mails of nobody known.
    pub emails_unmatched: IntCounter,
    /// E-mails read after a push notification.
    pub emails_fetched: IntCounter,
    /// Gmail's push notifications acknowledged.
    pub emails_pushed: IntCounter,
    /// Records not yet applied.
    pub lag_records: IntGauge,
    /// Age of the oldest record not yet applied, seconds.
    pub lag_seconds: Gauge,
    /// Products known.
    pub products: IntGauge,
    /// Customers known.
    pub customers: IntGauge,
    /// 1 once the log has been caught up with.
    pub ready: IntGauge,
    /// Seconds from a record's production to its effect, live records only.
    pub freshness: Histogram,
    /// Snapshots by what became of them: written, failed, skipped.
    pub snapshots: IntCounterVec,
    /// When the newest snapshot was taken that this replica wrote or started from, seconds since 1970.
    pub snapshot_created: Gauge,
    /// Seconds for which the last snapshot held up learning.
    pub snapshot_stall: Gauge,
    /// Seconds until the log acknowledged what a request appended.
    pub append: Histogram,
    /// Requests refused by a rate limit.
    pub rate_limited: IntCounterVec,
    /// Calls of Redis that failed, so that a local count stood in.
    pub redis_errors: IntCounter,
}

const REQUEST_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Metrics of requests of one route that were answered alike.
#[derive(Clone)]
struct Served {
    method: &'static str,
    status: StatusCode,
    requests: IntCounter,
    durations: Histogram,
}

impl Served {
    fn done(&self, took: Duration) {
        self.requests.inc();
        self.durations.observe(took.as_secs_f64());
    }
}

impl Metrics {
    /// Registers everything.
    pub fn new() -> Result<Self, prometheus::Error> {
        let register = Register::default();
        let r = &register;
        let counter = |name: &str, help: &str| r.counter(name, help);
        let gauge = |name: &str, help: &str| r.gauge(name, help);
        let counters = |name: &str, help: &str, label: &str| r.counters(name, help, label);
        let resilience = ResilienceMetrics::new(r)?;
        let quality = QualityMetrics::new(r)?;
        let experiments = ExperimentMetrics::new(r)?;
        let shown = ShownMetrics::new(r)?;
        let seconds = |name: &str, help: &str| {
            let opts = HistogramOpts::new(format!("recommender_{name}"), help);
            opts.buckets(REQUEST_BUCKETS.to_vec())
        };
        let info = IntGauge::with_opts(
            Opts::new("recommender_build_info", "Always 1; the label tells the version")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        info.set(1);
        add(r, info)?;
        let metrics = Self {
            resilience,
            quality,
            experiments,
            shown,
            requests: r.counters_by(
                "http_requests_total",
                "Requests by route, method and status",
                &["route", "method", "status"],
            )?,
            durations: add(
                r,
                HistogramVec::new(
                    seconds("http_request_duration_seconds", "Duration of requests in seconds"),
                    &["route", "method"],
                )?,
            )?,
            shed: counter(
                "http_requests_shed_total",
                "Requests refused because too many were in flight",
            )?,
            answers: counters(
                "answers_total",
                "Recommendations by what they rest on",
                "fallback",
            )?,
            impressions: counters(
                "impressions_total",
                "Answers to customers by what became of their record: written, sampled_out (over a thousand a second), \
                 dropped (the queue was full) or failed",
                "outcome",
            )?,
            events: counters("events_total", "Events read from the log by type", "type")?,
            duplicates: counter(
                "events_duplicate_total",
                "Events skipped because their id was seen before",
            )?,
            malformed: counter("events_malformed_total", "Malformed records read from the log")?,
            dead_letters: counter("dead_letters_total", "Dead letters written by this replica")?,
            erasures: counter("erasures_total", "Customers whom the model was told to forget")?,
            plain: counter(
                "events_plain_total",
                "Events that other producers wrote with a plain customer id, where pseudonyms are configured",
            )?,
            emails_unmatched: counter("emails_unmatched_total", "E-mails whose address no profile has")?,
            emails_fetched: counter(
                "emails_fetched_total",
                "E-mails that were read by Gmail's API after a push notification",
            )?,
            emails_pushed: counter(
                "emails_pushed_total",
                "Push notifications of Gmail that were acknowledged",
            )?,
            lag_records: gauge("lag_records", "Records of the log not yet applied")?,
            lag_seconds: add(
                r,
                Gauge::new(
                    "recommender_lag_seconds",
                    "Age of the oldest record not yet applied in seconds",
                )?,
            )?,
            products: gauge("products", "Products known")?,
            customers: gauge("customers", "Customers known")?,
            ready: gauge("ready", "1 once the log has been caught up with")?,
            freshness: add(
                r,
                Histogram::with_opts(seconds(
                    "freshness_seconds",
                    "Seconds from production of a live record to its effect",
                ))?,
            )?,
            snapshots: counters(
                "snapshots_total",
                "Snapshots by what became of them: written, failed, skipped at the start",
                "outcome",
            )?,
            snapshot_created: add(
                r,
                Gauge::new(
                    "recommender_snapshot_created_seconds",
                    "When the newest snapshot was taken that this replica wrote or started from, seconds since 1970",
                )?,
            )?,
            snapshot_stall: add(
                r,
                Gauge::new(
                    "recommender_snapshot_stall_seconds",
                    "Seconds for which the last snapshot held up learning",
                )?,
            )?,
            append: add(
                r,
                Histogram::with_opts(seconds(
                    "append_seconds",
                    "Seconds until the log acknowledged an append",
                ))?,
            )?,
            rate_limited: counters("rate_limited_total", "Requests refused by a rate limit", "limit")?,
            redis_errors: counter("redis_errors_total", "Calls of Redis that failed")?,
            served: ArcSwap::default(),
            registry: register.registry.clone(),
            described: register.described.take(),
        };
        #[cfg(target_os = "linux")]
        register.registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        metrics.begin_at_zero();
        Ok(metrics)
    }

    /// Shows what has not happened yet as zero: a counter that appears with its first event has no rate until the
    /// second, and a panel without a line looks like one that is broken.
    fn begin_at_zero(&self) {
        for (counters, values) in [
            (&self.answers, &["personal", "session", "popular", "consent"][..]),
            (
                &self.events,
                &["view", "click", "cart", "purchase", "return", "email"],
            ),
            (
                &self.rate_limited,
                &["requests", "resource", "sign-in", "webhook"],
            ),
            (&self.resilience.cache_requests, &["local", "shared", "miss"]),
            (
                &self.impressions,
                &["written", "sampled_out", "dropped", "failed"],
            ),
        ] {
            for value in values {
                counters.with_label_values(&[*value]);
            }
        }
    }

    /// One request is done.
    pub fn request(&self, route: &str, method: &'static str, status: StatusCode, took: Duration) {
        let known = self.served.load();
        let mut of_route = known.get(route).into_iter().flatten();
        let found = of_route.find(|served| (served.method, served.status) == (method, status));
        match found {
            Some(served) => served.done(took),
            None => self.first(route, method, status).done(took),
        }
    }

    /// The first of its kind: from then on its metrics are found without their labels being put together.
    fn first(&self, route: &str, method: &'static str, status: StatusCode) -> Served {
        let served = Served {
            method,
            status,
            requests: self.requests.with_label_values(&[route, method, status.as_str()]),
            durations: self.durations.with_label_values(&[route, method]),
        };
        self.served.rcu(|known| {
            let mut known = HashMap::clone(known);
            known.entry(route.into()).or_default().push(served.clone());
            known
        });
        served
    }

    /// What every metric of ours is called and means.
    pub fn described(&self) -> &[Described] {
        &self.described
    }

    /// Prometheus's text format.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_happened_yet_is_shown_as_zero() {
        let text = String::from_utf8(Metrics::new().unwrap().render().unwrap()).unwrap();
        for series in [
            "recommender_events_total{type=\"purchase\"} 0",
            "recommender_rate_limited_total{limit=\"webhook\"} 0",
            "recommender_cache_requests_total{result=\"shared\"} 0",
            "recommender_answers_total{fallback=\"session\"} 0",
        ] {
            assert!(text.contains(series), "{series} is not in\n{text}");
        }
    }

    #[test]
    fn two_services_in_one_process_do_not_share_metrics() {
        let (a, b) = (Metrics::new().unwrap(), Metrics::new().unwrap());
        a.events.with_label_values(&["click"]).inc();
        assert!(
            String::from_utf8(a.render().unwrap())
                .unwrap()
                .contains("recommender_events_total{type=\"click\"} 1")
        );
        assert!(
            !String::from_utf8(b.render().unwrap())
                .unwrap()
                .contains("type=\"click\"} 1")
        );
    }
}
