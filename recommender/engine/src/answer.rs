//! From a question to an answer: basis, scores, rules, reasons.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::{
    assemble::{Reasons, assemble, fill_up},
    blend::Pool,
    config::{Algorithm, PurchasedPolicy},
    event::EventKind,
    history::{Entry, History, INTEREST_STEPS},
    hybrid::{self, by_name},
    knowledge::{self, Attributes},
    marks::Marks,
    models::{Basis, Question, model, onnx, popularity::popular},
    query::{Fallback, Query, Recommendations},
    rerank::{self, Explored},
    scratch::{Candidate, NO_SOURCE, Scratch},
    sessions::GAP_MS,
    shared::{Compiled, NONE, ProductSlot, Shared},
    similar::is_new,
    trace::trace,
};

/// Each older product of a visit counts this much of the next newer one.
const RECENT_DECAY: f32 = 0.8;
/// How much the newest product of a visit weighs, against 1 for the newest of a fresh history.
const RECENT_WEIGHT: f32 = 4.0;

/// Neighbours of a product that are read however long the history.
const FEWEST_READS: usize = 20;

/// Products of a visit that the session model is asked about.
const LONGEST_VISIT: usize = 50;

/// Whether the rules let a product be shown to anyone.
pub(crate) fn showable(shared: &Shared, rules: &Compiled, id: u32) -> bool {
    shows(rules, shared.product(id))
}

fn shows(rules: &Compiled, slot: &ProductSlot) -> bool {
    slot.available.load(Relaxed) && is_product(rules, slot)
}

/// Whether it is a product at all: what the rules exclude (postage, manual lines) is neither shown nor a reason to
/// show anything else.
fn is_product(rules: &Compiled, slot: &ProductSlot) -> bool {
    slot.is_product() && (rules.excluded.is_empty() || !rules.excluded.contains(&*slot.name))
}

/// What an answer may contain, decided once per question.
pub(crate) struct Filter<'a> {
    pub shared: &'a Shared,
    pub rules: &'a Compiled,
    excluded: Marks,
    category: Option<u32>,
    profile: Option<&'a Attributes>,
}

impl Filter<'_> {
    pub fn keeps(&self, id: u32) -> bool {
        if self.excluded.contains(id) {
            return false;
        }
        let slot = self.shared.product(id);
        let in_category = self
            .category
            .is_none_or(|category| slot.category.load(Relaxed) == category);
        let suits = || match self.profile {
            Some(profile) if !self.rules.knowledge.is_empty() => {
                let meta = slot.meta.load();
                meta.as_ref()
                    .is_none_or(|stored| knowledge::allows(&self.rules.knowledge, profile, &stored.meta))
            }
            _ => true,
        };
        in_category && suits() && shows(self.rules, slot)
    }
}

pub(crate) fn recommend(shared: &Shared, query: &Query<'_>) -> Recommendations {
    recommend_observed(shared, query, &mut |_| {})
}

/// The same; `observe` sees what each member of the blend said, if it is the blend that answers.
pub(crate) fn recommend_observed(
    shared: &Shared,
    query: &Query<'_>,
    observe: &mut dyn FnMut(&Pool),
) -> Recommendations {
    let rules = shared.tuning.load();
    let tuning = &rules.tuning;
    let algorithm = query
        .algorithm
        .filter(|algorithm| algorithm.is_served())
        .unwrap_or(tuning.algorithm);
    let recent: Vec<u32> = query
        .recent
        .iter()
        .filter_map(|name| shared.product_id(name))
        .collect();
    let customer = query.customer.and_then(|name| shared.asked(name));
    // One history for the whole answer, whatever is learned meanwhile.
    let history = customer.as_ref().map(|slot| slot.history.load());
    let history: Option<&History> = history.as_ref().map(|history| &***history);
    let category = query
        .category
        .map(|name| shared.category_id(name).unwrap_or(NONE - 1));
    let profile = query.customer.and_then(|name| shared.profile(name));
    let filter = Filter {
        profile: profile.as_deref(),
        shared,
        rules: &rules,
        excluded: excluded(shared, query, &rules, &recent, history),
        category,
    };
    let mut basis = basis(&rules, &recent, history);
    basis.retain(|known| is_product(&rules, shared.product(known.product)));
    let mut visit = if recent.is_empty() {
        current_visit(history)
    } else {
        recent.clone()
    };
    visit.retain(|&product| is_product(&rules, shared.product(product)));
    let fitted = shared.fitted.load();
    let question = Question {
        shared,
        fitted: &fitted,
        session: &rules.session,
        reads: (rules.answer_budget / basis.len().max(1)).max(FEWEST_READS),
        rules: &rules.knowledge,
        profile: profile.as_deref(),
        basis: &basis,
        visit: &visit,
        category,
    };
    let algorithm = match algorithm {
        Algorithm::Auto => Algorithm::ALL[usize::from(shared.auto.load(Relaxed))],
        algorithm => algorithm,
    };
    // What has nothing to answer from is answered for by the blend: a fitted model until it is there, lists that are
    // not counted.
    let mut algorithm = match algorithm {
        Algorithm::ItemKnn | Algorithm::Rp3Beta if !shared.counts_pairs => Algorithm::Hybrid,
        Algorithm::Ease if fitted.ease.is_none() => Algorithm::Hybrid,
        Algorithm::ImplicitAls if fitted.als.is_none() => Algorithm::Hybrid,
        algorithm => algorithm,
    };
    let diversity = query.diversity.unwrap_or(tuning.diversity);
    let exploration = query.exploration.unwrap_or(tuning.exploration);
    let spread = diversity > 0.0 || exploration > 0.0 || tuning.rules.max_per_category > 0;
    let wanted = if spread {
        rerank::pool(query.limit)
    } else {
        query.limit
    };

    // A cap per category lets others move up, from further down.
    let reach = match tuning.rules.max_per_category {
        0 => query.limit,
        _ => query.limit.saturating_mul(4),
    };

    let tie = |a: u32, b: u32| by_name(shared, a, b);
    let keep = |id: u32| filter.keeps(id);
    let answer = Scratch::with(shared.products.count(), |scratch| {
        let mut ranked: Vec<Candidate> = Vec::new();
        match model(algorithm) {
            Some(_) if algorithm == Algorithm::Popularity => ranked = popular(&question, wanted, keep),
            Some(model) => {
                model.score(&question, scratch);
                scratch.best(wanted, keep, tie, &mut ranked);
                for candidate in &mut ranked {
                    candidate.source = model.source(&question, candidate);
                }
            }
            None if algorithm == Algorithm::Onnx => {
                let best = |scratch: &Scratch, out: &mut Vec<Candidate>| scratch.best(wanted, keep, tie, out);
                let blend = |scratch: &mut Scratch| {
                    hybrid::rank(&question, &rules.blend, reach, scratch, &keep, observe)
                };
                if !onnx::answer(&question, scratch, &mut ranked, best, blend) {
                    algorithm = Algorithm::Hybrid;
                }
            }
            None => ranked = hybrid::rank(&question, &rules.blend, reach, scratch, &keep, observe),
        }
        let personal = ranked.iter().any(|candidate| candidate.source != NO_SOURCE);
        let mut explored = Explored::default();
        if personal {
            ranked = rerank::diversify(shared, scratch, ranked, query.limit, diversity);
            let is_new = |id: u32| is_new(shared, id);
            explored = rerank::explore(&mut ranked, query.limit, exploration, seed(query), is_new);
        }
        if ranked.len() < query.limit && algorithm != Algorithm::Popularity {
            let popular = popular(&question, query.limit + ranked.len(), keep);
            fill_up(&mut ranked, &popular);
        }
        let fallback = match (personal, recent.is_empty()) {
            (false, _) => Fallback::Popular,
            (true, false) => Fallback::Session,
            (true, true) => Fallback::Personal,
        };
        // A cap per category lets others move up.
        let shown = if tuning.rules.max_per_category > 0 {
            ranked.len()
        } else {
            query.limit.min(ranked.len())
        };
        warm(shared, &ranked[..shown]);
        let others = if query.reasons {
            trace(&question, &mut ranked[..shown], scratch)
        } else {
            Vec::new()
        };
        scratch.mark(basis.iter().map(|from| from.product));
        let reasons = Reasons {
            shared,
            history,
            category: query.category,
            rules: &rules.knowledge,
            profile: profile.as_deref(),
            basis: &basis,
            others: &others,
            scratch,
            told: query.reasons,
        };
        let items = assemble(&filter, &ranked, query.limit, &reasons, &explored);
        scratch.unmark(basis.iter().map(|from| from.product));
        Recommendations {
            items,
            fallback,
            algorithm,
        }
    });
    filter.excluded.put_back();
    answer
}

/// Exploration draws anew every hour for every customer, and the same on every replica.
fn seed(query: &Query<'_>) -> u64 {
    let who = (query.customer, query.recent, query.now_ms.div_euclid(3_600_000));
    ahash::RandomState::with_seeds(5, 6, 7, 8).hash_one(who)
}

/// What the customer touched since the last long pause, oldest first.
fn current_visit(history: Option<&History>) -> Vec<u32> {
    let Some(history) = history else { return Vec::new() };
    let mut visit: Vec<u32> = Vec::new();
    let mut newer_ms = history.entries.front().map_or(0, |entry| entry.last_ms);
    for entry in history
        .entries
        .iter()
        .take_while(|entry| entry.interest > 0)
        .take(LONGEST_VISIT)
    {
        if newer_ms - entry.last_ms > GAP_MS {
            break;
        }
        newer_ms = entry.last_ms;
        visit.push(entry.product);
    }
    visit.reverse();
    visit
}

/// Looks where the names of what will be shown are, for no other reason than to have them fetched side by side: handing
/// one out is a locked instruction, behind which the processor does not look ahead.
fn warm(shared: &Shared, shown: &[Candidate]) {
    let names = shown
        .iter()
        .map(|one| Arc::strong_count(&shared.product(one.product).name));
    std::hint::black_box(names.fold(0, |all, count| all ^ count));
}

fn excluded(
    shared: &Shared,
    query: &Query<'_>,
    rules: &Compiled,
    recent: &[u32],
    history: Option<&History>,
) -> Marks {
    let mut excluded = Marks::take();
    for product in query.exclude.iter().filter_map(|name| shared.product_id(name)) {
        excluded.insert(product);
    }
    if query.exclude_recent {
        recent.iter().for_each(|product| excluded.insert(*product));
    }
    let policy = rules.tuning.rules.purchased == PurchasedPolicy::Exclude;
    if query.exclude_purchased.unwrap_or(policy)
        && let Some(history) = history
    {
        let purchased = history.entries.iter().filter(|entry| entry.purchases > 0);
        purchased.for_each(|entry| excluded.insert(entry.product));
    }
    excluded
}

/// What the models start from: the visit first, then the customer's history, weakened by age.
fn basis(rules: &Compiled, recent: &[u32], history: Option<&History>) -> Vec<Basis> {
    let length = rules.tuning.history_length;
    let mut basis: Vec<Basis> = Vec::new();
    let mut weight = RECENT_WEIGHT;
    for &product in recent.iter().rev().take(length) {
        if !basis.iter().any(|known| known.product == product) {
            basis.push(Basis {
                product,
                weight,
                kind: done_with(history, product),
            });
            weight *= RECENT_DECAY;
        }
    }
    if let Some(history) = history {
        let entries = newest(&history.entries, length);
        // Age counts from the newest event: a customer who comes back after a year is not forgotten.
        let newest_ms = entries.first().map_or(0, |entry| entry.last_ms);
        // What was bought together has one age.
        let mut fresh = (newest_ms, 1.0);
        for entry in entries {
            if basis.len() >= length {
                break;
            }
            if fresh.0 != entry.last_ms {
                let age = (newest_ms - entry.last_ms) as f64 / rules.half_life_ms as f64;
                fresh = (entry.last_ms, (-age).exp2());
            }
            let weight = (f64::from(entry.interest) / INTEREST_STEPS * fresh.1) as f32;
            if weight > 0.0 && !recent.contains(&entry.product) {
                basis.push(Basis {
                    product: entry.product,
                    weight,
                    kind: entry.strongest(),
                });
            }
        }
    }
    basis
}

/// A product of the visit that is not in the history was at least looked at.
pub(crate) fn done_with(history: Option<&History>, product: u32) -> EventKind {
    let entry = history.and_then(|history| history.entries.iter().find(|entry| entry.product == product));
    entry.map_or(EventKind::View, Entry::strongest)
}

/// The newest entries that say something; among those of one time in the order of names, so that the
/// answer does not depend on the order in which products became known.
fn newest(entries: &VecDeque<Entry>, length: usize) -> Vec<Entry> {
    let mut chosen: Vec<Entry> = Vec::with_capacity(length.min(entries.len()));
    for entry in entries.iter().filter(|entry| entry.interest > 0) {
        if chosen.len() >= length && chosen.last().is_some_and(|last| last.last_ms != entry.last_ms) {
            break;
        }
        chosen.push(*entry);
    }
    for run in chosen.chunk_by_mut(|a, b| a.last_ms == b.last_ms) {
        // A history has them the other way round.
        run.reverse();
    }
    chosen.truncate(length);
    chosen
}
