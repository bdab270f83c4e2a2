//! Which products of the basis speak most for what will be shown.
//!
//! Models that add up lists do not remember it for each of a thousand candidates: reading the lists once more for the
//! twenty that are shown is cheaper.

use crate::{
    blend::{EASE, KNN, WALK},
    config::Algorithm,
    lists::Word,
    models::{Basis, Question, model},
    scratch::{Candidate, LISTED, NO_SOURCE, Scratch},
};

/// Products that a reason names at most beside the one that speaks most for a candidate.
pub(crate) const OTHERS: usize = 2;

/// What speaks for a candidate beside its source, strongest first; `NO_SOURCE` fills it up. None if it is not known.
pub(crate) type Others = Option<[u32; OTHERS]>;

/// What a product of the basis says of a candidate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Said {
    /// Position of the candidate plus one.
    of: u32,
    /// Position in the basis.
    by: u32,
    part: f32,
}

/// Finds the sources of candidates whose scores come from lists, and what else speaks for each: products with which
/// the customer did the same.
pub(crate) fn trace(
    question: &Question<'_>,
    candidates: &mut [Candidate],
    scratch: &mut Scratch,
) -> Vec<Others> {
    let mut others: Vec<Others> = vec![None; candidates.len()];
    let mut said = std::mem::take(&mut scratch.said);
    for (member, algorithm) in [
        (WALK, Algorithm::Rp3Beta),
        (KNN, Algorithm::ItemKnn),
        (EASE, Algorithm::Ease),
    ] {
        let listed = |candidate: &Candidate| candidate.source == LISTED + member as u32;
        let Some(model) = model(algorithm).filter(|_| candidates.iter().any(listed)) else {
            continue;
        };
        for (at, candidate) in candidates.iter().enumerate().filter(|(_, one)| listed(one)) {
            scratch.mark_one(candidate.product, at);
        }
        let mut kept = 0;
        for (by, from) in question.basis.iter().enumerate() {
            model.list(question, from.product, &mut |list| {
                if said.len() <= kept + list.len() {
                    said.resize(kept + list.len() + 1, Said::default());
                }
                for neighbor in list.iter().map(Word::get) {
                    // Nothing foretells which are marked: the next overwrites what is not.
                    let of = scratch.mark_of(neighbor.product) as u32;
                    let part = from.weight * neighbor.similarity;
                    said[kept] = Said {
                        of,
                        by: by as u32,
                        part,
                    };
                    kept += usize::from(of != 0);
                }
            });
        }
        let mut strongest = vec![(f32::NEG_INFINITY, usize::MAX); candidates.len()];
        for said in &said[..kept] {
            let known = &mut strongest[said.of as usize - 1];
            if said.part > known.0 {
                *known = (said.part, said.by as usize);
            }
        }
        for (at, candidate) in candidates.iter_mut().enumerate().filter(|(_, one)| listed(one)) {
            scratch.unmark(std::iter::once(candidate.product));
            others[at] = Some([NO_SOURCE; OTHERS]);
            let source = question.basis.get(strongest[at].1);
            candidate.source = source.map_or(NO_SOURCE, |source| source.product);
        }
        let mut best = vec![[(f32::NEG_INFINITY, NO_SOURCE); OTHERS]; candidates.len()];
        for said in &said[..kept] {
            let at = said.of as usize - 1;
            let (source, by) = (strongest[at].1, said.by as usize);
            let alike = |a: &Basis, b: &Basis| a.kind == b.kind;
            if by != source
                && question
                    .basis
                    .get(source)
                    .is_some_and(|source| alike(source, &question.basis[by]))
            {
                insert(&mut best[at], said.part, question.basis[by].product);
                others[at] = Some(best[at].map(|(_, product)| product));
            }
        }
    }
    scratch.said = said;
    others
}

/// Puts a product into its place among the best.
pub(crate) fn insert(best: &mut [(f32, u32); OTHERS], part: f32, product: u32) {
    if let Some(at) = best.iter().position(|(known, _)| part > *known) {
        best[at..].rotate_right(1);
        best[at] = (part, product);
    }
}
