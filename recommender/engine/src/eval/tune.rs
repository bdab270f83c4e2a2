//! The search for hyper-parameters, on validation sets cut from training data, within a given time.
//!
//! Each model is searched by itself, axis by axis from good defaults until a round changes nothing: values that cost
//! only an answer by successive halving (Jamieson and Talwalkar 2016) on ever more questions, values that cost
//! a fit by climbing from the present one. The blend
//! takes its members as they were found; its weights are fitted on what they say, recorded once. Models are
//! trained once for every setting that needs it; others only ask again.

mod blend;

use std::time::Duration;

use self::blend::everyone;
use super::{
    data::Dataset,
    params::Params,
    run::{EvalError, Trained},
    space::{self, Axis, axes, members},
};
use crate::config::Algorithm;

/// Another value must be better by this share of the score: what is within chance stays as it was.
const MARGIN: f64 = 0.002;
/// Numbers that differ by less than this share are the same value.
const NEAR: f64 = 1e-4;
/// Rounds over the axes of a model.
const ROUNDS: usize = 3;
/// The part of the questions that values are first compared on.
const FIRST: usize = 4;
/// Factors and passes of iALS while its other parameters are searched: their order is that of the full size.
const SMALL_ALS: (usize, usize) = (64, 6);
/// Products up to which EASE is computed in closed form while parameters are searched: in larger catalogues each
/// product is explained by its neighbourhood, which takes seconds, and prefers the same regularisation.
const SMALL_EASE: usize = 4_000;
/// Questions without which weights stay as they are.
const ENOUGH: usize = 50;

/// How a search is run.
pub struct Search<'a> {
    /// Length of the answers.
    pub k: usize,
    /// Threads to use.
    pub threads: usize,
    /// How much time all models together may take; what has begun is ended, so it may be a little more.
    pub budget: Duration,
    /// The time since the search began.
    pub elapsed: &'a dyn Fn() -> Duration,
    /// Hears of each trial.
    pub progress: &'a mut dyn FnMut(&Step<'_>),
}

/// One trial.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// The model that is searched.
    pub algorithm: Algorithm,
    /// What was tried.
    pub trial: &'a str,
    /// Recall and NDCG together, of sessions hit rate and MRR.
    pub score: f64,
    /// The best of this model so far.
    pub best: f64,
}

/// What was found for one model.
#[derive(Clone, Debug)]
pub struct Tuned {
    /// The model.
    pub algorithm: Algorithm,
    /// Its best parameters.
    pub params: Params,
    /// Their score on the validation sets; `None` if there was nothing to search, or no time.
    pub score: Option<f64>,
}

/// Searches the parameters of these models from `start` on. The test of `data` is never looked at.
pub fn tune(
    data: &Dataset,
    algorithms: &[Algorithm],
    start: &Params,
    search: Search<'_>,
) -> Result<Vec<Tuned>, EvalError> {
    let sets = data.validations();
    let mut order: Vec<Algorithm> = algorithms.to_vec();
    if order.contains(&Algorithm::Hybrid) {
        order.extend(members(data));
    }
    // The blend last: it takes what was found for the others.
    order.sort_by_key(|algorithm| {
        (
            *algorithm == Algorithm::Hybrid,
            Algorithm::ALL.iter().position(|a| a == algorithm),
        )
    });
    order.dedup();
    let mut run = Run {
        data,
        folds: Vec::new(),
        search,
        coverage: 0.0,
        until: Duration::ZERO,
        last: Duration::ZERO,
        found: Vec::new(),
    };
    for set in &sets {
        let learned = Trained::new(set, Algorithm::Rp3Beta, start, run.search.threads)?;
        run.folds.push(learned);
    }
    let mut left: f64 = order.iter().map(|algorithm| space::share(*algorithm)).sum();
    for &algorithm in &order {
        let now = (run.search.elapsed)();
        let share = space::share(algorithm) / left;
        left -= space::share(algorithm);
        run.until = now
            + run
                .search
                .budget
                .saturating_sub(now)
                .mul_f64(share.clamp(0.0, 1.0));
        let tuned = if sets.is_empty() || now >= run.search.budget {
            None
        } else if algorithm == Algorithm::Hybrid {
            run.blend(start)?
        } else {
            match run.model(algorithm, start) {
                // More products than it is computed for: said when it is asked for by name.
                Err(EvalError::Ease(_)) => None,
                tuned => Some(tuned?),
            }
        };
        let (params, score) = match tuned {
            Some((params, score)) => (params, Some(score)),
            None => (start.clone(), None),
        };
        run.found.push(Tuned {
            algorithm,
            params,
            score,
        });
    }
    let mut found = run.found;
    found.retain(|tuned| algorithms.contains(&tuned.algorithm));
    found.sort_by_key(|tuned| {
        algorithms
            .iter()
            .position(|algorithm| *algorithm == tuned.algorithm)
    });
    Ok(found)
}

/// Only the weights of the blend, of members as they are configured; `None` if the data is too small.
pub(super) fn weights_only(
    data: &Dataset,
    params: &Params,
    search: Search<'_>,
) -> Result<Option<Tuned>, EvalError> {
    let sets = data.validations();
    let questions: usize = sets.iter().map(|set| set.task.len()).sum();
    if questions < ENOUGH {
        return Ok(None);
    }
    let until = search.budget;
    let mut run = Run {
        data,
        folds: Vec::new(),
        search,
        coverage: 0.0,
        until,
        last: Duration::ZERO,
        found: Vec::new(),
    };
    for set in &sets {
        let learned = Trained::new(set, Algorithm::Rp3Beta, params, run.search.threads)?;
        run.folds.push(learned);
    }
    let mut params = params.clone();
    let everyone = everyone(data);
    let fitted = run.fits_in(&[Algorithm::Ease, Algorithm::ImplicitAls], &params)?;
    let score = run.weights(&mut params, &everyone, &fitted, true)?;
    Ok(Some(Tuned {
        algorithm: Algorithm::Hybrid,
        params,
        score: Some(score),
    }))
}

/// The same parameters with an EASE that is fitted in seconds.
fn quick(params: &Params) -> Params {
    let mut quick = params.clone();
    if quick.ease.neighborhood > 0 {
        quick.ease.max_products = quick.ease.max_products.min(SMALL_EASE);
    }
    quick
}

/// The same parameters at a size at which models are fitted quickly: the order of trials is that of the full size.
fn small(params: &Params) -> Params {
    let mut small = quick(params);
    small.als.factors = small.als.factors.min(SMALL_ALS.0);
    small.als.epochs = small.als.epochs.min(SMALL_ALS.1);
    small
}

/// What was found, at the size of `start`.
fn full(mut found: Params, start: &Params) -> Params {
    (found.als.factors, found.als.epochs) = (start.als.factors, start.als.epochs);
    found.ease.max_products = start.ease.max_products;
    found
}

struct Run<'a, 's> {
    data: &'a Dataset,
    folds: Vec<Trained<'a>>,
    search: Search<'s>,
    /// What the blend shows of the catalogue before anything is tuned.
    coverage: f64,
    /// When the search of the current model ends.
    until: Duration,
    /// How long the dearest trial of the current model took.
    last: Duration,
    found: Vec<Tuned>,
}

impl<'a> Run<'a, '_> {
    fn late(&self) -> bool {
        (self.search.elapsed)() >= self.until
    }

    /// Whether as many trials still fit in.
    fn fits(&self, trials: u32) -> bool {
        (self.search.elapsed)() + trials * self.last <= self.until
    }

    /// To be called after a trial that began then.
    fn took(&mut self, began: Duration) {
        self.last = self.last.max((self.search.elapsed)().saturating_sub(began));
    }

    /// Mean over the validation sets, on a part of the questions (one in `part`).
    fn score(&mut self, algorithm: Algorithm, params: &Params, part: usize) -> Result<f64, EvalError> {
        let (k, mut sum) = (self.search.k, 0.0);
        for fold in &mut self.folds {
            fold.change(params, &[algorithm])?;
            sum += fold.score(algorithm, k, fold.questions().div_ceil(part));
        }
        Ok(sum / self.folds.len() as f64)
    }

    fn tell(&mut self, algorithm: Algorithm, trial: &str, score: f64, best: f64) {
        let best = best.max(score);
        (self.search.progress)(&Step {
            algorithm,
            trial,
            score,
            best,
        });
    }

    fn model(&mut self, algorithm: Algorithm, start: &Params) -> Result<(Params, f64), EvalError> {
        let mut best = small(start);
        self.last = Duration::ZERO;
        let began = (self.search.elapsed)();
        let mut top = self.score(algorithm, &best, 1)?;
        self.took(began);
        self.tell(algorithm, "defaults", top, top);
        let axes = axes(algorithm, self.data);
        // What was best when an axis was left: as long as it still is, there is nothing new to be tried there.
        let mut left: Vec<Option<Params>> = vec![None; axes.len()];
        for _ in 0..ROUNDS {
            let before = best.clone();
            for (axis, left) in axes.iter().zip(&mut left) {
                if left.as_ref() == Some(&best) {
                    continue;
                }
                if axis.cheap {
                    self.halve(algorithm, axis, &mut best, &mut top)?;
                } else {
                    self.climb(algorithm, axis, &mut best, &mut top)?;
                }
                *left = Some(best.clone());
            }
            if best == before || self.late() {
                break;
            }
        }
        Ok((full(best, start), top))
    }

    /// The parameters with this value of an axis, if that is another one and allowed.
    fn with(axis: &Axis, value: &str, best: &Params) -> Option<Params> {
        let mut trial = best.clone();
        (trial.set(axis.key, value).is_ok() && trial != *best).then_some(trial)
    }

    /// Scores parameters on all questions and takes them if they are better; `None` if there is no time, or the
    /// model refuses them.
    fn attempt(
        &mut self,
        algorithm: Algorithm,
        name: &str,
        trial: Params,
        best: &mut Params,
        top: &mut f64,
    ) -> Result<Option<bool>, EvalError> {
        if !self.fits(1) {
            return Ok(None);
        }
        let began = (self.search.elapsed)();
        let score = match self.score(algorithm, &trial, 1) {
            Err(EvalError::Config(_)) => return Ok(None),
            score => score?,
        };
        self.took(began);
        self.tell(algorithm, name, score, *top);
        let better = score > *top * (1.0 + MARGIN);
        if better {
            (*top, *best) = (score, trial);
        }
        Ok(Some(better))
    }

    /// Goes from value to value as long as that helps, first to larger ones, then to smaller ones; names are tried one
    /// by one.
    fn climb(
        &mut self,
        algorithm: Algorithm,
        axis: &Axis,
        best: &mut Params,
        top: &mut f64,
    ) -> Result<(), EvalError> {
        let number = |value: &str| value.parse::<f64>().ok();
        let Some(now) = best.number(axis.key) else {
            for value in axis.values {
                if let Some(trial) = Self::with(axis, value, best) {
                    self.attempt(algorithm, &format!("{}={value}", axis.key), trial, best, top)?;
                }
            }
            return Ok(());
        };
        let mut larger: Vec<&str> = axis.values.to_vec();
        larger.retain(|value| number(value).is_some_and(|value| value > now * (1.0 + NEAR)));
        let mut smaller: Vec<&str> = axis.values.to_vec();
        smaller.retain(|value| number(value).is_some_and(|value| value < now * (1.0 - NEAR)));
        smaller.reverse();
        for side in [larger, smaller] {
            let mut helped = false;
            for value in side {
                let Some(trial) = Self::with(axis, value, best) else {
                    continue;
                };
                let name = format!("{}={value}", axis.key);
                match self.attempt(algorithm, &name, trial, best, top)? {
                    Some(true) => helped = true,
                    _ => break,
                }
            }
            if helped {
                break;
            }
        }
        Ok(())
    }

    /// Tries the values of one axis, on few questions first, and those that look no worse on all.
    fn halve(
        &mut self,
        algorithm: Algorithm,
        axis: &Axis,
        best: &mut Params,
        top: &mut f64,
    ) -> Result<(), EvalError> {
        let trials = axis.values.iter().filter_map(|value| {
            let trial = Self::with(axis, value, best)?;
            Some((format!("{}={value}", axis.key), trial))
        });
        let trials: Vec<(String, Params)> = trials.collect();
        let first = self.score(algorithm, best, FIRST)?;
        let mut ranked = Vec::new();
        for trial in trials {
            if self.late() {
                return Ok(());
            }
            let score = self.score(algorithm, &trial.1, FIRST)?;
            self.tell(algorithm, &trial.0, score, first);
            ranked.push((score, trial));
        }
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        // What changes nothing has no say here. Half go on, and of them only those that look no worse.
        ranked.retain(|(score, _)| *score != first);
        let keep = ranked.len().div_ceil(2);
        let promising = ranked.into_iter().take(keep);
        for (_, (name, trial)) in promising.filter(|(score, _)| *score > first * (1.0 - MARGIN)) {
            self.attempt(algorithm, &name, trial, best, top)?;
        }
        Ok(())
    }
}
