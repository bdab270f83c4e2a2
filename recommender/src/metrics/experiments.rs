//! What recommendations lead to, by arm and placement.

use prometheus::{GaugeVec, Opts};

use super::register::{Register, add};
use crate::insights::report::{ArmView, Report};

/// Labels of an arm.
const LABELS: [&str; 3] = ["experiment", "arm", "placement"];
/// The placement of an arm as a whole.
const ALL: &str = "all";

/// Metrics of arms, over the last week. The same on every replica.
pub struct ExperimentMetrics {
    customers: GaugeVec,
    answers: GaugeVec,
    click_through: GaugeVec,
    conversion: GaugeVec,
    revenue: GaugeVec,
}

impl ExperimentMetrics {
    pub(super) fn new(r: &Register) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let opts = Opts::new(format!("recommender_{name}"), help);
            add(r, GaugeVec::new(opts, &LABELS)?)
        };
        Ok(Self {
            customers: gauge(
                "experiment_customers",
                "Customers with an answer in the last week, by experiment (empty: none), arm and placement (all: the \
                 arm as a whole)",
            )?,
            answers: gauge("experiment_answers", "Answers shown in the last week")?,
            click_through: gauge(
                "experiment_click_through_rate",
                "Share of the answers of the last week that led to a view or click within a day",
            )?,
            conversion: gauge(
                "experiment_conversion_rate",
                "Share of the customers with an answer in the last week that it led to a purchase within a day",
            )?,
            revenue: gauge(
                "experiment_revenue",
                "Price times quantity of the purchases that answers of the last week led to within a day",
            )?,
        })
    }

    /// Tells what a report says.
    pub fn tell(&self, report: &Report) {
        for gauge in [
            &self.customers,
            &self.answers,
            &self.click_through,
            &self.conversion,
            &self.revenue,
        ] {
            gauge.reset();
        }
        for experiment in &report.experiments {
            for arm in &experiment.arms {
                self.tell_arm(experiment.name.as_deref().unwrap_or_default(), arm);
            }
        }
    }

    fn tell_arm(&self, experiment: &str, arm: &ArmView) {
        let labels = [experiment, &arm.arm, arm.placement.as_deref().unwrap_or(ALL)];
        self.customers
            .with_label_values(&labels)
            .set(arm.customers as f64);
        self.answers.with_label_values(&labels).set(arm.answers as f64);
        self.click_through
            .with_label_values(&labels)
            .set(arm.click_through.value);
        self.conversion
            .with_label_values(&labels)
            .set(arm.conversion.value);
        self.revenue.with_label_values(&labels).set(arm.revenue);
    }
}
