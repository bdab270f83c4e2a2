//! What customers were shown in the last hour: how much of the catalogue, how surprising, how varied. A model that is
//! too sure of its customers shows ever fewer products to ever more of them, long before its hit rate says so.
//!
//! Cheap enough to be always on: at most fifty answers a second are looked at, however many are given.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use recommender_engine::Reader;
use serde::{Deserialize, Serialize};

use crate::metrics::ShownMetrics;

/// Least time between two answers that are looked at, milliseconds.
const EVERY_MS: i64 = 20;
/// The window moves in steps of this length, milliseconds.
const STEP_MS: i64 = 10 * 60_000;
/// Steps of the window: an hour.
const STEPS: usize = 6;
/// The sum of all popularity is taken anew after this time, milliseconds: it looks at every product.
const TOTAL_FOR_MS: i64 = 60_000;

/// Looks at answers.
#[derive(Default)]
pub struct Shown {
    next_ms: AtomicI64,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    /// Oldest first, with the number of the step.
    steps: VecDeque<(i64, Sums)>,
    /// The step in which each product was last shown.
    last: HashMap<Arc<str>, i64>,
    total: Option<(i64, f64)>,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    answers: u64,
    products: u64,
    explored: u64,
    /// Sum and number, for means.
    diversity: (f64, u64),
    novelty: (f64, u64),
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.answers += other.answers;
        self.products += other.products;
        self.explored += other.explored;
        self.diversity = (
            self.diversity.0 + other.diversity.0,
            self.diversity.1 + other.diversity.1,
        );
        self.novelty = (self.novelty.0 + other.novelty.0, self.novelty.1 + other.novelty.1);
    }
}

/// What was shown in the window. A figure is absent while nothing tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Answers that were looked at.
    pub answers: u64,
    /// Share of the products known that were shown, 0..=1.
    pub coverage: Option<f64>,
    /// Mean over answers of one less the mean similarity of two of their products, 0..=1.
    pub diversity: Option<f64>,
    /// Mean surprise of the products shown, bits.
    pub novelty_bits: Option<f64>,
    /// Share of the products shown that exploration put there, 0..=1.
    pub explored: Option<f64>,
}

/// The parts of an answer that figures are made of.
#[derive(Deserialize)]
struct Sent {
    items: Vec<SentItem>,
}

#[derive(Deserialize)]
struct SentItem {
    product_id: Arc<str>,
    #[serde(default)]
    explored: bool,
}

impl Shown {
    /// Looks at one answer as it is sent, from a cache or not, unless the last one was only just looked at.
    pub fn observe(&self, reader: &Reader, json: &[u8], now_ms: i64) {
        let due = |next: i64| (now_ms >= next).then_some(now_ms + EVERY_MS);
        let order = Ordering::Relaxed;
        // Nearly always it is not due: only read then, for every thread reads it at every answer.
        if due(self.next_ms.load(order)).is_none() || self.next_ms.fetch_update(order, order, due).is_err() {
            return;
        }
        match serde_json::from_slice::<Sent>(json) {
            Ok(sent) if sent.items.is_empty() => {}
            Ok(sent) => self.count(reader, &sent.items, now_ms),
            Err(e) => tracing::error!(error = %e, "an answer of ours is not understood"),
        }
    }

    fn count(&self, reader: &Reader, items: &[SentItem], now_ms: i64) {
        let names: Vec<&str> = items.iter().map(|item| &*item.product_id).collect();
        let diversity = reader.variety(&names);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let total = window.total(reader, now_ms);
        let mut sums = Sums {
            answers: 1,
            products: items.len() as u64,
            explored: items.iter().filter(|item| item.explored).count() as u64,
            ..Sums::default()
        };
        if let Some(diversity) = diversity {
            sums.diversity = (diversity, 1);
        }
        for bits in names.iter().filter_map(|name| reader.surprise(name, total)) {
            sums.novelty = (sums.novelty.0 + bits, sums.novelty.1 + 1);
        }
        let step = now_ms.div_euclid(STEP_MS);
        window.move_to(step);
        match window.steps.back_mut().filter(|(newest, _)| *newest == step) {
            Some((_, known)) => known.add(&sums),
            None => window.steps.push_back((step, sums)),
        }
        for item in items {
            window.last.insert(Arc::clone(&item.product_id), step);
        }
    }

    /// The window that ends now.
    pub fn figures(&self, reader: &Reader, now_ms: i64) -> Figures {
        let products = reader.stats().products;
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.move_to(now_ms.div_euclid(STEP_MS));
        let mut sums = Sums::default();
        window.steps.iter().for_each(|(_, step)| sums.add(step));
        let mean = |(sum, count): (f64, u64)| (count > 0).then(|| sum / count as f64);
        Figures {
            answers: sums.answers,
            coverage: (sums.answers > 0 && products > 0)
                .then(|| (window.last.len() as f64 / products as f64).min(1.0)),
            diversity: mean(sums.diversity),
            novelty_bits: mean(sums.novelty),
            explored: mean((sums.explored as f64, sums.products)),
        }
    }

    /// Brings the gauges up to date.
    pub fn refresh(&self, metrics: &ShownMetrics, reader: &Reader, now_ms: i64) {
        let figures = self.figures(reader, now_ms);
        metrics
            .answers
            .set(i64::try_from(figures.answers).unwrap_or(i64::MAX));
        for (gauge, value) in [
            (&metrics.coverage, figures.coverage),
            (&metrics.diversity, figures.diversity),
            (&metrics.novelty, figures.novelty_bits),
            (&metrics.explored, figures.explored),
        ] {
            gauge.set(value.unwrap_or(f64::NAN));
        }
    }
}

impl Window {
    /// Forgets what is older than the window that ends with this step.
    fn move_to(&mut self, step: i64) {
        let oldest = step - STEPS as i64 + 1;
        if self.steps.front().is_none_or(|(first, _)| *first >= oldest) {
            return;
        }
        self.steps.retain(|(known, _)| *known >= oldest);
        self.last.retain(|_, known| *known >= oldest);
    }

    fn total(&mut self, reader: &Reader, now_ms: i64) -> f64 {
        match self.total {
            Some((at, total)) if (now_ms - at).abs() < TOTAL_FOR_MS => total,
            _ => {
                let total = reader.total_popularity();
                self.total = Some((now_ms, total));
                total
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use recommender_engine::{EngineConfig, EventKind, Interaction, engine};

    use super::*;

    /// An answer as it is sent.
    fn sent(items: &[(&str, bool)]) -> Vec<u8> {
        let item = |(product, explored): &(&str, bool)| match explored {
            true => serde_json::json!({"product_id": product, "explored": true, "probability": 0.1}),
            false => serde_json::json!({"product_id": product}),
        };
        let items: Vec<serde_json::Value> = items.iter().map(item).collect();
        serde_json::json!({"recommendation_id": "r", "items": items})
            .to_string()
            .into()
    }

    #[test]
    fn the_window_tells_what_share_was_shown_and_forgets_after_an_hour() {
        let (mut writer, reader) = engine(EngineConfig::default()).unwrap();
        let now = 1_700_000_000_000;
        for product in ["cup", "mug", "hat", "bag"] {
            for customer in ["a", "b"] {
                writer.apply(&Interaction::new(customer, product, EventKind::View, now), now);
            }
        }
        writer.flush(now);
        let shown = Shown::default();
        assert_eq!(shown.figures(&reader, now), Figures::default());
        shown.observe(&reader, &sent(&[("cup", false), ("mug", true)]), now);
        // Too soon after the first to be looked at.
        shown.observe(&reader, &sent(&[("hat", false)]), now + EVERY_MS - 1);
        let figures = shown.figures(&reader, now);
        assert_eq!((figures.answers, figures.coverage), (1, Some(0.5)));
        assert_eq!(figures.explored, Some(0.5));
        // All four are equally popular: two bits each.
        assert!((figures.novelty_bits.unwrap() - 2.0).abs() < 1e-3, "{figures:?}");
        assert!(figures.diversity.is_some_and(|d| (0.0..1.0).contains(&d)));
        let later = now + 30 * 60_000;
        shown.observe(&reader, &sent(&[("hat", false)]), later);
        assert_eq!(shown.figures(&reader, later).coverage, Some(0.75));
        let hour = now + 3_600_000;
        assert_eq!(shown.figures(&reader, hour).coverage, Some(0.25));
        assert_eq!(shown.figures(&reader, hour + 3_600_000), Figures::default());
    }
}
