//! Memory that a thread keeps between answers, so that answering allocates next to nothing.

use std::{cell::RefCell, cmp::Ordering, hint::select_unpredictable};

use crate::{lists::Word, models::session_knn::SessionScratch, trace::Said};

/// The score does not come from a product.
pub(crate) const NO_SOURCE: u32 = u32::MAX;
/// The score comes from a rule that matches the customer's profile.
pub(crate) const PROFILE: u32 = u32::MAX - 1;

/// From here on up to [`PROFILE`]: the score comes from lists, and which product of the basis speaks most for it is
/// found once it is known what will be shown; see [`crate::trace`].
pub(crate) const LISTED: u32 = u32::MAX - 16;

/// What contributed most to a score, in one word: the part in the upper half, its source in the lower.
#[derive(Clone, Copy, Debug)]
struct Strongest(u64);

impl Strongest {
    #[inline(always)]
    fn new(part: f32, source: u32) -> Self {
        Strongest(u64::from(part.to_bits()) << 32 | u64::from(source))
    }

    #[inline(always)]
    fn part(self) -> f32 {
        f32::from_bits((self.0 >> 32) as u32)
    }

    fn source(self) -> u32 {
        self.0 as u32
    }
}

/// Nothing scored yet. No sum is ever that: 0 is added to each part, and -0 plus 0 is 0.
const FRESH: f32 = -0.0;

#[inline(always)]
fn is_fresh(score: f32) -> bool {
    score.to_bits() == FRESH.to_bits()
}

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
    /// By product. Apart from the sources: the hottest loop reads and writes nothing else, and so twice as much of
    /// it is in the processor's nearest cache.
    scores: Vec<f32>,
    sources: Vec<Strongest>,
    /// What all sources are, if the scores come from lists.
    listed: Option<u32>,
    /// The first `filled` are products with a score. As long as `scores` and one more, so that the next can be
    /// written before it is known whether it is new.
    touched: Vec<u32>,
    filled: usize,
    /// Buffer of [`Scratch::best`].
    keys: RefCell<Vec<u64>>,
    /// Position plus one of marked products.
    marks: Vec<u32>,
    /// Whether an answer is being worked out; one that panicked has left its marks.
    lent: bool,
    /// Buffer of [`crate::trace::trace`].
    pub said: Vec<Said>,
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
            scratch.make_room(products);
            if std::mem::replace(&mut scratch.lent, true) {
                scratch.marks.fill(0);
            }
            let done = work(scratch);
            scratch.lent = false;
            done
        })
    }

    fn make_room(&mut self, products: usize) {
        if self.touched.len() <= products {
            self.scores.resize(products, FRESH);
            self.sources
                .resize(products, Strongest::new(f32::NEG_INFINITY, NO_SOURCE));
            self.touched.resize(products + 1, 0);
        }
    }

    #[cold]
    fn make_more_room(&mut self, products: usize) {
        self.make_room(products);
    }

    /// Adds to a candidate's score.
    #[inline]
    pub fn add(&mut self, product: u32, score: f32, source: u32) {
        self.add_all(&[product], &[score], 1.0, source);
    }

    /// Adds to the scores of candidates what each has in `parts`, times `weight`.
    #[inline]
    pub fn add_all(&mut self, products: &[u32], parts: &[f32], weight: f32, source: u32) {
        let (scores, sources, touched) = (&mut self.scores[..], &mut self.sources[..], &mut self.touched[..]);
        let mut filled = self.filled;
        for (at, (&product, part)) in products.iter().zip(parts).enumerate() {
            let place = product as usize;
            let (Some(sum), Some(strongest)) = (scores.get_mut(place), sources.get_mut(place)) else {
                // The writer took up a product after this answer began.
                self.filled = filled;
                self.make_more_room(place + 1);
                return self.add_all(&products[at..], &parts[at..], weight, source);
            };
            // Whether it is new, and which source is the strongest, nothing foretells: no branches here.
            let (part, new) = (weight * part, is_fresh(*sum));
            touched[filled] = product;
            filled += usize::from(new);
            *sum += part + 0.0;
            let stronger = new | (part > strongest.part());
            *strongest = Strongest(select_unpredictable(
                stronger,
                Strongest::new(part, source).0,
                strongest.0,
            ));
        }
        self.filled = filled;
    }

    /// Says that the scores come from lists; `source` is from [`LISTED`] on.
    pub fn come_from_lists(&mut self, source: u32) {
        self.listed = Some(source);
    }

    /// Adds what a list says of its products, whatever the source.
    #[inline]
    pub fn add_list(&mut self, list: &[Word], weight: f32) {
        let (scores, touched) = (&mut self.scores[..], &mut self.touched[..]);
        let mut filled = self.filled;
        for (at, neighbor) in list.iter().map(Word::get).enumerate() {
            let Some(sum) = scores.get_mut(neighbor.product as usize) else {
                self.filled = filled;
                self.make_more_room(neighbor.product as usize + 1);
                return self.add_list(&list[at..], weight);
            };
            touched[filled] = neighbor.product;
            filled += usize::from(is_fresh(*sum));
            *sum += weight * neighbor.similarity + 0.0;
        }
        self.filled = filled;
    }

    /// Multiplies every score with what belongs to its product.
    pub fn scale(&mut self, weight: impl Fn(u32) -> f32) {
        for &product in &self.touched[..self.filled] {
            self.scores[product as usize] *= weight(product);
        }
    }

    /// Multiplies one score.
    pub fn scale_one(&mut self, product: u32, weight: f32) {
        if let Some(score) = self.scores.get_mut(product as usize)
            && !is_fresh(*score)
        {
            *score *= weight;
        }
    }

    /// Takes a product out of the candidates.
    pub fn leave_out(&mut self, product: u32) {
        if let Some(score) = self.scores.get_mut(product as usize)
            && !is_fresh(*score)
        {
            *score = f32::NEG_INFINITY;
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
            self.marks.resize(self.scores.len().max(product as usize + 1), 0);
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

    /// The number of a product plus one; 0 if it is not marked.
    #[inline]
    pub fn mark_of(&self, product: u32) -> usize {
        self.marks.get(product as usize).map_or(0, |mark| *mark as usize)
    }

    /// The reverse of [`Scratch::mark`].
    pub fn unmark(&mut self, products: impl Iterator<Item = u32>) {
        for product in products {
            self.marks[product as usize] = 0;
        }
    }

    pub fn clear(&mut self) {
        for &product in &self.touched[..self.filled] {
            self.scores[product as usize] = FRESH;
        }
        self.filled = 0;
        self.listed = None;
    }

    /// Finds the best `limit` candidates for which `keep` holds, best first, ties by `tie`.
    pub fn best(
        &self,
        limit: usize,
        keep: impl Fn(u32) -> bool,
        tie: impl Fn(u32, u32) -> Ordering,
        out: &mut Vec<Candidate>,
    ) {
        out.clear();
        // Whole numbers that sort like scores, best first, are several times quicker to select among.
        let mut keys = self.keys.take();
        keys.clear();
        let finite = self.touched[..self.filled].iter().filter_map(|&product| {
            let score = self.scores[product as usize];
            score.is_finite().then(|| key(score, product))
        });
        keys.extend(finite);
        // Whether a candidate may be shown costs more than comparing scores, so only the best are asked, with some to
        // spare, for most of them may; and the rest in turn if too few of them may.
        let mut rest = &mut keys[..];
        let mut step = limit.saturating_add(limit / 8 + 16);
        while out.len() < limit && !rest.is_empty() {
            let end = smallest(rest, step);
            let (best, later) = rest.split_at_mut(end);
            in_order(best, &tie);
            let kept = best
                .iter()
                .map(|key| *key as u32)
                .filter(|product| keep(*product));
            out.extend(kept.take(limit - out.len()).map(|product| {
                let known = || self.sources[product as usize].source();
                Candidate {
                    product,
                    score: self.scores[product as usize],
                    source: self.listed.unwrap_or_else(known),
                }
            }));
            rest = later;
            step = step.saturating_mul(4);
        }
        self.keys.replace(keys);
    }
}

/// Moves the `keep` smallest keys to the front, with all that equal the last of them in their upper half;
/// answers how many that are.
pub(crate) fn smallest(keys: &mut [u64], keep: usize) -> usize {
    let mut end = keep.min(keys.len());
    if (1..keys.len()).contains(&end) {
        let last = *keys.select_nth_unstable(end - 1).1 >> 32;
        let mut at = end;
        while at < keys.len() {
            if keys[at] >> 32 == last {
                keys.swap(at, end);
                end += 1;
            }
            at += 1;
        }
    }
    end
}

/// Sorts keys by their upper half, those that are equal there by what `tie` says of their lower halves. Whole numbers are
/// sorted without a branch, several times quicker than by a comparison in two steps; and few are equal.
pub(crate) fn in_order(keys: &mut [u64], tie: impl Fn(u32, u32) -> Ordering) {
    keys.sort_unstable();
    for equals in keys.chunk_by_mut(|a, b| a >> 32 == b >> 32) {
        if equals.len() > 1 {
            equals.sort_unstable_by(|a, b| tie(*a as u32, *b as u32));
        }
    }
}

/// A number that is the smaller the higher the score.
fn descending(score: f32) -> u32 {
    let bits = score.to_bits();
    // As in `f32::total_cmp`, turned round.
    if bits >> 31 == 0 { !(bits | 1 << 31) } else { bits }
}

/// A key that is the smaller the higher the score, with a number in its lower half.
#[inline]
pub(crate) fn key(score: f32, low: u32) -> u64 {
    u64::from(descending(score)) << 32 | u64::from(low)
}

/// The score of a key.
#[inline]
pub(crate) fn score_of(key: u64) -> f32 {
    ascending((key >> 32) as u32)
}

/// The reverse of [`descending`].
fn ascending(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 0 { !key & !(1 << 31) } else { key })
}

#[cfg(test)]
mod tests;
