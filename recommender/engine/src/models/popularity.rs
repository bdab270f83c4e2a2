//! What is popular now, overall or in a category: the same for everyone.

use super::{Basis, Model};
use crate::{
    scratch::{NO_SOURCE, Scratch},
    shared::Shared,
};

pub(crate) struct Popularity;

impl Model for Popularity {
    fn score(&self, shared: &Shared, _basis: &[Basis], category: Option<u32>, scratch: &mut Scratch) {
        let trending = shared.trending.load();
        let list = match category {
            Some(category) => trending.by_category.get(&category),
            None => Some(&trending.overall),
        };
        for &(product, score) in list.into_iter().flatten() {
            scratch.add(product, score, NO_SOURCE);
        }
    }
}
