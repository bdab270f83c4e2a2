//! After scoring: variety among what is shown, and a share of slots for what is seldom shown.

use crate::{
    lists::Word,
    scratch::{Candidate, Scratch},
    shared::Shared,
};

/// Candidates per slot that variety may choose from.
const POOL: usize = 3;
/// Neighbours of what is shown that variety and reasons look at: further ones are hardly alike.
pub(crate) const NEAREST: usize = 32;

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
    scratch.mark(pool.iter().map(|candidate| candidate.product));
    // What a candidate is worth: its score, less its likeness to what is shown. Taken ones are worth nothing.
    let worth = |candidate: &Candidate| (1.0 - diversity) * candidate.score / top;
    // By mark. What is not marked has the first place, which is never chosen: most neighbours are not, and going
    // by that is quicker than asking.
    let scores: Vec<f32> = std::iter::once(f32::NEG_INFINITY)
        .chain(pool.iter().map(worth))
        .collect();
    let mut worth = scores.clone();
    // Which is chosen next depends on the last list. Asking for the likely ones before the first is needed lets the
    // processor fetch them side by side.
    let likely = pool
        .iter()
        .take(limit)
        .map(|one| shared.product(one.product).neighbors.read());
    let peeks = likely.flat_map(|list| list[..list.len().min(NEAREST)].iter().step_by(8));
    std::hint::black_box(peeks.fold(0, |all, word| all ^ word.get().product));
    let mut shown = Vec::with_capacity(pool.len() + rest.len());
    for _ in 0..limit.min(pool.len()) {
        let best = largest(&worth);
        worth[best] = f32::NEG_INFINITY;
        shown.push(pool[best - 1]);
        let list = shared.product(pool[best - 1].product).neighbors.read();
        // Cosines are below 1; other measures are not, and count by the nearest.
        let nearest = list.first().map(Word::get);
        let penalty = diversity / nearest.map_or(1.0, |nearest| nearest.similarity.max(1.0));
        for neighbor in list[..list.len().min(NEAREST)].iter().map(Word::get) {
            // Nothing makes a taken one worth something again, nor one that is not marked: written is seldom, and so
            // the processor need not wait for what it wrote to the one place that most would have it from.
            let other = scratch.mark_of(neighbor.product);
            let left = scores[other] - penalty * neighbor.similarity;
            if left < worth[other] {
                worth[other] = left;
            }
        }
    }
    scratch.unmark(pool.iter().map(|candidate| candidate.product));
    let left = pool
        .iter()
        .zip(&worth[1..])
        .filter(|(_, worth)| **worth > f32::NEG_INFINITY);
    shown.extend(left.map(|(candidate, _)| *candidate));
    shown.extend(rest);
    shown
}

/// Where the largest value is; of equal ones the first. In lanes, which the compiler takes side by side.
fn largest(values: &[f32]) -> usize {
    const LANES: usize = 16;
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut largest = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (largest, value) in largest.iter_mut().zip(chunk) {
            *largest = if value > largest { *value } else { *largest };
        }
    }
    let largest = largest
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    values
        .iter()
        .position(|value| *value == largest)
        .unwrap_or_default()
}

/// What exploration did to an answer.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Explored {
    /// The share of slots that were left to chance; 0 if there was nothing to explore.
    pub share: f32,
    /// Products that were drawn, each with the probability of its slot going to it, given those drawn before.
    pub drawn: Vec<(u32, f32)>,
}

impl Explored {
    /// Whether a product was drawn, and with which probability it stands in this place.
    pub fn of(&self, product: u32, slot: usize) -> (bool, f32) {
        match self.drawn.iter().find(|(drawn, _)| *drawn == product) {
            Some((_, probability)) => (true, *probability),
            None if slot == 0 => (false, 1.0),
            None => (false, 1.0 - self.share),
        }
    }
}

/// Gives about a share of the slots, never the first, to candidates from further down: which, follows from
/// the seed. Half of them go to products that nobody has met yet, where there are any: they cannot earn a
/// place otherwise.
pub(crate) fn explore(
    ranked: &mut [Candidate],
    limit: usize,
    share: f32,
    seed: u64,
    is_new: impl Fn(u32) -> bool,
) -> Explored {
    if share <= 0.0 || ranked.len() <= limit {
        return Explored::default();
    }
    let mut explored = Explored {
        share,
        drawn: Vec::new(),
    };
    // A fixed key: the same question at the same hour has the same answer on every replica.
    let hasher = ahash::RandomState::with_seeds(seed, 1, 2, 3);
    // Positions, each drawn once. Looked for only once something is drawn: most answers draw nothing.
    let mut pools: Option<(Vec<usize>, Vec<usize>)> = None;
    for slot in 1..limit {
        let draw = hasher.hash_one(slot);
        if ((draw >> 40) as f32 / (1u64 << 24) as f32) >= share {
            continue;
        }
        let (new, tail) = pools.get_or_insert_with(|| {
            let below = limit..ranked.len();
            let new = below.clone().filter(|at| is_new(ranked[*at].product));
            (new.take(pool(limit)).collect(), below.take(pool(limit)).collect())
        });
        let pick = (draw & 0xFFFF_FFFF) as usize;
        let from_new = !new.is_empty() && (tail.is_empty() || pick & 1 == 0);
        let chosen: &[usize] = if from_new { &*new } else { &*tail };
        if chosen.is_empty() {
            break;
        }
        let from = chosen[(pick >> 1) % chosen.len()];
        let of_new = match (new.is_empty(), tail.is_empty()) {
            (true, _) => 0.0,
            (_, true) => 1.0,
            _ => 0.5,
        };
        let mut probability = 0.0;
        for (list, chance) in [(new, of_new), (tail, 1.0 - of_new)] {
            if let Some(at) = list.iter().position(|at| *at == from) {
                probability += chance / list.len() as f32;
                list.swap_remove(at);
            }
        }
        explored.drawn.push((ranked[from].product, share * probability));
        ranked.swap(slot, from);
    }
    explored
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
            let explored = explore(&mut first, 20, 0.2, seed, |_| false);
            assert_eq!(explored, explore(&mut second, 20, 0.2, seed, |_| false));
            assert_eq!(first, second);
            assert_eq!(first[0].product, 0);
            // Forty products may be drawn for a fifth of the slots, each once.
            let mut left = 40.0;
            for (slot, candidate) in first.iter().enumerate().take(20) {
                let (drawn, probability) = explored.of(candidate.product, slot);
                assert_eq!(drawn, candidate.product >= 20);
                let expected = match (slot, drawn) {
                    (0, _) => 1.0,
                    (_, true) => 0.2 / left,
                    (_, false) => 0.8,
                };
                assert!((probability - expected).abs() < 1e-6, "{probability} {expected}");
                left -= f32::from(u8::from(drawn));
            }
            slots += first[..20]
                .iter()
                .filter(|candidate| candidate.product >= 20)
                .count();
        }
        assert!((280..480).contains(&slots), "{slots}");
    }

    #[test]
    fn half_of_the_explored_slots_go_to_products_that_nobody_has_met() {
        let (mut slots, mut of_new) = (0, 0);
        for seed in 0..100 {
            let mut list = ranked(200);
            let explored = explore(&mut list, 20, 0.2, seed, |product| product >= 190);
            for (product, probability) in &explored.drawn {
                slots += 1;
                of_new += u32::from(*product >= 190);
                assert!((0.2 * 0.5 / 60.0..=0.2 * 0.5 / 1.0).contains(probability));
            }
        }
        assert!(
            (slots * 4 / 10..=slots * 6 / 10).contains(&of_new),
            "{of_new} of {slots}"
        );
    }
}
