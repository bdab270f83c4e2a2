//! Item-to-item models: a candidate scores the sum of what the products of the basis say of it.

use super::{Basis, Model};
use crate::{scratch::Scratch, shared::Shared};

/// Nearest neighbours by cosine.
pub(crate) struct ItemKnn;

/// RP3beta (Paudel et al. 2017): a random walk of three steps, from a product to its customers to their
/// products, with frequent products held back.
pub(crate) struct Rp3Beta;

impl Model for ItemKnn {
    fn score(&self, shared: &Shared, basis: &[Basis], _category: Option<u32>, scratch: &mut Scratch) {
        for from in basis {
            let neighbors = shared.product(from.product).neighbors.load();
            for neighbor in neighbors.iter().flat_map(|list| list.iter()) {
                scratch.add(neighbor.product, from.weight * neighbor.similarity, from.product);
            }
        }
    }
}

impl Model for Rp3Beta {
    fn score(&self, shared: &Shared, basis: &[Basis], _category: Option<u32>, scratch: &mut Scratch) {
        for from in basis {
            let walks = shared.product(from.product).walks.load();
            for neighbor in walks.iter().flat_map(|list| list.iter()) {
                scratch.add(neighbor.product, from.weight * neighbor.similarity, from.product);
            }
        }
    }
}
