//! From the book of visits to the lists that readers see.

use std::sync::Arc;

use super::Sessions;
use crate::{shared::Shared, visits::Posting};

impl Sessions {
    pub(super) fn show(&mut self, shared: &Shared) {
        let mut changes = std::mem::take(&mut self.changes);
        // Stable: of changes of one posting the last counts.
        changes.sort_by_key(|(product, posting, _)| (*product, posting.order()));
        for changes in changes.chunk_by(|a, b| a.0 == b.0) {
            let slot = &shared.product(changes[0].0).visits;
            let known = slot.load();
            let known = known.as_ref().map_or(&[][..], |known| known.as_slice());
            let mut list = merged(known, changes);
            let excess = list.len().saturating_sub(self.postings);
            list.drain(..excess);
            list.shrink_to_fit();
            slot.store((!list.is_empty()).then(|| Arc::new(list)));
        }
        changes.clear();
        self.changes = changes;
    }
}

/// A list with changes of one product, both in the order of lists.
fn merged(known: &[Posting], changes: &[(u32, Posting, bool)]) -> Vec<Posting> {
    let mut list = Vec::with_capacity(known.len() + changes.len());
    let mut rest = known;
    for same in changes.chunk_by(|a, b| a.1.order() == b.1.order()) {
        let (_, posting, comes) = &same[same.len() - 1];
        let before = rest.partition_point(|known| known.order() < posting.order());
        list.extend_from_slice(&rest[..before]);
        rest = &rest[before..];
        let replaced = rest.partition_point(|known| known.order() == posting.order());
        rest = &rest[replaced..];
        if *comes {
            list.push(*posting);
        }
    }
    list.extend_from_slice(rest);
    list
}
