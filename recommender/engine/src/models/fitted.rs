//! Answering from fitted models.

use super::{Model, Question, add_lists};
use crate::{
    blend::EASE,
    fitted::LiveAls,
    lists::Word,
    scratch::{Candidate, LISTED, NO_SOURCE, Scratch},
    shared::NONE,
};

/// EASE, once fitted.
pub(crate) struct Ease;

/// iALS, once fitted.
pub(crate) struct ImplicitAls;

impl Model for Ease {
    fn score(&self, question: &Question<'_>, scratch: &mut Scratch) {
        scratch.come_from_lists(LISTED + EASE as u32);
        add_lists(self, question, scratch);
    }

    fn list(&self, question: &Question<'_>, product: u32, read: &mut dyn FnMut(&[Word])) {
        let ease = question.fitted.ease.as_ref();
        if let Some(list) = ease.and_then(|ease| ease.lists.get(product as usize)) {
            read(list);
        }
    }
}

impl LiveAls {
    /// The vector of who asks; none if the model knows nothing of what they did.
    pub fn fold(&self, question: &Question<'_>) -> Option<Vec<f32>> {
        let known = question
            .basis
            .iter()
            .filter_map(|from| Some((self.row(from.product)?, from.weight)));
        let (rows, weights): (Vec<u32>, Vec<f32>) = known.unzip();
        (!rows.is_empty()).then(|| self.model.fold_in(&rows, &weights))
    }

    /// The row of a product.
    pub fn row(&self, product: u32) -> Option<u32> {
        self.row_of
            .get(product as usize)
            .copied()
            .filter(|row| *row != NONE)
    }
}

impl Model for ImplicitAls {
    fn score(&self, question: &Question<'_>, scratch: &mut Scratch) {
        let Some(als) = &question.fitted.als else { return };
        let Some(vector) = als.fold(question) else { return };
        let known = als.product_of.iter().zip(0..);
        let known = known.filter(|(product, _)| **product != NONE);
        let scores = als.model.scores(&vector, known.clone().map(|(_, row)| row));
        for ((&product, _), score) in known.zip(scores) {
            if score > 0.0 {
                scratch.add(product, score, NO_SOURCE);
            }
        }
    }

    /// The product of the basis whose vector, as weighted, points most to the candidate.
    fn source(&self, question: &Question<'_>, candidate: &Candidate) -> u32 {
        let Some(als) = &question.fitted.als else {
            return NO_SOURCE;
        };
        let Some(row) = als.row(candidate.product) else {
            return NO_SOURCE;
        };
        let basis = question.basis.iter();
        let known = basis.filter_map(|from| Some((from, als.row(from.product)?)));
        let likeness = als.model.likeness(row, known.clone().map(|(_, other)| other));
        let parts = known
            .zip(likeness)
            .map(|((from, _), like)| (from.product, from.weight * like));
        parts
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map_or(NO_SOURCE, |(product, _)| product)
    }
}
