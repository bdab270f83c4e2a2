//! Blending ranked lists by reciprocal rank: scores of different models need no common scale.

use std::cmp::Ordering;

use ahash::AHashMap;

use crate::scratch::Candidate;

/// Softens the difference between the first ranks.
const SOFTENING: f32 = 20.0;
/// How much popularity says beside the personal model.
const POPULARITY: f32 = 0.15;

/// How many candidates of each list are worth blending for an answer of this length.
pub(crate) fn candidates(limit: usize) -> usize {
    limit.saturating_mul(3).saturating_add(30)
}

/// The personal list leads; what is popular too moves up.
pub(crate) fn reciprocal_rank(
    personal: &[Candidate],
    popular: &[Candidate],
    tie: impl Fn(u32, u32) -> Ordering,
) -> Vec<Candidate> {
    let mut blended: Vec<Candidate> = Vec::with_capacity(personal.len() + popular.len());
    let mut at: AHashMap<u32, usize> = AHashMap::with_capacity(personal.len());
    for (list, weight) in [(personal, 1.0), (popular, POPULARITY)] {
        for (rank, candidate) in list.iter().enumerate() {
            let score = weight / (SOFTENING + rank as f32 + 1.0);
            match at.get(&candidate.product) {
                Some(&known) => blended[known].score += score,
                None => {
                    at.insert(candidate.product, blended.len());
                    blended.push(Candidate { score, ..*candidate });
                }
            }
        }
    }
    blended.sort_unstable_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| tie(a.product, b.product))
    });
    blended
}
