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
