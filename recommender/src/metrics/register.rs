//! Registers metrics and remembers what they are called, so that the documentation can be held to it.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// A metric's name, labels and meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// As scraped.
    pub name: String,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// One sentence.
    pub help: String,
}

#[derive(Default)]
pub(super) struct Register {
    pub registry: Registry,
    pub described: RefCell<Vec<Described>>,
}

/// Registers one metric.
pub(super) fn add<C: Collector + Clone + 'static>(r: &Register, metric: C) -> Result<C, prometheus::Error> {
    r.registry.register(Box::new(metric.clone()))?;
    let described = metric.desc().into_iter().map(|desc| Described {
        name: desc.fq_name.clone(),
        labels: desc.variable_labels.clone(),
        help: desc.help.clone(),
    });
    r.described.borrow_mut().extend(described);
    Ok(metric)
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("recommender_{name}"), help)
}

impl Register {
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        add(self, IntCounter::with_opts(opts(name, help))?)
    }

    pub fn counters(&self, name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
        self.counters_by(name, help, &[label])
    }

    pub fn counters_by(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        add(self, IntCounterVec::new(opts(name, help), labels)?)
    }

    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        add(self, IntGauge::with_opts(opts(name, help))?)
    }

    pub fn gauges(&self, name: &str, help: &str, label: &str) -> Result<IntGaugeVec, prometheus::Error> {
        add(self, IntGaugeVec::new(opts(name, help), &[label])?)
    }

    pub fn share(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        add(self, Gauge::with_opts(opts(name, help))?)
    }

    pub fn shares(&self, name: &str, help: &str, label: &str) -> Result<GaugeVec, prometheus::Error> {
        add(self, GaugeVec::new(opts(name, help), &[label])?)
    }
}
