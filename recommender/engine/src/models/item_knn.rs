//! Item-to-item models: a candidate scores the sum of what the products of the basis say of it.

use super::{Model, Question, add_lists};
use crate::{
    blend::{KNN, WALK},
    lists::Word,
    scratch::{LISTED, Scratch},
};

/// Nearest neighbours by cosine.
pub(crate) struct ItemKnn;

/// RP3beta (Paudel et al. 2017): a random walk of three steps, from a product to its customers to their
/// products, with frequent products held back.
pub(crate) struct Rp3Beta;

impl Model for ItemKnn {
    fn score(&self, question: &Question<'_>, scratch: &mut Scratch) {
        scratch.come_from_lists(LISTED + KNN as u32);
        add_lists(self, question, scratch);
    }

    fn list(&self, question: &Question<'_>, product: u32, read: &mut dyn FnMut(&[Word])) {
        let list = question.shared.product(product).neighbors.read();
        read(&list[..list.len().min(question.reads)]);
    }
}

impl Model for Rp3Beta {
    fn score(&self, question: &Question<'_>, scratch: &mut Scratch) {
        scratch.come_from_lists(LISTED + WALK as u32);
        add_lists(self, question, scratch);
    }

    fn list(&self, question: &Question<'_>, product: u32, read: &mut dyn FnMut(&[Word])) {
        let list = question.shared.product(product).walks.read();
        read(&list[..list.len().min(question.reads)]);
    }
}
