//! Nearest sessions, asked about the current visit.

use super::{Model, Question, session_knn};
use crate::scratch::Scratch;

pub(crate) struct Session;

impl Model for Session {
    fn score(&self, question: &Question<'_>, scratch: &mut Scratch) {
        session_knn::score(question.shared, question.visit, question.session, scratch);
    }
}
