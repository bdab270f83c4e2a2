//! After scoring: variety among what is shown, and a share of slots for what is seldom shown.

use crate::{
    scratch::{Candidate, Scratch},
    shared::Shared,
};

/// Candidates per slot that variety may choose from.
const POOL: usize = 3;

/// How many candidates `diversify` and `explore` can make use of.
pub(crate) fn pool(limit: usize) -> usize {
    limit.saturating_mul(POOL)
}

/// Maximal marginal relevance (Carbonell and Goldstein 1998): each slot takes the candidate with the best
/// balance of its score and its likeness to those above it. Ranked candidates come in and go out; the first
/// stays first.
pub(crate) fn diversify(
    shared: &Shared,
    scratch: &mut Scratch,
    ranked: Vec<Candidate>,
    limit: usize,
    diversity: f32,
) -> Vec<Candidate> {
    if diversity <= 0.0 || ranked.len() < 3 {
        return ranked;
    }
    let top = ranked[0].score.max(f32::MIN_POSITIVE);
    let mut pool = ranked;
    let rest = pool.split_off(pool.len().min(self::pool(limit)));
    let mut likeness = vec![0f32; pool.len()];
    scratch.mark(pool.iter().map(|candidate| candidate.product));
    let mut taken = vec![false; pool.len()];
    let mut shown = Vec::with_capacity(pool.len() + rest.len());
    for _ in 0..limit.min(pool.len()) {
        let value = |at: usize| (1.0 - diversity) * pool[at].score / top - diversity * likeness[at];
        let best = (0..pool.len()).filter(|at| !taken[*at]);
        // Of equal values the better ranked.
        let best = best.max_by(|a, b| value(*a).total_cmp(&value(*b)).then(b.cmp(a)));
        let Some(best) = best else { break };
        taken[best] = true;
        shown.push(pool[best]);
        let neighbors = shared.product(pool[best].product).neighbors.load();
        for neighbor in neighbors.iter().flat_map(|list| list.iter()) {
            if let Some(other) = scratch.marked(neighbor.product) {
                likeness[other] = likeness[other].max(neighbor.similarity.min(1.0));
            }
        }
    }
    scratch.unmark(pool.iter().map(|candidate| candidate.product));
    shown.extend(
        pool.iter()
            .zip(&taken)
            .filter(|(_, taken)| !**taken)
            .map(|(candidate, _)| *candidate),
    );
    shown.extend(rest);
    shown
}

/// Gives about a share of the slots, never the first, to candidates from further down: which, follows from
/// the seed. Answers the slots, ascending.
pub(crate) fn explore(ranked: &mut [Candidate], limit: usize, share: f32, seed: u64) -> Vec<usize> {
    let mut slots = Vec::new();
    if share <= 0.0 || ranked.len() <= limit {
        return slots;
    }
    // A fixed key: the same question at the same hour has the same answer on every replica.
    let hasher = ahash::RandomState::with_seeds(seed, 1, 2, 3);
    let tail = (ranked.len() - limit).min(pool(limit));
    for slot in 1..limit {
        let draw = hasher.hash_one(slot);
        if ((draw >> 40) as f32 / (1u64 << 24) as f32) < share {
            let from = limit + (draw as usize & 0xFFFF_FFFF) % tail;
            ranked.swap(slot, from);
            slots.push(slot);
        }
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::NO_SOURCE;

    fn ranked(products: u32) -> Vec<Candidate> {
        (0..products)
            .map(|product| Candidate {
                product,
                score: 1.0 / (product + 1) as f32,
                source: NO_SOURCE,
            })
            .collect()
    }

    #[test]
    fn exploration_takes_about_its_share_never_the_first_slot_and_repeats_itself() {
        let mut slots = 0;
        for seed in 0..100 {
            let (mut first, mut second) = (ranked(60), ranked(60));
            let explored = explore(&mut first, 20, 0.2, seed);
            assert_eq!(explored, explore(&mut second, 20, 0.2, seed));
            assert_eq!(first, second);
            assert_eq!(first[0].product, 0);
            slots += explored.len();
        }
        assert!((280..480).contains(&slots), "{slots}");
    }
}
