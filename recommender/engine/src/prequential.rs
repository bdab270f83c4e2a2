//! Prequential evaluation: some events are predicted before they are learned. Says how good each model is
//! on this shop's own customers, now, and lets `Auto` choose.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    answer, auto,
    config::Algorithm,
    event::{EventKind, Interaction},
    query::Query,
    shared::Shared,
};

/// One event in this many is predicted: the same ones on every replica.
const SAMPLED: u64 = 128;
/// Length of the answers.
const AT: usize = 10;
/// A prediction counts half after this many more.
const HALF_LIFE: f64 = 2_000.0;

const CONTENDERS: [Algorithm; 7] = [
    Algorithm::Hybrid,
    Algorithm::ItemKnn,
    Algorithm::Rp3Beta,
    Algorithm::SessionKnn,
    Algorithm::Ease,
    Algorithm::ImplicitAls,
    Algorithm::Popularity,
];

/// How well an algorithm predicts what customers turn to next.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HitRate {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Share of the predicted events whose product was among the ten recommended just before; recent
    /// predictions count more.
    pub hit_rate_at_10: f32,
    /// Mean of one over the product's place among those ten, 0 where it was not; recent predictions count more.
    pub mrr_at_10: f32,
    /// How many predictions, ever.
    pub predictions: u64,
}

/// The writer's tallies.
pub(crate) struct Prequential {
    pub tallies: Vec<Tally>,
    hasher: ahash::RandomState,
}

/// What is known of one algorithm's predictions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub algorithm: Algorithm,
    pub hits: f64,
    pub reciprocal_ranks: f64,
    pub trials: f64,
    pub predictions: u64,
    /// Hits where the other missed, of the predictions that both made.
    #[serde(default, deserialize_with = "known")]
    pub alone: BTreeMap<Algorithm, f64>,
}

/// Without algorithms that this version does not know.
fn known<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeMap<Algorithm, f64>, D::Error> {
    let all = BTreeMap::<String, f64>::deserialize(input)?;
    let named = |name: &String| {
        Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    };
    let known = all
        .iter()
        .filter_map(|(name, count)| Some((named(name)?, *count)));
    Ok(known.collect())
}

impl Tally {
    fn new(algorithm: Algorithm) -> Self {
        Tally {
            algorithm,
            hits: 0.0,
            reciprocal_ranks: 0.0,
            trials: 0.0,
            predictions: 0,
            alone: BTreeMap::new(),
        }
    }
}

impl Prequential {
    pub fn new() -> Self {
        // A fixed key: every replica samples the same events.
        Prequential {
            tallies: Vec::new(),
            hasher: ahash::RandomState::with_seeds(9, 8, 7, 6),
        }
    }

    /// Predicts an event that is about to be learned, if it is one of the sample and says something: a
    /// product that is new to a customer with a history.
    pub fn predict(&mut self, shared: &Shared, event: &Interaction<'_>, configured: Algorithm) {
        if !self.samples(event) {
            return;
        }
        let Some(product) = shared.product_id(event.product) else {
            return;
        };
        let Some(customer) = shared.customer(event.customer) else {
            return;
        };
        let history = customer.history.load();
        if history.entries.is_empty() || history.entries.iter().any(|entry| entry.product == product) {
            return;
        }
        let all = configured == Algorithm::Auto;
        let mut places = Vec::new();
        for algorithm in CONTENDERS
            .into_iter()
            .filter(|algorithm| all || *algorithm == configured)
        {
            let query = Query {
                customer: Some(event.customer),
                algorithm: Some(algorithm),
                limit: AT,
                diversity: Some(0.0),
                exploration: Some(0.0),
                now_ms: event.time_ms,
                ..Query::default()
            };
            let answer = answer::recommend(shared, &query);
            // A model that is not fitted yet was answered for by another.
            if answer.algorithm == algorithm {
                let place = answer
                    .items
                    .iter()
                    .position(|item| &*item.product == event.product);
                places.push((algorithm, place));
            } else {
                // Nor does it count that it once was good.
                self.drop_out(algorithm);
            }
        }
        self.count(&places);
        self.show(shared);
    }

    /// Whether an event is one of the sample.
    pub fn samples(&self, event: &Interaction<'_>) -> bool {
        let hash = self
            .hasher
            .hash_one((event.customer, event.product, event.time_ms));
        let says_nothing = matches!(
            event.kind,
            EventKind::Return | EventKind::Email | EventKind::Other
        );
        hash.is_multiple_of(SAMPLED) && !says_nothing
    }

    fn drop_out(&mut self, algorithm: Algorithm) {
        self.tallies.retain(|tally| tally.algorithm != algorithm);
        for tally in &mut self.tallies {
            tally.alone.remove(&algorithm);
        }
    }

    /// What each made of one event: the place of the product among the ten, from 0.
    fn count(&mut self, places: &[(Algorithm, Option<usize>)]) {
        let kept = (-1.0 / HALF_LIFE).exp2();
        let one = |yes: bool| f64::from(u8::from(yes));
        for &(algorithm, place) in places {
            let known = self.tallies.iter().position(|tally| tally.algorithm == algorithm);
            let at = known.unwrap_or_else(|| {
                self.tallies.push(Tally::new(algorithm));
                self.tallies.len() - 1
            });
            let tally = &mut self.tallies[at];
            tally.hits = tally.hits * kept + one(place.is_some());
            let reciprocal_rank = place.map_or(0.0, |place| 1.0 / (place + 1) as f64);
            tally.reciprocal_ranks = tally.reciprocal_ranks * kept + reciprocal_rank;
            tally.trials = tally.trials * kept + 1.0;
            tally.predictions += 1;
            for (other, theirs) in places.iter().filter(|(other, _)| *other != algorithm) {
                let alone = tally.alone.entry(*other).or_default();
                *alone = *alone * kept + one(place.is_some() && theirs.is_none());
            }
        }
    }

    pub fn show(&self, shared: &Shared) {
        let rate = |tally: &Tally| tally.hits / tally.trials;
        let shown = self.tallies.iter().map(|tally| HitRate {
            algorithm: tally.algorithm,
            hit_rate_at_10: rate(tally) as f32,
            mrr_at_10: (tally.reciprocal_ranks / tally.trials) as f32,
            predictions: tally.predictions,
        });
        shared.hit_rates.store(Arc::new(shown.collect()));
        let current = Algorithm::ALL[usize::from(shared.auto.load(Relaxed))];
        let chosen = auto::choose(current, &self.tallies);
        if let Some(index) = Algorithm::ALL.iter().position(|algorithm| *algorithm == chosen) {
            shared.auto.store(index as u8, Relaxed);
        }
    }
}
