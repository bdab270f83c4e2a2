//! The models. Each is one file and one implementation of [`Model`].

pub mod als;
pub(crate) mod content;
pub mod ease;
mod ease_sparse;
pub(crate) mod embedding;
mod fitted;
mod item_knn;
mod knowledge;
pub mod onnx;
pub(crate) mod popularity;
mod session;
pub mod session_knn;
pub mod shape;

use crate::{
    config::Algorithm,
    event::EventKind,
    fitted::Fitted,
    knowledge::{Attributes, KnowledgeRule},
    lists::Word,
    scratch::{Candidate, Scratch},
    shared::Shared,
};
use session_knn::SessionParams;

/// One product that an answer is computed from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Basis {
    pub product: u32,
    /// Interest, weakened by age; above 0.
    pub weight: f32,
    /// What was done with it.
    pub kind: EventKind,
}

/// What a model is asked.
pub(crate) struct Question<'a> {
    pub shared: &'a Shared,
    pub fitted: &'a Fitted,
    pub session: &'a SessionParams,
    pub rules: &'a [KnowledgeRule],
    /// What is known of the customer apart from events.
    pub profile: Option<&'a Attributes>,
    /// The customer's products, newest first, none twice.
    pub basis: &'a [Basis],
    /// Neighbours to read of each product of the basis.
    pub reads: usize,
    /// The products of the current visit, oldest first, as they came.
    pub visit: &'a [u32],
    /// Only this category will be shown.
    pub category: Option<u32>,
}

/// Scores candidates for one question.
pub(crate) trait Model: Send + Sync {
    /// Adds scores of candidates to an empty `scratch`.
    fn score(&self, question: &Question<'_>, scratch: &mut Scratch);

    /// Hands out the list by which a product of the basis speaks, if that is how the model scores.
    fn list(&self, _question: &Question<'_>, _product: u32, _read: &mut dyn FnMut(&[Word])) {}

    /// The product that speaks most for a candidate, where scoring did not say it.
    fn source(&self, _question: &Question<'_>, candidate: &Candidate) -> u32 {
        candidate.source
    }
}

/// Adds up what the products of the basis say by their lists.
fn add_lists(model: &dyn Model, question: &Question<'_>, scratch: &mut Scratch) {
    for from in question.basis {
        model.list(question, from.product, &mut |list| {
            scratch.add_list(list, from.weight)
        });
    }
}

/// The model of this name, unless it is made of others.
pub(crate) fn model(algorithm: Algorithm) -> Option<&'static dyn Model> {
    match algorithm {
        Algorithm::ItemKnn => Some(&item_knn::ItemKnn),
        Algorithm::Rp3Beta => Some(&item_knn::Rp3Beta),
        Algorithm::SessionKnn => Some(&session::Session),
        Algorithm::Popularity => Some(&popularity::Popularity),
        Algorithm::Content => Some(&content::Content),
        Algorithm::Ease => Some(&fitted::Ease),
        Algorithm::ImplicitAls => Some(&fitted::ImplicitAls),
        Algorithm::Knowledge => Some(&knowledge::Knowledge),
        Algorithm::Auto | Algorithm::Hybrid | Algorithm::Onnx => None,
    }
}
