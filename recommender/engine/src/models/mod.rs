//! The models. Each is one file and one implementation of [`Model`].

pub mod als;
pub mod ease;
mod item_knn;
mod popularity;
pub mod session_knn;

pub(crate) use item_knn::{ItemKnn, Rp3Beta};
pub(crate) use popularity::Popularity;

use crate::{scratch::Scratch, shared::Shared};

/// One product that an answer is computed from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Basis {
    pub product: u32,
    /// Interest, weakened by age; above 0.
    pub weight: f32,
}

/// Scores candidates for one question.
pub(crate) trait Model: Send + Sync {
    /// Adds scores of candidates to an empty `scratch`. `basis` is newest first, no product twice;
    /// `category` narrows what is worth scoring where the model can make use of it.
    fn score(&self, shared: &Shared, basis: &[Basis], category: Option<u32>, scratch: &mut Scratch);
}
