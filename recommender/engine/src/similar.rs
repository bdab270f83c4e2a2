//! Products like a product: by common customers, with room for those that nobody has met yet.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::{
    answer::showable,
    event::EventKind,
    hybrid::by_name,
    lists::Word,
    models::Basis,
    query::{Reason, Scored},
    scratch::{Candidate, Scratch},
    shared::Shared,
};

/// Every so many places one is for a new product.
const NEW_EVERY: usize = 4;
/// What a new product must have in common with the one asked about, as a cosine.
const ALIKE: f32 = 0.2;

/// Whether hardly anybody has met a product: it is not popular, has no neighbours by common customers and is in no
/// visit.
pub(crate) fn is_new(shared: &Shared, id: u32) -> bool {
    let slot = shared.product(id);
    let is_popular = f32::from_bits(slot.popularity.load(Relaxed)) > 0.0;
    !is_popular && slot.neighbors.is_empty() && shared.visits.frequency(id) == 0
}

pub(crate) fn similar(shared: &Shared, product: &str, limit: usize) -> Vec<Scored> {
    let Some(id) = shared.product_id(product) else {
        return Vec::new();
    };
    let asked = shared.product(id);
    let tuning = shared.tuning.load();
    let shows = |other: u32| other != id && showable(shared, &tuning, other);
    let mut near: Vec<(u32, f32)> = Vec::with_capacity(limit.min(asked.neighbors.read().len()));
    for found in asked.neighbors.read().iter().map(Word::get) {
        if near.len() >= limit {
            break;
        }
        // A list that is being rewritten may name one twice.
        let known = near.iter().any(|(product, _)| *product == found.product);
        if !known && shows(found.product) {
            near.push((found.product, found.similarity));
        }
    }
    let basis = [Basis {
        product: id,
        weight: 1.0,
        kind: EventKind::View,
    }];
    let alike = Scratch::with(shared.products.count(), |scratch| {
        let mut alike: Vec<Candidate> = Vec::new();
        shared.content.load().score(&basis, scratch);
        // One that others have met has its place among them, or none; it fills up what is left at most.
        let found = |other: u32| shows(other) && !near.iter().any(|(product, _)| *product == other);
        scratch.best(limit, found, |a, b| by_name(shared, a, b), &mut alike);
        alike
    });
    let mut new = alike
        .iter()
        .filter(|candidate| candidate.score >= ALIKE && is_new(shared, candidate.product));
    let mut merged: Vec<(u32, f32)> = Vec::with_capacity(limit);
    for &(product, score) in &near {
        if merged.len() % NEW_EVERY == NEW_EVERY - 1
            && let Some(new) = new.next()
        {
            merged.push((new.product, score));
        }
        merged.push((product, score));
    }
    // Likeness of content is no probability of common customers: it ranks below any.
    let floor = near.last().map_or(1.0, |(_, score)| *score);
    let top = alike
        .first()
        .map_or(1.0, |first| first.score.max(f32::MIN_POSITIVE));
    for candidate in &alike {
        if !merged.iter().any(|(product, _)| *product == candidate.product) {
            merged.push((candidate.product, floor * candidate.score / top));
        }
    }
    let scored = |(product, score): (u32, f32)| {
        let slot = shared.product(product);
        Scored {
            product: Arc::clone(&slot.name),
            title: slot.title(),
            score,
            reason: Reason::SimilarTo {
                product: Arc::clone(&asked.name),
            },
            explored: false,
            probability: 1.0,
        }
    };
    merged.into_iter().take(limit).map(scored).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EngineConfig, EventKind, Interaction, ProductMeta, engine};

    #[test]
    fn what_was_met_long_ago_is_not_new_though_it_is_popular_no_more() {
        // With what customers have in common, and without.
        for row_capacity in [EngineConfig::default().limits.row_capacity, 0] {
            let mut config = EngineConfig::default();
            config.limits.row_capacity = row_capacity;
            let (mut writer, reader) = engine(config).unwrap();
            let now = 1_700_000_000_000;
            let long_after = now + 10 * 365 * 86_400_000;
            for product in ["cup", "mug"] {
                writer.apply(&Interaction::new("ann", product, EventKind::View, now), now);
            }
            writer.set_product("pen", Some(ProductMeta::titled("Pen")));
            writer.apply(
                &Interaction::new("bob", "hat", EventKind::View, long_after),
                long_after,
            );
            writer.flush(long_after);
            let shared = reader.shared();
            let new = |product: &str| is_new(shared, shared.product_id(product).unwrap());
            assert_eq!(["cup", "mug", "hat", "pen"].map(new), [false, false, false, true]);
            let popularity = shared
                .product(shared.product_id("cup").unwrap())
                .popularity
                .load(Relaxed);
            assert_eq!(f32::from_bits(popularity), 0.0);
        }
    }
}
