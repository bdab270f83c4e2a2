//! Blending candidates of several models: each on its own scale, then together, then lifted by the trend.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::scratch::{Candidate, Scratch};

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
            trend: 0.3,
        }
    }
}

/// How many candidates of each model are worth blending for an answer of this length.
pub(crate) fn candidates(limit: usize) -> usize {
    limit.saturating_mul(5).saturating_add(100)
}

/// Candidates that define a model's scale.
const SCALE: usize = 50;

/// Sums of scaled scores.
#[derive(Default)]
pub(crate) struct Blender {
    /// With the largest part that went into the score, which decides the source.
    pub mixed: Vec<(Candidate, f32)>,
}

impl Blender {
    /// Adds a model's candidates, best first.
    pub fn add(&mut self, scratch: &mut Scratch, list: &[Candidate], weight: f32) {
        let top = &list[..list.len().min(SCALE)];
        let scale =
            top.iter().map(|candidate| candidate.score.max(0.0)).sum::<f32>() / top.len().max(1) as f32;
        if scale <= 0.0 || !scale.is_finite() {
            return;
        }
        for candidate in list {
            let part = weight * candidate.score / scale;
            match scratch.marked(candidate.product) {
                Some(at) => {
                    let (known, largest) = &mut self.mixed[at];
                    known.score += part;
                    if part > *largest {
                        *largest = part;
                        known.source = candidate.source;
                    }
                }
                None => {
                    scratch.mark_one(candidate.product, self.mixed.len());
                    self.mixed.push((
                        Candidate {
                            score: part,
                            ..*candidate
                        },
                        part,
                    ));
                }
            }
        }
    }

    /// Adds a model that scores any product: to the candidates that others found.
    pub fn rescore(&mut self, weight: f32, score: impl Fn(u32) -> Option<f32>) {
        let scores: Vec<Option<f32>> = self
            .mixed
            .iter()
            .map(|(candidate, _)| score(candidate.product))
            .collect();
        let mut best: Vec<f32> = scores
            .iter()
            .flatten()
            .copied()
            .filter(|score| *score > 0.0)
            .collect();
        best.sort_unstable_by(|a, b| b.total_cmp(a));
        best.truncate(SCALE);
        let scale = best.iter().sum::<f32>() / best.len().max(1) as f32;
        if scale > 0.0 && scale.is_finite() {
            for ((candidate, _), score) in self.mixed.iter_mut().zip(scores) {
                candidate.score += weight * score.unwrap_or_default() / scale;
            }
        }
    }

    /// The blend, best first.
    pub fn finish(
        self,
        scratch: &mut Scratch,
        lift: impl Fn(u32) -> f32,
        tie: impl Fn(u32, u32) -> Ordering,
    ) -> Vec<Candidate> {
        scratch.unmark(self.mixed.iter().map(|(candidate, _)| candidate.product));
        let lifted = |(candidate, _): (Candidate, f32)| Candidate {
            score: candidate.score.max(0.0) * lift(candidate.product),
            ..candidate
        };
        let mut mixed: Vec<Candidate> = self.mixed.into_iter().map(lifted).collect();
        mixed.sort_unstable_by(|a, b| {
            b.score
                .total_cmp(&a.score)
                .then_with(|| tie(a.product, b.product))
        });
        mixed
    }
}
