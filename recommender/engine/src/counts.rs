//! The writer's exact counts: which products interest the same customers, and how many each interests.

use crate::{
    history::{Change, Entry, History},
    popularity::{Buckets, bucket},
    rows::Row,
    shared::Neighbor,
};

/// Counts that are sums over customers of products of integers: any order of events gives the same.
#[derive(Default)]
pub(crate) struct Counts {
    pub rows: Vec<Row>,
    /// Summed squared interest.
    pub norms: Vec<i64>,
    pub popularity: Vec<Buckets>,
    /// Newest popularity bucket.
    pub newest_bucket: i64,
    pub pairs: i64,
    dirty: Vec<bool>,
    queue: std::collections::VecDeque<u32>,
    pub popularity_changed: bool,
}

impl Counts {
    /// Makes room for products up to this many.
    pub fn grow(&mut self, products: usize) {
        self.rows.resize_with(products, Row::default);
        self.norms.resize(products, 0);
        self.popularity.resize_with(products, Buckets::default);
        self.dirty.resize(products, false);
    }

    /// Applies a change of `history`, which already shows it.
    pub fn change(&mut self, history: &History, change: &Change, half_life_ms: i64, row_capacity: usize) {
        if let Some(evicted) = change.evicted {
            self.shift_popularity(Some(&evicted), None, half_life_ms);
            let without = |entry: &&Entry| entry.product != change.after.product;
            let partners = history.entries.iter().filter(without);
            self.shift_pairs(&evicted, -i64::from(evicted.interest), partners, usize::MAX);
            self.norms[evicted.product as usize] -= square(evicted.interest);
        }
        let (before, after) = (
            change.before.map_or(0, |entry| entry.interest),
            change.after.interest,
        );
        self.shift_popularity(change.before.as_ref(), Some(&change.after), half_life_ms);
        let delta = i64::from(after) - i64::from(before);
        if delta != 0 {
            let others = history
                .entries
                .iter()
                .filter(|entry| entry.product != change.after.product);
            self.shift_pairs(&change.after, delta, others, row_capacity);
            self.norms[change.after.product as usize] += square(after) - square(before);
        }
    }

    /// Takes a whole history back out.
    pub fn erase(&mut self, history: &History, half_life_ms: i64) {
        for (at, entry) in history.entries.iter().enumerate() {
            self.shift_popularity(Some(entry), None, half_life_ms);
            let interest = -i64::from(entry.interest);
            self.shift_pairs(entry, interest, history.entries[at + 1..].iter(), usize::MAX);
            self.norms[entry.product as usize] -= square(entry.interest);
        }
    }

    fn shift_pairs<'a>(
        &mut self,
        entry: &Entry,
        delta: i64,
        others: impl Iterator<Item = &'a Entry>,
        row_capacity: usize,
    ) {
        let product = entry.product;
        if delta == 0 {
            return;
        }
        let mut row = std::mem::take(&mut self.rows[product as usize]);
        for other in others.filter(|other| other.interest > 0) {
            let amount = delta * i64::from(other.interest);
            self.pairs += row.add(other.product, amount);
            let mirror = &mut self.rows[other.product as usize];
            self.pairs += mirror.add(product, amount);
            if mirror.len() > row_capacity {
                self.pairs -= mirror.prune(row_capacity / 2) as i64;
            }
            self.mark(other.product);
        }
        if row.len() > row_capacity {
            self.pairs -= row.prune(row_capacity / 2) as i64;
        }
        self.rows[product as usize] = row;
        self.mark(product);
    }

    /// Moves a customer's vote for a product.
    pub fn shift_popularity(&mut self, before: Option<&Entry>, after: Option<&Entry>, half_life_ms: i64) {
        if let Some(after) = after {
            self.newest_bucket = self.newest_bucket.max(bucket(after.last_ms, half_life_ms));
        }
        for (entry, sign) in [(before, -1), (after, 1)] {
            if let Some(entry) = entry {
                let at = bucket(entry.last_ms, half_life_ms);
                let amount = sign * i64::from(entry.interest);
                self.popularity[entry.product as usize].add(at, amount, self.newest_bucket);
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

    /// The nearest products by cosine, nearest first; `names` breaks ties.
    pub fn nearest(
        &self,
        product: u32,
        keep: usize,
        shrinkage: f64,
        names: &impl Fn(u32) -> std::sync::Arc<str>,
    ) -> Vec<Neighbor> {
        let own = (self.norms[product as usize] as f64).sqrt();
        let mut near: Vec<Neighbor> = self.rows[product as usize]
            .iter()
            .filter_map(|(other, dot)| {
                let denominator = own * (self.norms[other as usize] as f64).sqrt() + shrinkage;
                let similarity = (dot as f64 / denominator) as f32;
                // A pruned row may be owed more than it holds: such a pair says nothing any more.
                (similarity.is_finite() && similarity > 0.0).then_some(Neighbor {
                    product: other,
                    similarity,
                })
            })
            .collect();
        let order = |a: &Neighbor, b: &Neighbor| {
            b.similarity
                .total_cmp(&a.similarity)
                .then_with(|| names(a.product).cmp(&names(b.product)))
        };
        if near.len() > keep {
            near.select_nth_unstable_by(keep, order);
            near.truncate(keep);
        }
        near.sort_unstable_by(order);
        near
    }
}

pub(crate) fn square(interest: u16) -> i64 {
    i64::from(interest) * i64::from(interest)
}
