//! Answering with a model that was read.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{Answer, History, Input, Kind, OnnxArtifact, OnnxError, OnnxModel, features};
use crate::{
    models::Question,
    scratch::{Candidate, Scratch},
    shared::{NONE, Shared},
    writer::Writer,
};

/// A model as readers use it: its indices by live product ids and back.
pub(crate) struct LiveOnnx {
    pub artifact: OnnxArtifact,
    /// Live ids of the model's products; [`NONE`] for those that the shop does not know.
    product_of: Vec<u32>,
    /// Indices of live products; [`NONE`] for those that the model does not know.
    index_of: Vec<u32>,
}

impl LiveOnnx {
    pub fn new(artifact: OnnxArtifact, shared: &Shared) -> LiveOnnx {
        let known = artifact
            .products
            .iter()
            .map(|name| shared.product_id(name).unwrap_or(NONE));
        let product_of: Vec<u32> = known.collect();
        let mut index_of = vec![NONE; shared.products.count()];
        for (index, product) in product_of.iter().enumerate() {
            if let Some(slot) = index_of.get_mut(*product as usize) {
                *slot = index as u32;
            }
        }
        LiveOnnx {
            product_of,
            index_of,
            artifact,
        }
    }

    fn model(&self) -> &OnnxModel {
        &self.artifact.model
    }

    /// Orders the first candidates as the model scores them; those beyond its rows follow as they were.
    pub fn rank(&self, question: &Question<'_>, ranked: &mut [Candidate]) -> Result<(), OnnxError> {
        let Kind::Ranker { features, rows } = &self.model().kind else {
            return Ok(());
        };
        let count = ranked.len().min(*rows);
        let mut input = Vec::with_capacity(rows * features.len());
        features::rows(features, question, &ranked[..count], &mut input);
        input.resize(rows * features.len(), 0.0);
        let scores = self.model().plan.run(Input::Floats(&input))?;
        let scores = scores.get(..count).ok_or(OnnxError::NotFinite)?;
        if scores.iter().any(|score| !score.is_finite()) {
            return Err(OnnxError::NotFinite);
        }
        let next = ranked.get(count).map_or(0.0, |next| next.score);
        let mut order: Vec<usize> = (0..count).collect();
        // Stable: of equal scores the one that was better ranked.
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let (low, high) = range(scores.iter().copied());
        let scaled = |score: f32| next + 0.1 + 0.9 * (score - low) / (high - low).max(f32::MIN_POSITIVE);
        let reordered: Vec<Candidate> = order
            .iter()
            .map(|at| Candidate {
                score: scaled(scores[*at]),
                ..ranked[*at]
            })
            .collect();
        ranked[..count].copy_from_slice(&reordered);
        Ok(())
    }

    /// Adds the model's scores of products, moved so that the lowest is 0.
    fn score(&self, question: &Question<'_>, scratch: &mut Scratch) -> Result<(), OnnxError> {
        let Kind::Tower {
            history,
            length,
            answer,
        } = self.model().kind
        else {
            return Ok(());
        };
        let content = question.shared.content.load();
        // Newest last, as many as fit; the product that speaks for all is the weightiest.
        let newest = question.basis.iter();
        let (output, source) = match history {
            History::Indices => {
                let index = |product: u32| {
                    let index = self.index_of.get(product as usize).copied();
                    index.filter(|index| *index != NONE)
                };
                let known = newest.filter_map(|from| Some((from, index(from.product)?)));
                let mut known: Vec<_> = known.take(length).collect();
                known.reverse();
                let mut input = vec![0i64; length - known.len()];
                input.extend(known.iter().map(|(_, index)| i64::from(*index) + 1));
                let Some(source) = strongest(known.iter().map(|(from, _)| **from)) else {
                    return Ok(());
                };
                (self.model().plan.run(Input::Integers(&input))?, source)
            }
            History::Embeddings(size) => {
                let known = newest.filter_map(|from| Some((from, content.embeddings.vector(from.product)?)));
                let mut known: Vec<_> = known
                    .filter(|(_, vector)| vector.len() == size)
                    .take(length)
                    .collect();
                known.reverse();
                let mut input = vec![0f32; (length - known.len()) * size];
                known
                    .iter()
                    .for_each(|(_, vector)| input.extend_from_slice(vector));
                let Some(source) = strongest(known.iter().map(|(from, _)| **from)) else {
                    return Ok(());
                };
                (self.model().plan.run(Input::Floats(&input))?, source)
            }
        };
        if output.iter().any(|value| !value.is_finite()) {
            return Err(OnnxError::NotFinite);
        }
        let scored: Vec<(u32, f32)> = match answer {
            Answer::Scores { padded } => {
                let products = self.product_of.iter().copied();
                let scores = output.into_iter().skip(usize::from(padded));
                products
                    .zip(scores)
                    .filter(|(product, _)| *product != NONE)
                    .collect()
            }
            Answer::Embedding(_) => content.embeddings.products_by_dot(&output),
        };
        let (low, _) = range(scored.iter().map(|(_, score)| *score));
        for (product, score) in scored {
            scratch.add(product, score - low, source);
        }
        Ok(())
    }
}

fn range(values: impl Iterator<Item = f32>) -> (f32, f32) {
    values.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    })
}

fn strongest(basis: impl Iterator<Item = crate::models::Basis>) -> Option<u32> {
    basis
        .max_by(|a, b| a.weight.total_cmp(&b.weight))
        .map(|from| from.product)
}

/// Answers with the model: candidates best first in `ranked`, and whether it did. Without a model, or when it
/// fails, `ranked` is what `blend` said.
pub(crate) fn answer(
    question: &Question<'_>,
    scratch: &mut Scratch,
    ranked: &mut Vec<Candidate>,
    best: impl Fn(&Scratch, &mut Vec<Candidate>),
    blend: impl FnOnce(&mut Scratch) -> Vec<Candidate>,
) -> bool {
    let onnx = question.shared.onnx.load();
    let outcome = match onnx.as_ref() {
        None => {
            *ranked = blend(scratch);
            return false;
        }
        Some(live) if matches!(live.model().kind, Kind::Ranker { .. }) => {
            *ranked = blend(scratch);
            live.rank(question, ranked)
        }
        Some(live) => {
            let outcome = live.score(question, scratch);
            if outcome.is_ok() {
                best(scratch, ranked);
            } else {
                scratch.clear();
                *ranked = blend(scratch);
            }
            outcome
        }
    };
    if outcome.is_err() {
        // Readers count, on many threads.
        question.shared.counters.onnx_failures.fetch_add(1, Relaxed);
    }
    outcome.is_ok()
}

impl Writer {
    /// Swaps in a model that the user brought; readers use it from their next answer on. Its products are those
    /// of this name that the engine knows; others are found as the catalogue or events tell of them.
    pub fn install_onnx(&mut self, artifact: OnnxArtifact) {
        let live = LiveOnnx::new(artifact, &self.shared);
        self.onnx_products = self.names.len();
        self.shared.onnx.store(Some(Arc::new(live)));
    }

    /// Takes the model out again.
    pub fn uninstall_onnx(&mut self) {
        self.shared.onnx.store(None);
    }

    /// Finds the model's products among those that became known since.
    pub(crate) fn refresh_onnx(&mut self) {
        if self.onnx_products != self.names.len()
            && let Some(live) = self.shared.onnx.load_full()
        {
            self.install_onnx(live.artifact.clone());
        }
    }
}
