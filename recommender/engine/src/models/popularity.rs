//! What is popular now, overall or in a category: the same for everyone.

use super::{Model, Question};
use crate::{
    scratch::{Candidate, NO_SOURCE, Scratch},
    shared::Trending,
};

pub(crate) struct Popularity;

impl Model for Popularity {
    fn score(&self, question: &Question<'_>, scratch: &mut Scratch) {
        for &(product, score) in listed(question, &question.shared.trending.load()) {
            scratch.add(product, score, NO_SOURCE);
        }
    }
}

/// The list that a question is about: of its category, or of all; in order.
fn listed<'a>(question: &Question<'_>, trending: &'a Trending) -> &'a [(u32, f32)] {
    match question.category {
        Some(category) => trending.by_category.get(&category).map_or(&[], Vec::as_slice),
        None => &trending.overall,
    }
}

/// The first `limit` of the list for which `keep` holds: it is in order already.
pub(crate) fn popular(question: &Question<'_>, limit: usize, keep: impl Fn(u32) -> bool) -> Vec<Candidate> {
    let mut popular = Vec::new();
    find_popular(question, usize::MAX, limit, keep, &mut popular);
    popular
}

/// The same in place of what is in `out`; nobody is looked at past the first `reach`.
pub(crate) fn find_popular(
    question: &Question<'_>,
    reach: usize,
    limit: usize,
    keep: impl Fn(u32) -> bool,
    out: &mut Vec<Candidate>,
) {
    let trending = question.shared.trending.load();
    let kept = listed(question, &trending)
        .iter()
        .take(reach)
        .filter(|(product, _)| keep(*product));
    out.clear();
    out.extend(kept.take(limit).map(|&(product, score)| Candidate {
        product,
        score,
        source: NO_SOURCE,
    }));
}
