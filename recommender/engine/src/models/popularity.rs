//! What is popular now, overall or in a category: the same for everyone.

use super::{Model, Question};
use crate::scratch::{Candidate, NO_SOURCE, Scratch};

pub(crate) struct Popularity;

impl Model for Popularity {
    fn score(&self, question: &Question<'_>, scratch: &mut Scratch) {
        let trending = question.shared.trending.load();
        let list = match question.category {
            Some(category) => trending.by_category.get(&category),
            None => Some(&trending.overall),
        };
        for &(product, score) in list.into_iter().flatten() {
            scratch.add(product, score, NO_SOURCE);
        }
    }
}

/// The first `limit` of the list for which `keep` holds: it is in order already.
pub(crate) fn popular(question: &Question<'_>, limit: usize, keep: impl Fn(u32) -> bool) -> Vec<Candidate> {
    let trending = question.shared.trending.load();
    let list = match question.category {
        Some(category) => trending.by_category.get(&category),
        None => Some(&trending.overall),
    };
    let kept = list.into_iter().flatten().filter(|(product, _)| keep(*product));
    kept.take(limit)
        .map(|&(product, score)| Candidate {
            product,
            score,
            source: NO_SOURCE,
        })
        .collect()
}
