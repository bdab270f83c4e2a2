//! What the members of the blend said to each question, kept so that weights can be tried on it: a
//! thousand times as quick as asking again.

use super::{
    data::{Dataset, Task},
    run::{Trained, base, worth},
};
use crate::{
    answer,
    blend::{Blend, Found, MEMBERS},
};

/// Answers of all members to the questions of a validation set.
pub(super) struct Tape<'a> {
    data: &'a Dataset,
    asked: Vec<Asked>,
    k: usize,
    /// Share of the catalogue that has to be shown; less counts against a blend.
    coverage: f64,
}

struct Asked {
    question: usize,
    found: Vec<Found>,
    said: [f32; MEMBERS],
}

impl<'a> Tape<'a> {
    /// Asks the first `questions` questions of a model whose blend has a weight for every member of
    /// interest.
    pub fn record(trained: &Trained<'a>, k: usize, questions: usize) -> Tape<'a> {
        let base = base(k, Some(crate::config::Algorithm::Hybrid));
        let shared = trained.reader.shared();
        let parts = trained.spread(
            questions.min(trained.questions()),
            Vec::new,
            |asked, question| {
                trained.question(question, &base, |query, _| {
                    let (mut found, mut said) = (Vec::new(), [0.0; MEMBERS]);
                    answer::recommend_observed(shared, query, &mut |pool| {
                        (found, said) = (pool.found.clone(), pool.said);
                    });
                    for found in &mut found {
                        // From the engine's numbers to those of the data.
                        let name = &shared.product(found.product).name;
                        found.product = trained.ids.get(name).copied().unwrap_or(u32::MAX);
                    }
                    asked.push(Asked {
                        question,
                        found,
                        said,
                    });
                });
            },
            |_| {},
        );
        let mut asked: Vec<Asked> = parts.into_iter().flatten().collect();
        asked.sort_unstable_by_key(|asked| asked.question);
        Tape {
            data: trained.data,
            asked,
            k,
            coverage: 0.0,
        }
    }

    /// Holds every blend to the share of the catalogue that this one shows: one that is a little better at what
    /// everybody takes, and forgets the rest, is no better for a shop.
    pub fn hold_to(&mut self, coverage: f64) {
        self.coverage = coverage;
    }

    /// The share of the catalogue that these weights show to anybody.
    pub fn coverage(&self, blend: &Blend) -> f64 {
        self.look(blend).1
    }

    /// How well the members do with these weights: recall and NDCG, of sessions hit rate and reciprocal rank; less
    /// by the root of what is missing in coverage.
    pub fn score(&self, blend: &Blend) -> f64 {
        let (worth, coverage) = self.look(blend);
        if coverage < self.coverage {
            worth * (coverage / self.coverage).sqrt()
        } else {
            worth
        }
    }

    /// Worth and coverage.
    fn look(&self, blend: &Blend) -> (f64, f64) {
        let mut shown = vec![false; self.data.products.len()];
        let mut ranked: Vec<(f32, u32)> = Vec::new();
        let mut answer: Vec<u32> = Vec::new();
        let mut sum = 0.0;
        for Asked {
            question,
            found,
            said,
        } in &self.asked
        {
            let weights = blend.heard(said);
            ranked.clear();
            // What a member found that counts nothing in this blend would not have been found.
            let scored = found
                .iter()
                .filter(|found| found.is_named(&weights))
                .map(|found| (found.score(&weights, blend.trend), found.product));
            ranked.extend(scored.filter(|(score, _)| *score > 0.0));
            let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            if ranked.len() > self.k {
                ranked.select_nth_unstable_by(self.k, order);
                ranked.truncate(self.k);
            }
            ranked.sort_unstable_by(order);
            answer.clear();
            answer.extend(ranked.iter().map(|(_, product)| product));
            for &product in &answer {
                if let Some(shown) = shown.get_mut(product as usize) {
                    *shown = true;
                }
            }
            sum += match &self.data.task {
                Task::Customers(cases) => worth(&answer, &cases[*question].1, self.k, false),
                Task::Sessions(pairs) => worth(&answer, &[pairs[*question].next], self.k, true),
            };
        }
        let shown = shown.into_iter().filter(|shown| *shown).count();
        (
            sum / self.asked.len().max(1) as f64,
            shown as f64 / self.data.catalogue.max(1) as f64,
        )
    }
}

/// What a weight is multiplied with in turn.
const FACTORS: [f32; 6] = [0.0, 0.33, 0.67, 1.5, 3.0, 9.0];
/// What a weight of nothing becomes.
const ENTRY: [f32; 3] = [0.1, 0.3, 1.0];
/// Exponents of the trend.
const TRENDS: [f32; 8] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8];
/// Rounds over all weights.
const ROUNDS: usize = 5;
/// What a weight of twice or half its default costs, as a share of the score: weights stay where they are
/// unless the questions speak clearly.
const RELUCTANCE: f64 = 0.000_5;

/// Non-negative weights that do best on all tapes together, drawn to `start`; those of members that are
/// `absent` are 0. `go_on` hears of every trial.
pub(super) fn fit(
    tapes: &[Tape<'_>],
    start: &Blend,
    timed: bool,
    mut go_on: impl FnMut(&str, f64) -> bool,
) -> (Blend, f64) {
    let score =
        |blend: &Blend| tapes.iter().map(|tape| tape.score(blend)).sum::<f64>() / tapes.len().max(1) as f64;
    let cautious = |blend: &Blend| score(blend) * (1.0 - RELUCTANCE * distance(blend, start));
    let (mut best, mut top) = (start.clone(), cautious(start));
    for _ in 0..ROUNDS {
        let before = top;
        for name in NAMES {
            let Some(now) = weight(&mut best.clone(), name).copied() else {
                continue;
            };
            let values: Vec<f32> = match name {
                "trend" | "popular" if !timed => Vec::new(),
                "trend" => TRENDS.to_vec(),
                _ if now > 0.0 => FACTORS.map(|factor| factor * now).to_vec(),
                _ => ENTRY.to_vec(),
            };
            for value in values {
                let mut trial = best.clone();
                if let Some(slot) = weight(&mut trial, name) {
                    *slot = value;
                }
                if trial == best || trial.weights().iter().sum::<f32>() <= 0.0 {
                    continue;
                }
                let worth = cautious(&trial);
                if worth > top {
                    (top, best) = (worth, trial);
                }
                if !go_on(&format!("blend.{name}={value:.2}"), worth) {
                    return finish(best, score);
                }
            }
        }
        if top <= before {
            break;
        }
    }
    finish(best, score)
}

/// Of weights, and last the exponent of the trend.
const NAMES: [&str; 7] = ["ease", "walk", "als", "session", "knn", "popular", "trend"];

fn weight<'b>(blend: &'b mut Blend, name: &str) -> Option<&'b mut f32> {
    Some(match name {
        "walk" => &mut blend.walk,
        "knn" => &mut blend.knn,
        "session" => &mut blend.session,
        "ease" => &mut blend.ease,
        "als" => &mut blend.als,
        "popular" => &mut blend.popular,
        "trend" => &mut blend.trend,
        _ => return None,
    })
}

/// Weights to a sum of one: only their proportions matter. What counts next to nothing is not worth the
/// time that it takes.
fn finish(mut blend: Blend, score: impl Fn(&Blend) -> f64) -> (Blend, f64) {
    // Content is not fitted (most logs have no catalogue), but keeps its proportion.
    let sum: f32 = blend.weights().iter().sum::<f32>() - blend.content;
    if sum > 0.0 {
        blend.content /= sum;
        for name in &NAMES[..6] {
            if let Some(weight) = weight(&mut blend, name) {
                *weight = if *weight < 0.02 * sum { 0.0 } else { *weight / sum };
            }
        }
    }
    let worth = score(&blend);
    (blend, worth)
}

/// Doublings and halvings from one to the other, in proportions, and half the difference of trends.
fn distance(blend: &Blend, from: &Blend) -> f64 {
    let (a, b) = (blend.weights(), from.weights());
    let (sum_a, sum_b) = (a.iter().sum::<f32>(), b.iter().sum::<f32>());
    let step = |a: f32, b: f32| f64::from(((a / sum_a + 0.05) / (b / sum_b + 0.05)).log2().abs());
    let trend = f64::from((blend.trend - from.trend).abs()) / 2.0;
    a.iter().zip(b).map(|(a, b)| step(*a, b)).sum::<f64>() + trend
}

#[cfg(test)]
mod tests;
