//! Nearest sessions, asked about the current visit.

use super::{Model, Question};
use crate::scratch::Scratch;

pub(crate) struct Session;

impl Model for Session {
    fn score(&self, question: &Question<'_>, scratch: &mut Scratch) {
        let index = question.shared.sessions.load();
        let mut buffers = std::mem::take(&mut scratch.session);
        index.score(
            question.visit,
            question.session,
            &mut buffers,
            |product, vote, source| {
                scratch.add(product, vote, source);
            },
        );
        scratch.session = buffers;
    }
}
