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

/// A set of products that is emptied at once and allocates only while it grows.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    stamps: Vec<u32>,
    now: u32,
    used: bool,
}

thread_local! {
    static MARKS: RefCell<Marks> = RefCell::default();
}

impl Marks {
    /// This thread's set, empty. Give it back with [`Marks::put_back`].
    pub fn take() -> Marks {
        let mut marks = MARKS.take();
        marks.now = marks.now.wrapping_add(1);
        if marks.now == 0 {
            marks.stamps.fill(0);
            marks.now = 1;
        }
        marks.used = false;
        marks
    }

    pub fn put_back(self) {
        MARKS.set(self);
    }

    pub fn insert(&mut self, product: u32) {
        let at = product as usize;
        if at >= self.stamps.len() {
            self.stamps.resize((at + 1).next_power_of_two(), 0);
        }
        self.stamps[at] = self.now;
        self.used = true;
    }

    pub fn contains(&self, product: u32) -> bool {
        self.used && self.stamps.get(product as usize) == Some(&self.now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_stand_in_the_order_of_scores_and_ties_of_products(bits in prop::collection::vec(any::<u32>(), 0..60)) {
            // Few that differ, so that some are equal.
            let scores: Vec<f32> = bits.iter().map(|bits| f32::from_bits(bits & 0xC060_0000)).collect();
            let mut keys: Vec<u64> = scores.iter().zip(0..).map(|(score, at)| key(*score, at)).collect();
            in_order(&mut keys, |a, b| b.cmp(&a));
            let mut expected: Vec<usize> = (0..scores.len()).collect();
            expected.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(b.cmp(a)));
            prop_assert!(keys.iter().map(|key| *key as u32 as usize).eq(expected));
            for bits in bits {
                prop_assert_eq!(ascending(descending(f32::from_bits(bits))).to_bits(), bits);
            }
        }
    }

    proptest! {
        #[test]
        fn all_at_once_are_as_one_by_one(
            lists in prop::collection::vec((prop::collection::vec((0u32..40, -4i32..8), 0..12), 1u32..4, 0u32..5), 0..12),
        ) {
            let mut plain: std::collections::BTreeMap<u32, (f32, f32, u32)> = Default::default();
            let mut found = Scratch::with(10, |scratch| {
                for (list, weight, source) in &lists {
                    let (products, parts): (Vec<u32>, Vec<f32>) = list.iter().map(|(p, part)| (*p, *part as f32)).unzip();
                    scratch.add_all(&products, &parts, *weight as f32, *source);
                    for (product, part) in products.iter().zip(parts) {
                        let part = *weight as f32 * part;
                        // Of equally strong sources the first stays.
                        let known = plain.entry(*product).or_insert((0.0, part, *source));
                        known.0 += part;
                        if part > known.1 {
                            (known.1, known.2) = (part, *source);
                        }
                    }
                }
                let mut out = Vec::new();
                scratch.best(100, |_| true, |a, b| a.cmp(&b), &mut out);
                out
            });
            found.sort_by_key(|one| one.product);
            let expected = plain.into_iter().map(|(product, (score, _, source))| Candidate { product, score, source });
            prop_assert_eq!(found, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_answer_that_panicked_leaves_no_marks() {
        let panics = || {
            Scratch::with(10, |scratch| {
                scratch.mark_one(3, 0);
                panic!("on purpose");
            })
        };
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(Scratch::with(10, |scratch| scratch.marked(3)), None);
    }

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
