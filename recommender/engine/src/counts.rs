//! The writer's exact counts: which products interest the same customers, and how many each interests.

use std::sync::Arc;

use crate::{
    history::{Change, Entry, INTEREST_STEPS, Names},
    name_table::NameTable,
    popularity::{Buckets, bucket},
    recount::Recount,
    rows::Row,
    scratch::{in_order, key, score_of, smallest},
    shared::{Neighbor, prefix},
    similarity::{Bm25, Lengths, Similarity},
};

/// Weight of a pair of an undamped customer, in fixed point; a damped one counts a power of two less.
const FULL: u32 = 14;

/// What [`share`] gives a customer whose pairs count whole.
fn whole(damping: bool) -> f32 {
    share(0, damping) as f32
}

/// What a pair of a customer with this many products counts: a share that halves with every doubling. In
/// powers of two, because then a customer's pairs must be counted anew only when the power changes.
pub(crate) fn share(degree: u32, damping: bool) -> i64 {
    if !damping {
        return 1;
    }
    if degree == 0 {
        return 1 << FULL;
    }
    // The nearest power: 3 in the middle of 2 and 4 is taken up.
    let power = (f64::from(degree).log2() + 0.5).floor() as u32;
    1 << FULL.saturating_sub(power)
}

/// The part of the configuration that counting needs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counting {
    /// The newest products of a customer that are counted in pairs.
    pub window: usize,
    pub trend_half_life_ms: i64,
    pub row_capacity: usize,
    pub damping: bool,
    pub similarity: Similarity,
    pub bm25: Bm25,
    pub shrinkage: f64,
    pub alpha: f64,
    pub beta: f64,
}

/// What a candidate's counts are multiplied with.
#[derive(Clone, Copy, Debug, Default)]
struct Scale {
    /// Root of the norm.
    root: f32,
    /// Penalty of frequency.
    penalty: f32,
    /// Whether both are to be worked out anew before they are read.
    stale: bool,
}

/// Counts that are sums over customers of products of integers: any order of events gives the same.
#[derive(Default)]
pub(crate) struct Counts {
    pub counting: Counting,
    pub rows: Vec<Row>,
    /// Summed squared interest, each customer by their share.
    pub norms: Vec<i64>,
    /// Summed interest.
    pub degrees: Vec<i64>,
    /// What the two sums above mean for a candidate, kept because every refresh reads it for every pair.
    scales: Vec<Scale>,
    stale: Vec<u32>,
    /// What BM25 takes the mean length to be; none for the cosine.
    lengths: Option<Lengths>,
    pub popularity: Vec<Buckets>,
    /// Newest popularity bucket.
    pub newest_bucket: i64,
    pub pairs: i64,
    /// Whether a row was ever cut: until then rows follow from the histories.
    pub cut: bool,
    dirty: Vec<bool>,
    queue: std::collections::VecDeque<u32>,
    pub popularity_changed: bool,
    /// Buffers: what a recount moves, and candidates for neighbour lists.
    pub recounting: Recount,
    ranks: Ranks,
}

/// Of each product the summed squared interest, the summed interest, and the latter by time.
pub(crate) type Sums = Vec<(i64, i64, Buckets)>;

/// Candidates for the two lists of a product.
pub(crate) type Ranks = (Vec<u64>, Vec<u64>);

impl Counts {
    pub fn new(counting: Counting) -> Self {
        Counts {
            counting,
            ..Counts::default()
        }
    }

    /// Whether pairs of products are counted at all.
    pub fn counts_pairs(&self) -> bool {
        self.counting.row_capacity != 0
    }

    /// Makes room for products up to this many.
    pub fn grow(&mut self, products: usize) {
        self.rows.resize_with(products, Row::default);
        self.norms.resize(products, 0);
        self.degrees.resize(products, 0);
        self.scales.resize(products, Scale::default());
        self.popularity.resize_with(products, Buckets::default);
        self.dirty.resize(products, false);
    }

    /// Looks where the votes for a product are that are about to change, for no other reason than to have them fetched
    /// while something else is done.
    pub fn peek(&self, product: u32) {
        std::hint::black_box(self.popularity[product as usize].peek());
    }

    /// To be called whenever the norm or degree of a product has changed.
    pub fn rescale(&mut self, product: u32) {
        if !std::mem::replace(&mut self.scales[product as usize].stale, true) {
            self.stale.push(product);
        }
    }

    /// What does not follow from the histories that are at hand, for a snapshot.
    pub fn sums(&self) -> Sums {
        let sums = self.norms.iter().zip(&self.degrees).zip(&self.popularity);
        sums.map(|((norm, degree), popularity)| (*norm, *degree, popularity.clone()))
            .collect()
    }

    /// The reverse of [`Counts::sums`]; products that are missing have none.
    pub fn set_sums(&mut self, sums: Sums) {
        for (product, (norm, degree, popularity)) in sums.into_iter().enumerate() {
            self.norms[product] = norm;
            self.degrees[product] = degree;
            self.popularity[product] = popularity;
            self.rescale(product as u32);
        }
        self.popularity_changed = true;
    }

    /// Moves the votes of a customer that a change of their history moves.
    pub fn vote(&mut self, change: &Change) {
        self.shift_popularity(change.before.as_ref(), Some(&change.after));
        if let Some(evicted) = &change.evicted {
            self.shift_popularity(Some(evicted), None);
        }
    }

    /// Moves a customer's vote for a product.
    pub fn shift_popularity(&mut self, before: Option<&Entry>, after: Option<&Entry>) {
        let half_life_ms = self.counting.trend_half_life_ms;
        if let Some(after) = after {
            self.newest_bucket = self.newest_bucket.max(bucket(after.last_ms, half_life_ms));
        }
        let vote = |entry: &Entry| {
            (
                entry.product,
                bucket(entry.last_ms, half_life_ms),
                i64::from(entry.interest),
            )
        };
        match (before.map(vote), after.map(vote)) {
            (Some((product, at, was)), Some((same, when, is))) if (product, at) == (same, when) => {
                self.popularity[product as usize].add(at, is - was, self.newest_bucket);
            }
            (before, after) => {
                for ((product, at, amount), sign) in
                    before.into_iter().map(|b| (b, -1)).chain(after.map(|a| (a, 1)))
                {
                    self.popularity[product as usize].add(at, sign * amount, self.newest_bucket);
                }
            }
        }
        self.popularity_changed = true;
    }

    /// Puts a product's neighbour list in line for refreshing.
    pub fn mark(&mut self, product: u32) {
        if !std::mem::replace(&mut self.dirty[product as usize], true) {
            self.queue.push_back(product);
        }
    }

    /// The product whose list waited longest.
    pub fn next_dirty(&mut self) -> Option<u32> {
        let product = self.queue.pop_front()?;
        self.dirty[product as usize] = false;
        Some(product)
    }

    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    /// To be called before lists are refreshed: works out what follows from norms and degrees. An event changes
    /// many of them, and most again before anybody looks.
    pub fn measure(&mut self) {
        for product in self.stale.drain(..) {
            let at = product as usize;
            self.scales[at] = Scale {
                root: (self.norms[at] as f64).sqrt() as f32,
                penalty: (self.degrees[at] as f64).powf(-self.counting.beta) as f32,
                stale: false,
            };
        }
        let Counting { similarity, bm25, .. } = self.counting;
        let by_length = similarity == Similarity::Bm25;
        self.lengths = by_length.then(|| Lengths::measure(bm25, &self.degrees));
    }

    /// The nearest products by cosine (or BM25) and by random walk, nearest first; `names` breaks ties.
    pub fn nearest(&mut self, product: u32, keep: usize, names: &Ordered) -> (Vec<Neighbor>, Vec<Neighbor>) {
        let mut ranks = std::mem::take(&mut self.ranks);
        let nearest = self.nearest_by(&mut ranks, product, keep, names);
        self.ranks = ranks;
        nearest
    }

    /// The same, with buffers of the caller's.
    pub fn nearest_by(
        &self,
        ranks: &mut Ranks,
        product: u32,
        keep: usize,
        names: &Ordered,
    ) -> (Vec<Neighbor>, Vec<Neighbor>) {
        let full = whole(self.counting.damping);
        let shrinkage = self.counting.shrinkage as f32 * (INTEREST_STEPS * INTEREST_STEPS) as f32 * full;
        let own = self.scales[product as usize].root;
        let walk = (self.degrees[product as usize] as f64).powf(-self.counting.alpha) as f32 / full;
        let lengths = self.lengths;
        let unit = (INTEREST_STEPS * INTEREST_STEPS) as f32 * full;
        let weight = |of: u32| lengths.map_or(0.0, |lengths| lengths.weight(self.degrees[of as usize]));
        let own_weight = weight(product) / unit;
        let (near, walks) = ranks;
        near.clear();
        walks.clear();
        let (scales, degrees) = (&self.scales, &self.degrees);
        self.rows[product as usize].each(|other, dot| {
            // A pruned row may be owed more than it holds: such a pair says nothing any more.
            if dot > 0 {
                let (dot, scale) = (dot as f32, scales[other as usize]);
                let likeness = match lengths {
                    None => dot / (own * scale.root + shrinkage),
                    Some(lengths) => {
                        let weight = lengths.weight(degrees[other as usize]);
                        dot * own_weight * weight * (dot / (dot + shrinkage))
                    }
                };
                push_finite(near, other, likeness);
                push_finite(walks, other, dot * walk * scale.penalty);
            }
        });
        (strongest(near, keep, names), strongest(walks, keep, names))
    }
}

/// A neighbour as a whole number that is the smaller the more alike it is.
#[inline]
fn push_finite(list: &mut Vec<u64>, product: u32, similarity: f32) {
    if similarity.is_finite() && similarity > 0.0 {
        list.push(key(similarity, product));
    }
}

fn strongest(list: &mut [u64], keep: usize, names: &Ordered) -> Vec<Neighbor> {
    let end = smallest(list, keep);
    let best = &mut list[..end];
    in_order(best, |a, b| names.compare(a, b));
    let neighbor = |key: &u64| Neighbor {
        product: *key as u32,
        similarity: score_of(*key),
    };
    best.iter().take(keep).map(neighbor).collect()
}

/// Names of products, quick to compare: rare products tie by the thousand.
#[derive(Default)]
pub(crate) struct Ordered {
    pub names: Vec<Arc<str>>,
    /// The writer's own way from names to numbers: readers' is a map that may change under them, which costs more.
    ids: NameTable,
    prefixes: Vec<u64>,
}

impl Ordered {
    pub fn push(&mut self, name: Arc<str>) {
        self.prefixes.push(prefix(&name));
        self.ids.push(&name);
        self.names.push(name);
    }

    /// The number of a name.
    pub fn id(&self, name: &str) -> Option<u32> {
        self.ids.get(name)
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }
}

impl Names for Ordered {
    fn compare(&self, a: u32, b: u32) -> std::cmp::Ordering {
        let (a, b) = (a as usize, b as usize);
        self.prefixes[a]
            .cmp(&self.prefixes[b])
            .then_with(|| self.names[a].cmp(&self.names[b]))
    }
}

pub(crate) fn square(interest: u16) -> i64 {
    i64::from(interest) * i64::from(interest)
}
