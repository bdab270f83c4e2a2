//! Hyper-parameters of an evaluation, set by name.

use serde::{Deserialize, Serialize};

use super::data::{Dataset, Task};
use crate::{
    blend::Blend,
    config::{Algorithm, EngineConfig, EventWeights, Limits, Repeats, Tuning},
    models::{als::AlsParams, ease::EaseParams, session_knn::SessionParams},
    refit::Neighborhood,
    similarity::{Bm25, Similarity},
};

const DAY_MS: f64 = 86_400_000.0;
/// Products counted together with one product: binds only where thousands of them are, and then keeps the
/// memory of tens of millions of interactions within some gigabytes.
const ROW: usize = 8_192;

/// Everything that can be set with `--param key=value`; nested ones as `ease.regularization=100`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Params {
    /// Neighbours per product.
    pub neighbors: usize,
    /// Whether customers with many products count less per pair.
    pub damping: bool,
    /// How repeated events add up.
    pub repeats: Repeats,
    /// What `ItemKnn` takes likeness to be: `cosine` or `bm25`.
    pub similarity: Similarity,
    /// Parameters of BM25: `bm25.k1`, `bm25.b`.
    pub bm25: Bm25,
    /// Damps pairs seen together rarely, in customers.
    pub shrinkage: f32,
    /// `Rp3Beta`: how much a frequent product of the history is held back.
    pub walk_alpha: f32,
    /// `Rp3Beta`: how much frequent candidates are held back.
    pub walk_beta: f32,
    /// Products of a customer that an answer is computed from.
    pub history_length: usize,
    /// Newest products of a customer that are counted in pairs.
    pub pair_history: usize,
    /// Neighbours read for an answer.
    pub answer_budget: usize,
    /// Days after which a product of the history counts half.
    pub half_life_days: f64,
    /// Days after which popularity counts half.
    pub trend_half_life_days: f64,
    /// Days after which an interest counts half in what fitted models are fitted to.
    pub training_half_life_days: f64,
    /// Variety, by maximal marginal relevance.
    pub diversity: f32,
    /// Event weights.
    pub weights: EventWeights,
    /// `SessionKnn`.
    pub session: SessionParams,
    /// `Ease`.
    pub ease: EaseParams,
    /// `ImplicitAls`.
    pub als: AlsParams,
    /// `Hybrid`.
    pub blend: Blend,
}

impl Default for Params {
    fn default() -> Self {
        let config = EngineConfig::default();
        Params {
            neighbors: 500,
            damping: config.damping,
            repeats: config.repeats,
            similarity: config.similarity,
            bm25: config.bm25,
            shrinkage: config.shrinkage,
            walk_alpha: config.walk_alpha,
            walk_beta: config.walk_beta,
            history_length: 10_000,
            pair_history: 10_000,
            answer_budget: 10_000_000,
            half_life_days: 60.0,
            trend_half_life_days: 7.0,
            training_half_life_days: 180.0,
            diversity: 0.0,
            weights: EventWeights::default(),
            session: SessionParams::default(),
            ease: EaseParams::default(),
            als: AlsParams::default(),
            blend: Blend::default(),
        }
    }
}

/// Why a parameter is refused.
#[derive(Debug, thiserror::Error)]
pub enum ParamError {
    /// There is none of this name.
    #[error("no parameter is called {0:?}")]
    Unknown(String),
    /// The value is of another type.
    #[error("parameter {key}: {value:?} does not fit: {source}")]
    Value {
        /// The name.
        key: String,
        /// What was given.
        value: String,
        /// What the parser says.
        source: serde_json::Error,
    },
}

impl Params {
    /// Sensible values for this kind of data, before any tuning.
    pub fn for_dataset(data: &Dataset) -> Params {
        let mut params = Params::default();
        match (&data.task, data.timed) {
            (Task::Sessions(_), _) => {
                params.blend = Blend {
                    walk: 0.1,
                    ease: 0.0,
                    als: 0.0,
                    content: 0.0,
                    trend: 0.0,
                    popular: 0.0,
                    ..params.blend
                };
            }
            // Without times there is no visit and no trend.
            (Task::Customers(_), false) => {
                let shape = data.shape();
                params.walk_beta = shape.walk_beta();
                params.ease = shape.ease();
                params.als = AlsParams {
                    factors: shape.als_factors(),
                    ..shape.als()
                };
                params.blend = Blend {
                    walk: 1.0,
                    ease: 1.0,
                    als: 1.0,
                    session: 0.0,
                    content: 0.0,
                    trend: 0.0,
                    popular: 0.0,
                    ..params.blend
                };
            }
            (Task::Customers(_), true) => {
                params = Params::for_events();
                params.walk_beta = data.shape().walk_beta();
            }
        }
        params
    }

    /// Sensible values for a shop's log: most recent products, what is bought at all rather than how often,
    /// and what is trending.
    pub fn for_events() -> Params {
        let params = Params::default();
        Params {
            pair_history: 50,
            history_length: 100,
            repeats: Repeats::Binary,
            ease: EaseParams {
                keep: 200,
                ..params.ease
            },
            als: AlsParams {
                factors: 64,
                unobserved: 0.1,
                ..params.als
            },
            blend: Blend {
                walk: 0.0,
                session: 0.0,
                content: 0.0,
                ..params.blend
            },
            ..params
        }
    }

    /// Those of a running engine.
    pub fn of_engine(config: &EngineConfig) -> Params {
        let days = |ms: i64| ms as f64 / DAY_MS;
        Params {
            neighbors: config.neighbors,
            damping: config.damping,
            repeats: config.repeats,
            shrinkage: config.shrinkage,
            walk_alpha: config.walk_alpha,
            walk_beta: config.walk_beta,
            history_length: config.tuning.history_length,
            pair_history: config.limits.pair_history,
            answer_budget: config.answer_budget,
            half_life_days: days(config.half_life_ms),
            trend_half_life_days: days(config.trend_half_life_ms),
            weights: config.tuning.event_weights.clone(),
            session: config.session.clone(),
            blend: config.blend.clone(),
            ..Params::default()
        }
    }

    /// Sets one by name. Numbers, `true` and `false` are read as such, anything else as a name.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ParamError> {
        let fault = |source| ParamError::Value {
            key: key.into(),
            value: value.into(),
            source,
        };
        let mut all = serde_json::to_value(&*self).map_err(fault)?;
        let pointer = format!("/{}", key.replace('.', "/"));
        let slot = all
            .pointer_mut(&pointer)
            .ok_or_else(|| ParamError::Unknown(key.into()))?;
        *slot = serde_json::from_str(value).unwrap_or_else(|_| serde_json::Value::String(value.into()));
        let set: Self = serde_json::from_value(all).map_err(fault)?;
        set.check().map_err(|why| fault(serde::de::Error::custom(why)))?;
        *self = set;
        Ok(())
    }

    /// What [`EngineConfig`] does not check, for it is of models that are fitted elsewhere.
    fn check(&self) -> Result<(), &'static str> {
        let als = &self.als;
        if !(1..=4_096).contains(&als.factors) {
            return Err("als.factors must be between 1 and 4096");
        }
        let is_sound = |number: f32| number.is_finite() && number >= 0.0;
        if !is_sound(als.unobserved) || !is_sound(als.regularization) {
            return Err("als.unobserved and als.regularization must be numbers of at least 0");
        }
        if self.ease.keep == 0 {
            return Err("ease.keep must be at least 1");
        }
        Ok(())
    }

    /// The value of a parameter, if it is a number.
    pub(super) fn number(&self, key: &str) -> Option<f64> {
        let all = serde_json::to_value(self).ok()?;
        all.pointer(&format!("/{}", key.replace('.', "/")))?.as_f64()
    }

    /// The engine that these describe, without bounds that would bind on evaluation data.
    pub fn config(&self, algorithm: Algorithm) -> EngineConfig {
        // Models that do not look at pairs are spared the counting of them.
        let pairs = matches!(
            algorithm,
            Algorithm::Hybrid | Algorithm::ItemKnn | Algorithm::Rp3Beta | Algorithm::Auto
        );
        let tuning = Tuning {
            algorithm,
            event_weights: self.weights.clone(),
            history_length: self.history_length,
            diversity: self.diversity,
            exploration: 0.0,
            ..Tuning::default()
        };
        EngineConfig {
            tuning,
            neighbors: self.neighbors,
            answer_budget: self.answer_budget,
            half_life_ms: self.half_life_ms(),
            trend_half_life_ms: self.trend_half_life_ms(),
            repeats: self.repeats,
            damping: self.damping,
            similarity: self.similarity,
            bm25: self.bm25,
            shrinkage: self.shrinkage,
            walk_alpha: self.walk_alpha,
            walk_beta: self.walk_beta,
            blend: self.blend.clone(),
            session: self.session.clone(),
            limits: Limits {
                max_products: 100_000_000,
                learn_history: 100_000,
                pair_history: if pairs { self.pair_history } else { 2 },
                row_capacity: ROW.max(self.neighbors),
                max_sessions: 10_000_000,
                postings: self.session.postings,
                dedup_ids: 0,
                ..Limits::default()
            },
            ..EngineConfig::default()
        }
    }

    /// What histories and counts depend on: other values of it need learning anew.
    pub(super) fn structure(&self) -> impl PartialEq {
        (
            self.pair_history,
            self.damping,
            self.repeats,
            self.weights.clone(),
            self.session.postings,
        )
    }

    /// What neighbour lists depend on, given the counts.
    pub(super) fn neighborhood(&self) -> Neighborhood {
        Neighborhood {
            neighbors: self.neighbors,
            similarity: self.similarity,
            bm25: self.bm25,
            shrinkage: self.shrinkage,
            walk_alpha: self.walk_alpha,
            walk_beta: self.walk_beta,
        }
    }

    /// [`Params::half_life_days`] in milliseconds.
    pub fn half_life_ms(&self) -> i64 {
        (self.half_life_days * DAY_MS) as i64
    }

    /// [`Params::trend_half_life_days`] in milliseconds.
    pub fn trend_half_life_ms(&self) -> i64 {
        (self.trend_half_life_days * DAY_MS) as i64
    }

    /// [`Params::training_half_life_days`] in milliseconds.
    pub fn training_half_life_ms(&self) -> i64 {
        (self.training_half_life_days * DAY_MS) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_set_by_name_and_a_wrong_one_is_named() {
        let mut params = Params::default();
        params.set("ease.regularization", "77").unwrap();
        params.set("repeats", "Binary").unwrap();
        assert_eq!(
            (params.ease.regularization, params.repeats),
            (77.0, Repeats::Binary)
        );
        for (key, bad) in [
            ("als.factors", "0"),
            ("als.regularization", "-1"),
            ("ease.keep", "0"),
        ] {
            let refused = params.set(key, bad).unwrap_err().to_string();
            assert!(refused.contains(key), "{refused}");
        }
        assert_eq!(
            params.set("ease.rho", "1").unwrap_err().to_string(),
            "no parameter is called \"ease.rho\""
        );
        assert!(
            params
                .set("neighbors", "many")
                .unwrap_err()
                .to_string()
                .starts_with("parameter neighbors")
        );
    }
}
