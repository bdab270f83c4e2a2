//! Item-to-item models: a candidate scores the sum of what the products of the basis say of it.

use super::{Model, Question};
use crate::{scratch::Scratch, shared::Neighbor};

/// Nearest neighbours by cosine.
pub(crate) struct ItemKnn;

/// RP3beta (Paudel et al. 2017): a random walk of three steps, from a product to its customers to their
/// products, with frequent products held back.
pub(crate) struct Rp3Beta;

impl Model for ItemKnn {
    fn score(&self, question: &Question<'_>, scratch: &mut Scratch) {
        for from in question.basis {
            let list = question.shared.product(from.product).neighbors.load();
            add_all(
                list.iter().flat_map(|list| list.iter()).take(question.reads),
                from.weight,
                from.product,
                scratch,
            );
        }
    }
}

impl Model for Rp3Beta {
    fn score(&self, question: &Question<'_>, scratch: &mut Scratch) {
        for from in question.basis {
            let list = question.shared.product(from.product).walks.load();
            add_all(
                list.iter().flat_map(|list| list.iter()).take(question.reads),
                from.weight,
                from.product,
                scratch,
            );
        }
    }
}

/// Adds what one product says.
pub(super) fn add_all<'a>(
    list: impl Iterator<Item = &'a Neighbor>,
    weight: f32,
    source: u32,
    scratch: &mut Scratch,
) {
    for neighbor in list {
        scratch.add(neighbor.product, weight * neighbor.similarity, source);
    }
}
