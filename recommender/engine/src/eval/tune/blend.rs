//! The search for the blend: its members as they were found, its weights fitted on what they say.

use std::time::Duration;

use super::{MARGIN, Run, Tuned, full, quick};
use crate::{
    blend::Blend,
    config::Algorithm,
    eval::{
        data::Dataset,
        params::Params,
        run::EvalError,
        space::{axes, members},
        tape::{self, Tape},
    },
};

impl<'a> Run<'a, '_> {
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

    pub(super) fn blend(&mut self, start: &Params) -> Result<Option<(Params, f64)>, EvalError> {
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
    pub(super) fn fits_in(
        &mut self,
        algorithms: &[Algorithm],
        params: &Params,
    ) -> Result<Vec<Algorithm>, EvalError> {
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
    pub(super) fn weights(
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

/// A blend in which every member has a say that may have one on this kind of data.
pub(super) fn everyone(data: &Dataset) -> Blend {
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
        popular: f32::from(u8::from(data.timed)),
    }
}

fn mean(tapes: &[Tape<'_>], blend: &Blend) -> f64 {
    tapes.iter().map(|tape| tape.score(blend)).sum::<f64>() / tapes.len().max(1) as f64
}
