//! What comes in, and how well it is predicted.

use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::register::Register;

/// Metrics of data and prediction quality.
pub struct QualityMetrics {
    /// Events by what became of them.
    pub outcomes: IntCounterVec,
    /// Events of products that the catalogue does not have.
    pub unknown_products: IntCounter,
    /// Events that came after younger ones.
    pub out_of_order: IntCounter,
    /// Share of pairs of customer and product about which nothing is known, 0..=1.
    pub sparsity: Gauge,
    /// Population stability index, by what is compared: products, event_types, since_fit.
    pub drift: GaugeVec,
    /// 1 while the drift is over its threshold.
    pub drifted: IntGauge,
    /// Prequential hit rate@10 by algorithm.
    pub hit_rate: GaugeVec,
    /// Prequential mean reciprocal rank@10 by algorithm.
    pub reciprocal_rank: GaugeVec,
    /// Predictions ever by algorithm.
    pub predictions: IntGaugeVec,
    /// 1 for the model that answers.
    pub model_info: IntGaugeVec,
    /// Customers with an event beyond their rate.
    pub damped_customers: IntGauge,
    /// Customers of whom nothing is learned any more.
    pub excluded_customers: IntGauge,
    /// Catalogue entries that are no products.
    pub labelled_non_products: IntGauge,
    /// Embeddings of the catalogue that are of no use.
    pub ignored_embeddings: IntGauge,
    /// Loads of the model that the user brings by what became of them: installed, failed.
    pub onnx_loads: IntCounterVec,
    /// Answers that it could not give.
    pub onnx_failures: IntCounter,
}

impl QualityMetrics {
    pub(super) fn new(r: &Register) -> Result<Self, prometheus::Error> {
        Ok(Self {
            outcomes: r.counters(
                "events_outcome_total",
                "Events given to the model by what became of them: learned, weightless, damped (more a minute than \
                 a person makes: a bot), excluded (of such a customer), non_product, refused (over limits.maxProducts), too_old or invalid",
                "outcome",
            )?,
            unknown_products: r.counter(
                "events_unknown_product_total",
                "Events of products that the catalogue does not have, once it has any",
            )?,
            out_of_order: r.counter(
                "events_out_of_order_total",
                "Events more than a minute older than the newest of their partition",
            )?,
            sparsity: r.share(
                "sparsity",
                "Share of pairs of customer and product without an event, 0 to 1, from a sample of customers",
            )?,
            drift: r.shares(
                "drift_psi",
                "Population stability index of the last day against the week before it, by what is compared: \
                 products, event_types, or products against what fitted models were made from (since_fit)",
                "of",
            )?,
            drifted: r.gauge("drifted", "1 while the drift is over quality.driftThreshold")?,
            hit_rate: r.shares(
                "prequential_hit_rate_at_10",
                "Share of the predicted events whose product was among the ten recommended just before",
                "algorithm",
            )?,
            reciprocal_rank: r.shares(
                "prequential_mrr_at_10",
                "Mean reciprocal rank of the product among the ten recommended just before its event",
                "algorithm",
            )?,
            predictions: r.gauges(
                "prequential_predictions",
                "Events predicted before they were learned: of those fit for it, one in 128",
                "algorithm",
            )?,
            model_info: r.gauges("model_info", "1 for the version of the model that answers", "version")?,
            damped_customers: r.gauge(
                "damped_customers",
                "Customers with an event beyond quality.maxEventsPerMinute since the start",
            )?,
            excluded_customers: r.gauge(
                "excluded_customers",
                "Customers of whom nothing is learned any more for their rate of events",
            )?,
            labelled_non_products: r.gauge(
                "labelled_non_products",
                "Entries of the catalogue that are labelled as no products (postage, manual lines)",
            )?,
            ignored_embeddings: r.gauge(
                "ignored_embeddings",
                "Embeddings of the catalogue that are ignored: of another length than most, or without direction",
            )?,
            onnx_loads: r.counters(
                "onnx_loads_total",
                "Loads of the model of model.onnx by what became of them: installed or failed",
                "outcome",
            )?,
            onnx_failures: r.counter(
                "onnx_failures_total",
                "Answers that the model of model.onnx could not give, so that Hybrid did",
            )?,
        })
    }
}
