//! Item-to-item nearest neighbours: a candidate scores the sum of its cosines with the basis.

use super::{Basis, Model};
use crate::{scratch::Scratch, shared::Shared};

pub(crate) struct ItemKnn;

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
