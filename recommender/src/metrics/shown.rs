//! What customers are shown: whether the shop's whole catalogue has a chance, or always the same few products.

use prometheus::{Gauge, IntGauge};

use super::register::Register;

/// Gauges of over-personalisation. Not a number while there is nothing to tell.
pub struct ShownMetrics {
    /// Share of the products known that were shown, 0..=1.
    pub coverage: Gauge,
    /// How unlike each other the products of an answer are, 0..=1.
    pub diversity: Gauge,
    /// How surprising a product that is shown is, bits.
    pub novelty: Gauge,
    /// Share of what is shown that was put there to be tried out, 0..=1.
    pub explored: Gauge,
    /// Answers that the others rest on.
    pub answers: IntGauge,
}

impl ShownMetrics {
    pub(super) fn new(r: &Register) -> Result<Self, prometheus::Error> {
        Ok(Self {
            coverage: r.share(
                "shown_coverage",
                "Share of the products known that an answer of the last hour showed, 0 to 1",
            )?,
            diversity: r.share(
                "shown_diversity",
                "Mean over answers of the last hour of one less the mean similarity of two of their products, 0 to 1",
            )?,
            novelty: r.share(
                "shown_novelty_bits",
                "Mean surprise of the products shown in the last hour: -log2 of their share of recent popularity",
            )?,
            explored: r.share(
                "shown_explored",
                "Share of the products shown in the last hour that exploration put there, 0 to 1",
            )?,
            answers: r.gauge(
                "shown_answers",
                "Answers of the last hour that the shown_ figures rest on: at most fifty a second",
            )?,
        })
    }
}
