//! Memory that a thread keeps between answers, so that answering allocates next to nothing.

use std::{cell::RefCell, cmp::Ordering};

use crate::models::session_knn::SessionScratch;

/// The score does not come from a product.
pub(crate) const NO_SOURCE: u32 = u32::MAX;
/// The score comes from a rule that matches the customer's profile.
pub(crate) const PROFILE: u32 = u32::MAX - 1;

#[derive(Clone, Copy, Debug)]
struct Cell {
    score: f32,
    best: f32,
    source: u32,
}

/// Nothing scored yet. The source cannot be confused with a product's: scores are what counts.
const CLEAR: Cell = Cell {
    score: 0.0,
    best: f32::NEG_INFINITY,
    source: NO_SOURCE,
};

/// A candidate with the product that contributed most to its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub product: u32,
    pub score: f32,
    pub source: u32,
}

/// Sums scores by product: dense, with a list of what was touched.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    cells: Vec<Cell>,
    touched: Vec<u32>,
    /// Position plus one of marked products.
    marks: Vec<u32>,
    /// Buffers of the session model.
    pub session: SessionScratch,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    /// Lends this thread's scratch, empty, with room for `products`.
    pub fn with<T>(products: usize, work: impl FnOnce(&mut Scratch) -> T) -> T {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            if scratch.cells.len() < products {
                scratch.cells.resize(products, CLEAR);
            }
            work(scratch)
        })
    }

    /// Adds to a candidate's score.
    pub fn add(&mut self, product: u32, score: f32, source: u32) {
        let at = product as usize;
        if at >= self.cells.len() {
            // The writer took up a product after this answer began.
            self.cells.resize(at + 1, CLEAR);
        }
        let cell = &mut self.cells[at];
        if cell.best == f32::NEG_INFINITY {
            self.touched.push(product);
        }
        cell.score += score;
        if score > cell.best {
            cell.best = score;
            cell.source = source;
        }
    }

    /// Multiplies every score with what belongs to its product.
    pub fn scale(&mut self, weight: impl Fn(u32) -> f32) {
        for &product in &self.touched {
            self.cells[product as usize].score *= weight(product);
        }
    }

    /// Multiplies one score.
    pub fn scale_one(&mut self, product: u32, weight: f32) {
        if let Some(cell) = self.cells.get_mut(product as usize) {
            cell.score *= weight;
        }
    }

    /// Numbers products in their order, to be found by [`Scratch::marked`] until unmarked.
    pub fn mark(&mut self, products: impl Iterator<Item = u32>) {
        for (at, product) in products.enumerate() {
            self.mark_one(product, at);
        }
    }

    /// Gives one product a number.
    pub fn mark_one(&mut self, product: u32, number: usize) {
        if self.marks.len() <= product as usize {
            self.marks.resize(self.cells.len().max(product as usize + 1), 0);
        }
        self.marks[product as usize] = number as u32 + 1;
    }

    /// The number of a marked product.
    pub fn marked(&self, product: u32) -> Option<usize> {
        self.marks
            .get(product as usize)
            .filter(|mark| **mark > 0)
            .map(|mark| *mark as usize - 1)
    }

    /// The reverse of [`Scratch::mark`].
    pub fn unmark(&mut self, products: impl Iterator<Item = u32>) {
        for product in products {
            self.marks[product as usize] = 0;
        }
    }

    pub fn clear(&mut self) {
        for product in self.touched.drain(..) {
            self.cells[product as usize] = CLEAR;
        }
    }

    /// Appends the best `limit` candidates for which `keep` holds, best first, ties by `tie`.
    pub fn best(
        &self,
        limit: usize,
        keep: impl Fn(u32) -> bool,
        tie: impl Fn(u32, u32) -> Ordering,
        out: &mut Vec<Candidate>,
    ) {
        out.clear();
        let candidate = |&product: &u32| {
            let cell = self.cells[product as usize];
            Candidate {
                product,
                score: cell.score,
                source: cell.source,
            }
        };
        out.extend(
            self.touched
                .iter()
                .map(candidate)
                .filter(|candidate| candidate.score.is_finite()),
        );
        let order = |a: &Candidate, b: &Candidate| {
            b.score
                .total_cmp(&a.score)
                .then_with(|| tie(a.product, b.product))
        };
        // Whether a candidate may be shown costs more than comparing scores, so only the best are asked,
        // and the rest in turn if too few of them may.
        let mut kept = 0;
        let mut from = 0;
        let mut step = limit.saturating_add(limit / 2 + 16);
        while kept < limit && from < out.len() {
            let end = from.saturating_add(step).min(out.len());
            if end < out.len() {
                out[from..].select_nth_unstable_by(end - from, order);
            }
            out[from..end].sort_unstable_by(order);
            for at in from..end {
                if kept < limit && keep(out[at].product) {
                    out[kept] = out[at];
                    kept += 1;
                }
            }
            from = end;
            step = step.saturating_mul(4);
        }
        out.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_found_however_many_are_left_out() {
        let best = Scratch::with(1_000, |scratch| {
            for product in 0..1_000u32 {
                scratch.add(product, (product * 7 % 1_000) as f32, NO_SOURCE);
            }
            let mut out = Vec::new();
            scratch.best(3, |product| product % 100 == 0, |a, b| a.cmp(&b), &mut out);
            out
        });
        // 7p mod 1000 for p = 0, 100, …, 900 is largest for 700 (900), 400 (800) and 100 (700).
        assert_eq!(
            best.iter().map(|c| c.product).collect::<Vec<_>>(),
            [700, 400, 100]
        );
    }

    #[test]
    fn a_candidate_remembers_its_strongest_source_and_the_next_answer_starts_empty() {
        let all = |scratch: &mut Scratch| {
            let mut out = Vec::new();
            scratch.best(10, |_| true, |a, b| a.cmp(&b), &mut out);
            out
        };
        let first = Scratch::with(10, |scratch| {
            scratch.add(1, 0.5, 7);
            scratch.add(1, 2.0, 8);
            scratch.add(1, 1.0, 9);
            all(scratch)
        });
        assert_eq!(
            first,
            [Candidate {
                product: 1,
                score: 3.5,
                source: 8
            }]
        );
        assert!(Scratch::with(10, all).is_empty());
    }
}
