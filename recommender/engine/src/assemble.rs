//! From ranked candidates to what is shown: pins, caps, and reasons.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use ahash::{AHashMap, AHashSet};

use crate::{
    answer::{Filter, done_with, showable},
    event::EventKind,
    history::History,
    knowledge::{self, Attributes, KnowledgeRule},
    lists::Word,
    models::Basis,
    query::{Reason, Scored},
    rerank::{Explored, NEAREST},
    scratch::{Candidate, NO_SOURCE, PROFILE, Scratch},
    shared::{NONE, Shared},
    trace::{OTHERS, Others, insert},
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
    explored: &Explored,
) -> Vec<Scored> {
    let shared = filter.shared;
    let rules = &filter.rules.tuning.rules;
    let mut pinned: Vec<u32> = Vec::new();
    for id in rules.pin.iter().filter_map(|name| shared.product_id(name)) {
        if filter.keeps(id) && !pinned.contains(&id) {
            pinned.push(id);
        }
    }
    let mut in_category: AHashMap<u32, usize> = AHashMap::new();
    let mut items: Vec<Scored> = Vec::with_capacity(limit);
    let top = ranked.first().map_or(0.0, |first| first.score);
    let pins = pinned.iter().map(|&product| Candidate {
        product,
        score: top,
        source: NO_SOURCE,
    });
    let rest = ranked
        .iter()
        .enumerate()
        .filter(|(_, candidate)| !pinned.contains(&candidate.product));
    let pins = pins.map(|pin| (pin, None));
    for (candidate, ranked) in pins.chain(rest.map(|(at, candidate)| (*candidate, Some(at)))) {
        if items.len() >= limit {
            break;
        }
        let slot = shared.product(candidate.product);
        let category = slot.category.load(Relaxed);
        if rules.max_per_category > 0 && category != NONE {
            let count = in_category.entry(category).or_default();
            if *count >= rules.max_per_category && ranked.is_some() {
                continue;
            }
            *count += 1;
        }
        let (explored, probability) = match ranked {
            None => (false, 1.0),
            Some(_) => explored.of(candidate.product, items.len()),
        };
        items.push(Scored {
            product: Arc::clone(&slot.name),
            title: slot.title(),
            score: candidate.score,
            explored,
            probability,
            reason: ranked.map_or(Reason::Pinned, |at| reasons.of(&candidate, at)),
        });
    }
    items
}

/// Knows how to say why.
pub(crate) struct Reasons<'a> {
    pub shared: &'a Shared,
    pub history: Option<&'a History>,
    pub category: Option<&'a str>,
    pub rules: &'a [KnowledgeRule],
    pub profile: Option<&'a Attributes>,
    /// What the answer was computed from.
    pub basis: &'a [Basis],
    /// What speaks for the ranked ones beside their sources, where that is known.
    pub others: &'a [Others],
    /// Lent to find products of the basis by id: they are marked with their positions.
    pub scratch: &'a Scratch,
    /// Whether anybody asked.
    pub told: bool,
}

impl Reasons<'_> {
    /// Of a candidate that has this place in the ranking.
    fn of(&self, candidate: &Candidate, at: usize) -> Reason {
        match candidate.source {
            _ if !self.told => Reason::Untold,
            NO_SOURCE => self.popular(),
            PROFILE => self.suits(candidate.product).unwrap_or_else(|| self.popular()),
            source => {
                let known = self.others.get(at).copied().flatten();
                let others = known.unwrap_or_else(|| self.near(candidate.product, source));
                self.because(source, others)
            }
        }
    }

    fn popular(&self) -> Reason {
        match self.category {
            Some(category) => Reason::PopularInCategory {
                category: category.into(),
            },
            None => Reason::Popular,
        }
    }

    fn suits(&self, product: u32) -> Option<Reason> {
        let meta = self.shared.product(product).meta.load();
        let (rule, value) = knowledge::strongest(self.rules, self.profile?, &meta.as_ref()?.meta)?;
        Some(Reason::SuitsProfile {
            customer_attribute: rule.customer_attribute.as_str().into(),
            product_attribute: rule.product_attribute.as_str().into(),
            value: value.into(),
        })
    }

    /// The product that contributed most, and up to two more.
    fn because(&self, source: u32, others: [u32; OTHERS]) -> Reason {
        let others = others.into_iter().filter(|other| *other != NO_SOURCE);
        Reason::BecauseOf {
            products: std::iter::once(source)
                .chain(others)
                .map(|id| Arc::clone(&self.shared.product(id).name))
                .collect(),
            kind: self.done_with(source),
        }
    }

    /// Up to two more of the history that are neighbours of what is shown and with which the customer did the same.
    fn near(&self, shown: u32, source: u32) -> [u32; OTHERS] {
        let kind = self.done_with(source);
        let mut best = [(f32::NEG_INFINITY, NO_SOURCE); OTHERS];
        let list = self.shared.product(shown).neighbors.read();
        for neighbor in list[..list.len().min(NEAREST)].iter().map(Word::get) {
            if let Some(at) = self.scratch.marked(neighbor.product)
                && self.basis[at].product != source
                && self.basis[at].kind == kind
            {
                let known = &self.basis[at];
                insert(&mut best, known.weight * neighbor.similarity, known.product);
            }
        }
        best.map(|(_, product)| product)
    }

    fn done_with(&self, product: u32) -> EventKind {
        match self.scratch.marked(product) {
            Some(at) => self.basis[at].kind,
            None => done_with(self.history, product),
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
                probability: 1.0,
            }
        })
        .collect()
}
