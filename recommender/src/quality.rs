//! Data and prediction quality: what the ingest thread notes event by event, and what is looked up when somebody
//! scrapes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use recommendation_api::report as api;
use recommender_engine::drift::{Drift, DriftReport, DriftWindows};
use recommender_engine::oddities::{Quality, Sparsity};
use recommender_engine::{EventKind, Reader, Stats};

use crate::config::Live;
use crate::metrics::{Metrics, QualityMetrics};

/// How often the windows are compared.
const COMPARE_EVERY: Duration = Duration::from_secs(5);
/// Customers that sparsity is taken from at each scrape: some tens of microseconds.
const SPARSITY_SAMPLE: usize = 1_000;

/// What the ingest thread notes.
pub struct QualityWatch {
    reader: Reader,
    metrics: Arc<Metrics>,
    quality: Quality,
    drift: Drift,
    compared: Option<(Instant, Option<DriftReport>)>,
}

impl QualityWatch {
    /// Nothing noted yet.
    pub fn new(reader: Reader, metrics: Arc<Metrics>) -> Self {
        Self {
            reader,
            metrics,
            quality: Quality::default(),
            drift: Drift::new(DriftWindows::default()),
            compared: None,
        }
    }

    /// Notes one event. Oddities are counted of live events only: at the start, when the log is read again, they would
    /// be counted a second time.
    pub fn observe(&mut self, partition: i32, product: &str, kind: EventKind, time_ms: i64, live: bool) {
        self.drift.observe(product, kind, time_ms);
        if !live {
            return;
        }
        let odd = self.quality.observe(&self.reader, partition, product, time_ms);
        if odd.unknown_product {
            self.metrics.quality.unknown_products.inc();
        }
        if odd.out_of_order {
            self.metrics.quality.out_of_order.inc();
        }
    }

    /// Goes on with another model: one that was restored.
    pub fn follow(&mut self, reader: Reader) {
        self.reader = reader;
    }

    /// What is counted for drift, to go on with elsewhere.
    pub fn counted(&self) -> &Drift {
        &self.drift
    }

    /// Goes on with what was counted before: a week of events that a snapshot spares to be read again.
    pub fn go_on(&mut self, drift: Drift) {
        if drift.is_of(DriftWindows::default()) {
            self.drift = drift;
        }
    }

    /// Fitted models that were made then answer from now on, or none: what customers do now is compared with what they
    /// were made from.
    pub fn fitted(&mut self, made_ms: Option<i64>) {
        self.drift.fitted(made_ms);
        self.compared = None;
    }

    /// Compares the windows that end at `now_ms`, every few seconds.
    pub fn compare(&mut self, now_ms: i64) {
        if self.compared.is_none_or(|(at, _)| at.elapsed() >= COMPARE_EVERY) {
            self.compared = Some((Instant::now(), self.drift.report(now_ms)));
        }
    }

    /// The drift as it was last compared.
    pub fn drift(&self) -> Option<DriftReport> {
        self.compared.and_then(|(_, report)| report)
    }
}

/// The drift as `/status` tells it.
pub fn drift_view(drift: Option<DriftReport>, live: &Live) -> Option<api::DriftReport> {
    drift.map(|drift| api::DriftReport {
        products: drift.products,
        event_types: drift.event_types,
        since_fit: drift.since_fit,
        threshold: live.drift_threshold,
        drifted: drift.worst() > live.drift_threshold,
    })
}

/// What is looked up when somebody scrapes.
#[derive(Default)]
pub struct Scrape {
    seen: Mutex<Stats>,
}

impl Scrape {
    /// Brings the metrics up to date.
    pub fn refresh(&self, metrics: &Metrics, reader: &Reader, live: &Live, drift: Option<DriftReport>) {
        let quality = &metrics.quality;
        self.outcomes(quality, reader.stats());
        if let Some(found) = Sparsity::of(reader, SPARSITY_SAMPLE) {
            quality.sparsity.set(found.sparsity);
        }
        for rate in reader.hit_rates() {
            let algorithm = &[rate.algorithm.name()];
            let predictions = i64::try_from(rate.predictions).unwrap_or(i64::MAX);
            quality
                .hit_rate
                .with_label_values(algorithm)
                .set(f64::from(rate.hit_rate_at_10));
            quality
                .reciprocal_rank
                .with_label_values(algorithm)
                .set(f64::from(rate.mrr_at_10));
            quality.predictions.with_label_values(algorithm).set(predictions);
        }
        if let Some(drift) = drift_view(drift, live) {
            quality.drift.with_label_values(&["products"]).set(drift.products);
            quality
                .drift
                .with_label_values(&["event_types"])
                .set(drift.event_types);
            match drift.since_fit {
                Some(since_fit) => quality.drift.with_label_values(&["since_fit"]).set(since_fit),
                // Fails where it was never told, which is as well.
                None => drop(quality.drift.remove_label_values(&["since_fit"])),
            }
            quality.drifted.set(i64::from(drift.drifted));
        } else {
            // No claim is made any more, not even the last one.
            quality.drift.reset();
            quality.drifted.set(0);
        }
        quality.model_info.reset();
        quality
            .model_info
            .with_label_values(&[live.version.as_str()])
            .set(1);
    }

    fn outcomes(&self, metrics: &QualityMetrics, now: Stats) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (outcome, count, before) in [
            ("learned", now.learned, seen.learned),
            ("weightless", now.weightless, seen.weightless),
            ("damped", now.damped, seen.damped),
            ("excluded", now.excluded, seen.excluded),
            ("non_product", now.non_products, seen.non_products),
            ("refused", now.refused_products, seen.refused_products),
            ("too_old", now.too_old, seen.too_old),
            ("invalid", now.invalid, seen.invalid),
        ] {
            metrics
                .outcomes
                .with_label_values(&[outcome])
                .inc_by(count.saturating_sub(before));
        }
        metrics
            .onnx_failures
            .inc_by(now.onnx_failures.saturating_sub(seen.onnx_failures));
        for (gauge, value) in [
            (&metrics.damped_customers, now.damped_customers),
            (&metrics.excluded_customers, now.excluded_customers),
            (&metrics.labelled_non_products, now.labelled_non_products),
            (&metrics.ignored_embeddings, now.ignored_embeddings),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        *seen = now;
    }
}

/// Prequential hit rate@10 of the algorithm that is configured, once it is measured; with `Auto` of the best.
pub fn hit_rate(reader: &Reader, algorithm: &str) -> Option<f64> {
    let rates = reader.hit_rates();
    let configured = rates.iter().find(|rate| rate.algorithm.name() == algorithm);
    let best = || {
        rates
            .iter()
            .max_by(|a, b| a.hit_rate_at_10.total_cmp(&b.hit_rate_at_10))
    };
    configured
        .or_else(|| best().filter(|_| algorithm == recommender_engine::Algorithm::Auto.name()))
        .map(|rate| f64::from(rate.hit_rate_at_10))
}

#[cfg(test)]
mod tests {
    use recommendation_api::RecommenderConfig;
    use recommender_engine::{EngineConfig, Interaction, engine};

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn a_change_of_what_is_bought_is_told_with_the_threshold_in_force() {
        let (writer, reader) = engine(EngineConfig::default()).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut watch = QualityWatch::new(writer.reader(), Arc::clone(&metrics));
        let hour = 3_600_000;
        for n in 0..4_000 {
            // Three days of views, then a day of purchases.
            let (kind, at) = if n < 3_000 {
                (EventKind::View, n * 3 * 24 * hour / 3_000)
            } else {
                (
                    EventKind::Purchase,
                    3 * 24 * hour + (n - 3_000) * 23 * hour / 1_000,
                )
            };
            watch.observe(0, &format!("p{}", n % 40), kind, NOW + at, true);
        }
        watch.compare(NOW + 4 * 24 * hour - hour);
        let drift = watch.drift();
        let mut config = RecommenderConfig::default();
        let told = drift_view(drift, &Live::new(&config).unwrap()).unwrap();
        assert!(
            told.drifted && told.event_types > 1.0 && told.products < 0.1,
            "{told:?}"
        );
        config.quality.drift_threshold = 1e6;
        let live = Live::new(&config).unwrap();
        assert!(!drift_view(drift, &live).unwrap().drifted);
        Scrape::default().refresh(&metrics, &reader, &live, drift);
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        assert!(
            text.contains("recommender_drift_psi{of=\"event_types\"}"),
            "{text}"
        );
    }

    #[test]
    fn what_became_of_events_is_counted_once_however_often_it_is_scraped() {
        let (mut writer, reader) = engine(EngineConfig {
            max_events_per_minute: 2,
            exclude_after_damped: 2,
            ..EngineConfig::default()
        })
        .unwrap();
        let (metrics, scrape) = (Metrics::new().unwrap(), Scrape::default());
        let live = Live::new(&RecommenderConfig::default()).unwrap();
        for n in 0..5 {
            writer.apply(&Interaction::new("bot", "cup", EventKind::View, NOW + n), NOW);
            scrape.refresh(&metrics, &reader, &live, None);
        }
        let counted = |outcome| metrics.quality.outcomes.with_label_values(&[outcome]).get();
        assert_eq!(
            ["learned", "damped", "excluded"].map(counted),
            [2, 2, 1],
            "the fifth is of somebody excluded"
        );
        assert_eq!(metrics.quality.damped_customers.get(), 1);
        assert_eq!(metrics.quality.excluded_customers.get(), 1);
        assert!(metrics.quality.sparsity.get() >= 0.0);
    }
}
