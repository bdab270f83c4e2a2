//! From ranked candidates to what is shown: pins, caps, and reasons.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use ahash::{AHashMap, AHashSet};

use crate::{
    answer::{Filter, showable},
    event::EventKind,
    history::Entry,
    query::{Reason, Scored},
    scratch::{Candidate, NO_SOURCE},
    shared::{CustomerSlot, NONE, Shared},
};

/// Appends popular products, scored below everything that is there.
pub(crate) fn fill_up(ranked: &mut Vec<Candidate>, popular: &[Candidate]) {
    let known: AHashSet<u32> = ranked.iter().map(|candidate| candidate.product).collect();
    let floor = ranked.last().map_or(1.0, |last| last.score.max(0.0));
    let top = popular
        .first()
        .map_or(1.0, |first| first.score)
        .max(f32::MIN_POSITIVE);
    let scale = if ranked.is_empty() { 1.0 } else { floor * 0.5 / top };
    let new = popular
        .iter()
        .filter(|candidate| !known.contains(&candidate.product));
    ranked.extend(new.map(|candidate| Candidate {
        score: candidate.score * scale,
        source: NO_SOURCE,
        ..*candidate
    }));
}

/// Pinned products first, then the ranked ones, no more of a category than the rules allow.
pub(crate) fn assemble(
    filter: &Filter<'_>,
    ranked: &[Candidate],
    limit: usize,
    reasons: &Reasons<'_>,
    explored: &AHashSet<u32>,
) -> Vec<Scored> {
    let shared = filter.shared;
    let rules = &filter.rules.tuning.rules;
    let pinned = rules
        .pin
        .iter()
        .filter_map(|name| shared.product_id(name))
        .filter(|id| filter.keeps(*id));
    let pinned: Vec<u32> = pinned.collect();
    let mut in_category: AHashMap<u32, usize> = AHashMap::new();
    let mut items: Vec<Scored> = Vec::with_capacity(limit);
    let top = ranked.first().map_or(0.0, |first| first.score);
    let pins = pinned.iter().map(|&product| {
        (
            Candidate {
                product,
                score: top,
                source: NO_SOURCE,
            },
            true,
        )
    });
    let rest = ranked
        .iter()
        .filter(|candidate| !pinned.contains(&candidate.product));
    for (candidate, pinned) in pins.chain(rest.map(|candidate| (*candidate, false))) {
        if items.len() >= limit {
            break;
        }
        let slot = shared.product(candidate.product);
        let category = slot.category.load(Relaxed);
        if rules.max_per_category > 0 && category != NONE {
            let count = in_category.entry(category).or_default();
            if *count >= rules.max_per_category && !pinned {
                continue;
            }
            *count += 1;
        }
        items.push(Scored {
            product: Arc::clone(&slot.name),
            title: slot.title(),
            score: candidate.score,
            explored: explored.contains(&candidate.product),
            reason: if pinned {
                Reason::Pinned
            } else {
                reasons.of(&candidate)
            },
        });
    }
    items
}

/// Knows how to say why.
pub(crate) struct Reasons<'a> {
    pub shared: &'a Shared,
    pub customer: Option<&'a CustomerSlot>,
    pub category: Option<&'a str>,
}

impl Reasons<'_> {
    fn of(&self, candidate: &Candidate) -> Reason {
        if candidate.source == NO_SOURCE {
            return match self.category {
                Some(category) => Reason::PopularInCategory {
                    category: category.into(),
                },
                None => Reason::Popular,
            };
        }
        let source = self.shared.product(candidate.source);
        let kind = self.customer.and_then(|slot| {
            let history = slot.history.load();
            history
                .entries
                .iter()
                .find(|entry| entry.product == candidate.source)
                .map(Entry::strongest)
        });
        // A product of the visit that is not in the history was at least looked at.
        Reason::BecauseOf {
            products: vec![Arc::clone(&source.name)],
            kind: kind.unwrap_or(EventKind::View),
        }
    }
}

pub(crate) fn trending(shared: &Shared, limit: usize, category: Option<&str>) -> Vec<Scored> {
    let rules = shared.tuning.load();
    let trending = shared.trending.load();
    let list = match category {
        Some(name) => shared
            .category_id(name)
            .and_then(|id| trending.by_category.get(&id)),
        None => Some(&trending.overall),
    };
    let reason = match category {
        Some(category) => Reason::PopularInCategory {
            category: category.into(),
        },
        None => Reason::Popular,
    };
    let shown = list
        .into_iter()
        .flatten()
        .filter(|(id, _)| showable(shared, &rules, *id))
        .take(limit);
    shown
        .map(|&(id, score)| {
            let slot = shared.product(id);
            Scored {
                product: Arc::clone(&slot.name),
                title: slot.title(),
                score,
                reason: reason.clone(),
                explored: false,
            }
        })
        .collect()
}
