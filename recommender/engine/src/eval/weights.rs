//! Weights of the blend from a shop's own log: what the trainer fits beside the matrix models.

use std::{sync::Arc, time::Duration};

use ahash::AHashMap;

use super::{
    data::{Dataset, Task, Touch},
    params::Params,
    run::EvalError,
    tune::{Search, Tuned, weights_only},
};
use crate::{config::EngineConfig, event::EventKind, fitted::Artifact, reader::Reader};

impl Dataset {
    /// What an engine knows of its customers, a touch per product: its last time, with the strongest thing
    /// done. There is no task: it is for [`Dataset::validations`].
    pub fn of_engine(reader: &Reader) -> Dataset {
        let shared = reader.shared();
        let mut named: AHashMap<u32, u32> = AHashMap::new();
        let mut products: Vec<Arc<str>> = Vec::new();
        let mut customers: Vec<(Arc<str>, Vec<Touch>)> = Vec::new();
        let mut purchases_only = false;
        let slots: Vec<_> = shared.customers.pin().values().cloned().collect();
        for slot in slots {
            let history = slot.history.load();
            let known = history.entries.iter().rev().filter(|entry| entry.interest > 0);
            let touches: Vec<Touch> = known
                .map(|entry| {
                    let kind = entry.strongest();
                    purchases_only |= kind == EventKind::Purchase;
                    let product = *named.entry(entry.product).or_insert_with(|| {
                        products.push(Arc::clone(&shared.product(entry.product).name));
                        products.len() as u32 - 1
                    });
                    Touch {
                        product,
                        kind,
                        time_ms: entry.last_ms,
                    }
                })
                .collect();
            if !touches.is_empty() {
                customers.push((Arc::clone(&slot.name), touches));
            }
        }
        // Replicas with the same histories see the same data.
        customers.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let times = customers
            .iter()
            .flat_map(|(_, touches)| touches)
            .map(|touch| touch.time_ms);
        let now_ms = times.max().unwrap_or_default();
        let data = Dataset {
            products,
            catalogue: 0,
            customers,
            task: Task::Customers(Vec::new()),
            now_ms,
            timed: true,
            purchases_only,
        };
        data.with_catalogue()
    }
}

/// Fits the weights of `Hybrid` to what customers turned to last: the last part of the log is taken away,
/// the members learn from the rest, and the weights are those that find the part again best, drawn to the
/// configured ones. `None` if there is too little to learn from. On `threads` threads for about a minute on
/// a million interactions; `elapsed` says how long it has been going on, `budget` how long it may.
pub fn fit_blend_weights(
    reader: &Reader,
    config: &EngineConfig,
    threads: usize,
    budget: Duration,
    elapsed: &dyn Fn() -> Duration,
    version: &str,
) -> Result<Option<Artifact>, EvalError> {
    let data = Dataset::of_engine(reader);
    let params = Params::of_engine(config);
    let search = Search {
        k: 10,
        threads,
        budget,
        elapsed,
        progress: &mut |_| {},
    };
    let fitted = weights_only(&data, &params, search)?;
    Ok(fitted.map(|Tuned { params, .. }| Artifact::blend_weights(params.blend, version, data.now_ms)))
}
