//! The default algorithm: what several models find, blended and lifted by the trend.

use std::sync::atomic::Ordering::Relaxed;

use crate::{
    blend::{Blend, Blender, candidates},
    config::Algorithm,
    knowledge::preference,
    models::{Question, model},
    scratch::{Candidate, Scratch},
    shared::Shared,
};

/// A product without recent customers is held back, not hidden.
const NOBODY: f32 = 0.01;

/// Candidates for an answer of `limit` products, best first; empty if nothing personal is known.
pub(crate) fn rank(
    question: &Question<'_>,
    blend: &Blend,
    limit: usize,
    scratch: &mut Scratch,
    keep: &dyn Fn(u32) -> bool,
) -> Vec<Candidate> {
    let shared = question.shared;
    let tie = |a: u32, b: u32| by_name(shared, a, b);
    let mut blender = Blender::default();
    let mut found = Vec::new();
    let fitted = question.fitted;
    for (algorithm, weight, has_a_say) in [
        (Algorithm::Rp3Beta, blend.walk, true),
        (Algorithm::ItemKnn, blend.knn, true),
        (Algorithm::SessionKnn, blend.session, !question.visit.is_empty()),
        (Algorithm::Ease, blend.ease, fitted.ease.is_some()),
        (Algorithm::Content, blend.content, true),
    ] {
        if let Some(model) = model(algorithm)
            && weight > 0.0
            && has_a_say
        {
            scratch.clear();
            model.score(question, scratch);
            scratch.best(candidates(limit), keep, tie, &mut found);
            blender.add(scratch, &found, weight);
        }
    }
    if let Some(als) = &fitted.als
        && blend.als > 0.0
        && let Some(vector) = als.fold(question)
    {
        blender.rescore(blend.als, |product| {
            Some(als.model.score(&vector, als.row(product)?))
        });
    }
    let lift = |product: u32| {
        let preferred = match question.profile {
            Some(profile) if !question.rules.is_empty() => {
                let meta = shared.product(product).meta.load();
                meta.as_ref()
                    .map_or(1.0, |stored| preference(question.rules, profile, &stored.meta))
            }
            _ => 1.0,
        };
        preferred
            * if blend.trend > 0.0 {
                (f32::from_bits(shared.product(product).popularity.load(Relaxed)) + NOBODY).powf(blend.trend)
            } else {
                1.0
            }
    };
    blender.finish(scratch, lift, tie)
}

/// The order of names, which breaks ties.
pub(crate) fn by_name(shared: &Shared, a: u32, b: u32) -> std::cmp::Ordering {
    shared.product(a).name.cmp(&shared.product(b).name)
}
