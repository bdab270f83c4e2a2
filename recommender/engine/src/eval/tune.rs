//! The search for hyper-parameters, on validation sets cut from training data, within a given time.
//!
//! Each model is searched by itself, axis by axis from good defaults until a round changes nothing: values that cost
//! only an answer by successive halving (Jamieson and Talwalkar 2016) on ever more questions, values that cost
//! a fit by climbing from the present one. The blend
//! takes its members as they were found; its weights are fitted on what they say, recorded once. Models are
//! trained once for every setting that needs it; others only ask again.

use std::time::Duration;

use super::{
    data::Dataset,
    params::Params,
    run::{EvalError, Trained},
    space::{self, Axis, axes, members},
    tape::{self, Tape},
};
use crate::{blend::Blend, config::Algorithm};

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

/// A blend in which every member has a say that may have one on this kind of data.
fn everyone(data: &Dataset) -> Blend {
    let parts = members(data);
    let with = |algorithm| f32::from(u8::from(parts.contains(&algorithm)));
    Blend {
        walk: with(Algorithm::Rp3Beta),
        knn: 1.0,
        session: with(Algorithm::SessionKnn),
        ease: with(Algorithm::Ease),
        als: with(Algorithm::ImplicitAls),
        content: 0.0,
        trend: 0.0,
    }
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

    /// The members as they were found, together.
    fn assembled(&self, start: &Params) -> Params {
        let mut params = start.clone();
        let of = |algorithm| {
            self.found
                .iter()
                .find(|tuned| tuned.algorithm == algorithm && tuned.score.is_some())
        };
        if let Some(walk) = of(Algorithm::Rp3Beta).map(|tuned| &tuned.params) {
            params.neighbors = walk.neighbors;
            params.pair_history = walk.pair_history;
            (params.walk_alpha, params.walk_beta) = (walk.walk_alpha, walk.walk_beta);
        }
        if let Some(session) = of(Algorithm::SessionKnn) {
            params.session = session.params.session.clone();
        }
        if let Some(als) = of(Algorithm::ImplicitAls) {
            params.als = als.params.als.clone();
            params.training_half_life_days = als.params.training_half_life_days;
        }
        if let Some(ease) = of(Algorithm::Ease) {
            params.ease = ease.params.ease.clone();
            params.training_half_life_days = ease.params.training_half_life_days;
        }
        let members = [Algorithm::Ease, Algorithm::ImplicitAls, Algorithm::Rp3Beta];
        let scored = members.into_iter().filter_map(of);
        if let Some(best) = scored.max_by(|a, b| a.score.unwrap_or(0.0).total_cmp(&b.score.unwrap_or(0.0))) {
            params.history_length = best.params.history_length;
            params.half_life_days = best.params.half_life_days;
        }
        params
    }

    fn blend(&mut self, start: &Params) -> Result<Option<(Params, f64)>, EvalError> {
        let mut best = quick(&self.assembled(start));
        let parts = members(self.data);
        let everyone = everyone(self.data);
        let fitted: Vec<Algorithm> = parts
            .iter()
            .copied()
            .filter(|algorithm| {
                let tuned = |tuned: &Tuned| tuned.algorithm == *algorithm && tuned.score.is_some();
                matches!(algorithm, Algorithm::Ease | Algorithm::ImplicitAls) && self.found.iter().any(tuned)
            })
            .collect();
        if !fitted.contains(&Algorithm::Ease) {
            best.blend.ease = 0.0;
        }
        if !fitted.contains(&Algorithm::ImplicitAls) {
            best.blend.als = 0.0;
        }
        let timed = self.data.timed;
        let before = self.tapes(&quick(start), &fitted)?;
        let shown = before.iter().map(|tape| tape.coverage(&start.blend));
        self.coverage = shown.sum::<f64>() / before.len().max(1) as f64;
        let mut top = self.weights(&mut best, &everyone, &fitted, timed)?;
        self.last = Duration::ZERO;
        for axis in axes(Algorithm::Hybrid, self.data) {
            for value in axis.values {
                let began = (self.search.elapsed)();
                let mut trial = best.clone();
                // The weights are fitted once more at the end, which takes about as long as a trial.
                if !self.fits(2) || trial.set(axis.key, value).is_err() || trial == best {
                    continue;
                }
                let heard = Params {
                    blend: everyone.clone(),
                    ..trial.clone()
                };
                let tapes = self.tapes(&heard, &fitted)?;
                let score = mean(&tapes, &trial.blend);
                self.tell(Algorithm::Hybrid, &format!("{}={value}", axis.key), score, top);
                if score > top * (1.0 + MARGIN) {
                    (top, best) = (score, trial);
                }
                self.took(began);
            }
        }
        if timed {
            top = self.weights(&mut best, &everyone, &fitted, timed)?;
        }
        Ok(Some((full(best, start), top)))
    }

    /// Those of the fitted models that can be fitted to this data.
    fn fits_in(&mut self, algorithms: &[Algorithm], params: &Params) -> Result<Vec<Algorithm>, EvalError> {
        let mut fit = Vec::new();
        for &algorithm in algorithms {
            match self.folds[0].change(params, &[algorithm]) {
                Err(EvalError::Ease(_)) => {}
                changed => {
                    changed?;
                    fit.push(algorithm);
                }
            }
        }
        Ok(fit)
    }

    fn tapes(&mut self, heard: &Params, fitted: &[Algorithm]) -> Result<Vec<Tape<'a>>, EvalError> {
        let k = self.search.k;
        let mut tapes = Vec::new();
        for fold in &mut self.folds {
            fold.change(heard, fitted)?;
            let mut tape = Tape::record(fold, k, fold.questions());
            tape.hold_to(self.coverage);
            tapes.push(tape);
        }
        Ok(tapes)
    }

    /// Fits the weights of the blend.
    fn weights(
        &mut self,
        params: &mut Params,
        everyone: &Blend,
        fitted: &[Algorithm],
        timed: bool,
    ) -> Result<f64, EvalError> {
        let heard = Params {
            blend: everyone.clone(),
            ..params.clone()
        };
        let tapes = self.tapes(&heard, fitted)?;
        let (mut trials, mut top) = (Vec::new(), 0.0f64);
        let (elapsed, until) = (self.search.elapsed, self.until);
        let (blend, score) = tape::fit(&tapes, &params.blend, timed, |trial, score| {
            top = top.max(score);
            trials.push((trial.to_owned(), score, top));
            elapsed() < until
        });
        for (trial, score, top) in trials {
            self.tell(Algorithm::Hybrid, &trial, score, top);
        }
        params.blend = blend;
        Ok(score)
    }
}

fn mean(tapes: &[Tape<'_>], blend: &Blend) -> f64 {
    tapes.iter().map(|tape| tape.score(blend)).sum::<f64>() / tapes.len().max(1) as f64
}
