//! Blending candidates of several models: each on its own scale, then together, then lifted by the trend.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::{
    models::onnx,
    scratch::{Candidate, NO_SOURCE, Scratch, in_order, key, score_of},
};

/// What each member of `Hybrid` counts. Members that have nothing to say (no visit, no fitted model) are
/// left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Blend {
    /// `Rp3Beta`.
    pub walk: f32,
    /// `ItemKnn`.
    pub knn: f32,
    /// `SessionKnn`.
    pub session: f32,
    /// `Ease`, once fitted.
    pub ease: f32,
    /// `ImplicitAls`, once fitted.
    pub als: f32,
    /// `Content`, which alone knows products without events.
    pub content: f32,
    /// Exponent of recent popularity that the blend is multiplied with; 0 means that trends do not matter.
    pub trend: f32,
    /// `Popularity`, added to the others: a trend lifts what somebody has found, this finds what is trending. The less
    /// those have to say that find products by what customers did, the less does this. Weights that were
    /// stored before there was such a member go without.
    #[serde(default = "nothing")]
    pub popular: f32,
}

fn nothing() -> f32 {
    0.0
}

impl Default for Blend {
    fn default() -> Self {
        Blend {
            walk: 0.5,
            knn: 0.0,
            session: 1.0,
            ease: 1.0,
            als: 0.5,
            content: 0.05,
            trend: 0.2,
            popular: 0.3,
        }
    }
}

impl Blend {
    /// Whether weights and trend are finite and not negative, and some member has a say.
    pub fn is_sound(&self) -> bool {
        let weights = self.weights();
        let sound = |value: f32| value.is_finite() && value >= 0.0;
        weights.into_iter().chain([self.trend]).all(sound) && weights.iter().any(|weight| *weight > 0.0)
    }

    /// Weights by position in [`Found::scores`].
    pub(crate) fn weights(&self) -> [f32; MEMBERS] {
        [
            self.walk,
            self.knn,
            self.session,
            self.ease,
            self.content,
            self.als,
            self.popular,
        ]
    }

    /// The same for one question, where members had so much to say: if few had, or little, what is popular is not to drown
    /// them, and what is new and known by its texts alone not at all.
    pub(crate) fn heard(&self, said: &[f32; MEMBERS]) -> [f32; MEMBERS] {
        let mut weights = self.weights();
        // Those that find candidates by what customers did.
        let others = || [WALK, KNN, SESSION, EASE].into_iter();
        let all: f32 = others().map(|at| weights[at]).sum();
        let heard: f32 = others().map(|at| weights[at] * said[at]).sum();
        let share = if all > 0.0 { heard / all } else { 0.0 };
        weights[POPULAR] *= (share - LITTLE).max(0.0) / (1.0 - LITTLE);
        weights
    }
}

/// Members of the blend.
pub(crate) const MEMBERS: usize = 7;
/// Positions of those whose scores come from lists.
pub(crate) const WALK: usize = 0;
pub(crate) const KNN: usize = 1;
const SESSION: usize = 2;
pub(crate) const EASE: usize = 3;
/// Position of iALS, which scores what others found.
pub(crate) const ALS: usize = 5;
/// Position of what is popular, which nothing that the customer did speaks for.
pub(crate) const POPULAR: usize = 6;

/// How many candidates of each model are worth blending for an answer of this length: twice as many find the same (within
/// .1 % of recall@20 on Gowalla), and no fewer than a ranker of the user's is asked about.
pub(crate) fn candidates(limit: usize) -> usize {
    limit.saturating_mul(3).saturating_add(60).max(onnx::ROWS)
}

/// Candidates that define a model's scale.
const SCALE: usize = 50;
/// Where members say less than this share of what they could, what is popular has no say.
const LITTLE: f32 = 0.1;
/// What the whole shop wants counts no more than this: one product that everybody talks about is not to come before what
/// a customer's own history says.
const MOST_POPULAR: f32 = 5.0;
/// A product without recent customers is held back, not hidden.
const NOBODY: f32 = 0.01;

/// What the members say of one candidate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub product: u32,
    /// In units of the mean of the member's best candidates.
    pub scores: [f32; MEMBERS],
    sources: [u32; MEMBERS],
    /// Recent popularity.
    pub popularity: f32,
    /// What declared rules make of it, 1 without any.
    pub preferred: f32,
}

impl Found {
    /// A candidate that nobody has said anything about.
    pub fn of(product: u32) -> Self {
        Found {
            product,
            scores: [0.0; MEMBERS],
            sources: [NO_SOURCE; MEMBERS],
            popularity: 0.0,
            preferred: 1.0,
        }
    }

    /// The blended score, lifted by the trend.
    pub fn score(&self, weights: &[f32; MEMBERS], trend: f32) -> f32 {
        let mixed: f32 = self
            .scores
            .iter()
            .zip(weights)
            .map(|(score, weight)| score * weight)
            .sum();
        let lift = if trend > 0.0 {
            (self.popularity + NOBODY).powf(trend)
        } else {
            1.0
        };
        mixed.max(0.0) * lift * self.preferred
    }

    /// Whether a member that finds candidates, and counts, has found it.
    pub fn is_named(&self, weights: &[f32; MEMBERS]) -> bool {
        (0..MEMBERS).any(|at| at != ALS && weights[at] > 0.0 && self.scores[at] != 0.0)
    }

    /// The source of the member that contributes most, of those that know what they go by.
    fn source(&self, weights: &[f32; MEMBERS]) -> u32 {
        let mut strongest = (f32::NEG_INFINITY, NO_SOURCE);
        for at in (0..MEMBERS).filter(|at| ![ALS, POPULAR].contains(at)) {
            let part = self.scores[at] * weights[at];
            if part > strongest.0 {
                strongest = (part, self.sources[at]);
            }
        }
        strongest.1
    }
}

/// Everything that the members found for one question.
#[derive(Default)]
pub(crate) struct Pool {
    pub found: Vec<Found>,
    /// How much each member had to say, as a share of the candidates that define a scale.
    pub said: [f32; MEMBERS],
}

impl Pool {
    /// Adds a member's candidates, best first.
    pub fn add(&mut self, member: usize, scratch: &mut Scratch, list: &[Candidate]) {
        let top = &list[..list.len().min(SCALE)];
        let sum: f32 = top.iter().map(|candidate| candidate.score.max(0.0)).sum();
        let scale = sum / top.len().max(1) as f32;
        if scale <= 0.0 || !scale.is_finite() {
            return;
        }
        self.said[member] = top.len() as f32 / SCALE as f32;
        let most = if member == POPULAR {
            MOST_POPULAR
        } else {
            f32::INFINITY
        };
        for candidate in list {
            let at = scratch.marked(candidate.product).unwrap_or_else(|| {
                scratch.mark_one(candidate.product, self.found.len());
                self.found.push(Found::of(candidate.product));
                self.found.len() - 1
            });
            let found = &mut self.found[at];
            found.scores[member] = (candidate.score / scale).min(most);
            found.sources[member] = candidate.source;
        }
    }

    /// To be called after the last member was added.
    pub fn unmark(&self, scratch: &mut Scratch) {
        scratch.unmark(self.found.iter().map(|found| found.product));
    }

    /// Adds a member that scores any product: what it says of the candidates in these places, found by others.
    pub fn rescore(&mut self, member: usize, places: &[usize], scores: &[f32]) {
        let mut best: Vec<f32> = scores.iter().copied().filter(|score| *score > 0.0).collect();
        if best.len() > SCALE {
            best.select_nth_unstable_by(SCALE - 1, |a, b| b.total_cmp(a));
            best.truncate(SCALE);
        }
        best.sort_unstable_by(|a, b| b.total_cmp(a));
        let scale = best.iter().sum::<f32>() / best.len().max(1) as f32;
        if scale > 0.0 && scale.is_finite() {
            for (at, score) in places.iter().zip(scores) {
                self.found[*at].scores[member] = score / scale;
            }
        }
    }

    /// The blend, best first.
    pub fn finish(&self, blend: &Blend, tie: impl Fn(u32, u32) -> Ordering) -> Vec<Candidate> {
        let weights = blend.heard(&self.said);
        let scores = self.found.iter().map(|found| found.score(&weights, blend.trend));
        let mut keys: Vec<u64> = scores.zip(0..).map(|(score, at)| key(score, at)).collect();
        let product = |at: u32| self.found[at as usize].product;
        in_order(&mut keys, |a, b| tie(product(a), product(b)));
        let candidate = |key: u64| {
            let found = &self.found[key as u32 as usize];
            Candidate {
                product: found.product,
                score: score_of(key),
                source: found.source(&weights),
            }
        };
        keys.into_iter().map(candidate).collect()
    }
}
