//! What a ranker may be told of a candidate.

use std::sync::atomic::Ordering::Relaxed;

use super::OnnxError;
use crate::{
    knowledge::preference, lists::Word, models::Question, scratch::Candidate, shared::NONE, similar::is_new,
};

/// One column of a ranker's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    Score,
    Rank,
    Popularity,
    Likeness,
    Content,
    Price,
    CategoryShare,
    HistoryLength,
    Seen,
    New,
    Preference,
}

const ALL: [(&str, Feature); 11] = [
    ("score", Feature::Score),
    ("rank", Feature::Rank),
    ("popularity", Feature::Popularity),
    ("likeness", Feature::Likeness),
    ("content", Feature::Content),
    ("price", Feature::Price),
    ("category_share", Feature::CategoryShare),
    ("history_length", Feature::HistoryLength),
    ("seen", Feature::Seen),
    ("new", Feature::New),
    ("preference", Feature::Preference),
];

/// The features that a model names, separated by commas; without a list all of them.
pub(crate) fn chosen(list: Option<&String>) -> Result<Vec<Feature>, OnnxError> {
    let Some(list) = list else {
        return Ok(ALL.iter().map(|(_, feature)| *feature).collect());
    };
    let find = |name: &str| {
        let known = ALL.iter().find(|(known, _)| *known == name);
        known
            .map(|(_, feature)| *feature)
            .ok_or_else(|| OnnxError::Feature {
                name: name.into(),
                known: ALL.map(|(name, _)| name).join(", "),
            })
    };
    list.split(',').map(|name| find(name.trim())).collect()
}

pub(crate) fn names(features: &[Feature]) -> String {
    let name = |feature: &Feature| {
        ALL.iter()
            .find(|(_, known)| known == feature)
            .map(|(name, _)| *name)
    };
    features.iter().filter_map(name).collect::<Vec<_>>().join(", ")
}

/// Appends a row for each candidate, which come best first.
pub(crate) fn rows(
    features: &[Feature],
    question: &Question<'_>,
    candidates: &[Candidate],
    out: &mut Vec<f32>,
) {
    let shared = question.shared;
    let top = candidates
        .first()
        .map_or(1.0, |first| first.score.max(f32::MIN_POSITIVE));
    let category = |product: u32| shared.product(product).category.load(Relaxed);
    let total: f32 = question.basis.iter().map(|from| from.weight).sum();
    let content = shared.content.load();
    for (rank, candidate) in candidates.iter().enumerate() {
        let slot = shared.product(candidate.product);
        let meta = slot.meta.load();
        let meta = meta.as_ref().map(|stored| &stored.meta);
        let of_basis = |value: &dyn Fn(u32) -> f32| -> f32 {
            let parts = question
                .basis
                .iter()
                .map(|from| from.weight * value(from.product));
            parts.sum::<f32>() / total.max(f32::MIN_POSITIVE)
        };
        out.extend(features.iter().map(|feature| match feature {
            Feature::Score => candidate.score / top,
            Feature::Rank => rank as f32,
            Feature::Popularity => f32::from_bits(slot.popularity.load(Relaxed)).max(0.0).ln_1p(),
            Feature::Likeness => {
                let list = slot.neighbors.read().iter().map(Word::get);
                let of_basis = |product: u32| question.basis.iter().find(|from| from.product == product);
                list.filter_map(|near| Some(of_basis(near.product)?.weight * near.similarity))
                    .sum()
            }
            Feature::Content => of_basis(&|product| content.likeness(product, candidate.product)),
            Feature::Price => meta.and_then(|meta| meta.price).unwrap_or_default() as f32,
            Feature::CategoryShare => {
                let own = slot.category.load(Relaxed);
                of_basis(&|product| f32::from(u8::from(own != NONE && category(product) == own)))
            }
            Feature::HistoryLength => question.basis.len() as f32,
            Feature::Seen => {
                let seen = question
                    .basis
                    .iter()
                    .any(|from| from.product == candidate.product);
                f32::from(u8::from(seen))
            }
            Feature::New => f32::from(u8::from(is_new(shared, candidate.product))),
            Feature::Preference => match (question.profile, meta) {
                (Some(profile), Some(meta)) => preference(question.rules, profile, meta),
                _ => 1.0,
            },
        }));
    }
}
