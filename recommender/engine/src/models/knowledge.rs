//! Declared rules alone: what suits the customer's profile, the popular first.

use std::sync::atomic::Ordering::Relaxed;

use super::{Model, Question};
use crate::scratch::{PROFILE, Scratch};

pub(crate) struct Knowledge;

impl Model for Knowledge {
    fn score(&self, question: &Question<'_>, scratch: &mut Scratch) {
        let Some(profile) = question.profile else { return };
        let index = question.shared.knowledge.load();
        index.matching(question.rules, profile, |product, weight| {
            let slot = question.shared.product(product);
            let popularity = f32::from_bits(slot.popularity.load(Relaxed));
            // Rules decide, popularity orders what they leave equal.
            scratch.add(product, weight * (1.0 + 0.1 * (popularity + 1.0).ln()), PROFILE);
        });
    }
}
