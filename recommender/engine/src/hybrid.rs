//! The default algorithm: what several models find and what trends, blended and lifted by the trend.

use std::sync::atomic::Ordering::Relaxed;

use crate::{
    blend::{ALS, Blend, POPULAR, Pool, candidates},
    config::Algorithm,
    knowledge::preference,
    models::{Question, model, popularity::find_popular},
    scratch::{Candidate, Scratch},
    shared::Shared,
};

/// Popular products that are looked at for each that is wanted.
const POPULAR_READS: usize = 4;

/// Candidates for an answer of `limit` products, best first; empty if nothing personal is known. `observe`
/// sees what each member said.
pub(crate) fn rank(
    question: &Question<'_>,
    blend: &Blend,
    limit: usize,
    scratch: &mut Scratch,
    keep: &dyn Fn(u32) -> bool,
    observe: &mut dyn FnMut(&Pool),
) -> Vec<Candidate> {
    let shared = question.shared;
    let tie = |a: u32, b: u32| by_name(shared, a, b);
    let mut pool = Pool::default();
    let mut list = Vec::new();
    let fitted = question.fitted;
    // Weights fitted to this shop's own customers take the place of the configured ones.
    let blend = fitted.weights.as_ref().map_or(blend, |weights| &weights.1);
    for (member, (algorithm, has_a_say)) in [
        (Algorithm::Rp3Beta, true),
        (Algorithm::ItemKnn, true),
        (Algorithm::SessionKnn, !question.visit.is_empty()),
        (Algorithm::Ease, fitted.ease.is_some()),
        (Algorithm::Content, true),
    ]
    .into_iter()
    .enumerate()
    {
        if let Some(model) = model(algorithm)
            && blend.weights()[member] > 0.0
            && has_a_say
        {
            scratch.clear();
            model.score(question, scratch);
            // What another member found was asked about then.
            let keep = |product: u32| scratch.mark_of(product) != 0 || keep(product);
            scratch.best(candidates(limit), keep, tie, &mut list);
            pool.add(member, scratch, &list);
        }
    }
    // Where nobody says anything the answer is what is popular anyway, and not a personal one.
    if blend.heard(&pool.said)[POPULAR] > 0.0 {
        // Whether what the visit is looking at comes back is for the others to say.
        let keep = |product: u32| {
            !question.visit.contains(&product) && (scratch.mark_of(product) != 0 || keep(product))
        };
        let wanted = candidates(limit);
        find_popular(question, POPULAR_READS * wanted, wanted, keep, &mut list);
        pool.add(POPULAR, scratch, &list);
    }
    pool.unmark(scratch);
    if let Some(als) = &fitted.als
        && blend.als > 0.0
        && let Some(vector) = als.fold(question)
    {
        let known = pool.found.iter().enumerate();
        let known = known.filter_map(|(at, found)| Some((at, als.row(found.product)?)));
        let (at, rows): (Vec<usize>, Vec<u32>) = known.unzip();
        let scores = als.model.scores(&vector, rows.into_iter());
        pool.rescore(ALS, &at, &scores);
    }
    for found in &mut pool.found {
        let slot = shared.product(found.product);
        found.popularity = f32::from_bits(slot.popularity.load(Relaxed));
        if let Some(profile) = question.profile
            && !question.rules.is_empty()
            && let Some(stored) = &*slot.meta.load()
        {
            found.preferred = preference(question.rules, profile, &stored.meta);
        }
    }
    observe(&pool);
    pool.finish(blend, tie)
}

/// The order of names, which breaks ties.
pub(crate) fn by_name(shared: &Shared, a: u32, b: u32) -> std::cmp::Ordering {
    shared.product(a).by_name(shared.product(b))
}
