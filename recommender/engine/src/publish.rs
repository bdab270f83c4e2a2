//! From what the writer knows to what readers see.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use ahash::AHashMap;

use crate::{
    bulk::in_parts,
    counts::Ranks,
    history::{INTEREST_STEPS, Names as _},
    knowledge::KnowledgeIndex,
    models::content::ContentIndex,
    popularity::Buckets,
    shared::{NONE, Neighbor, Shared, Trending},
    writer::Writer,
};

/// Products in the trending view, and in each category of it.
const TRENDING: usize = 1_000;
const TRENDING_IN_CATEGORY: usize = 200;
/// The content index takes about 10 microseconds a product to build. It follows the catalogue no more often than
/// leaves the writer nineteen twentieths of its time: within a second up to 5,000 products.
const CONTENT_PRODUCTS_PER_MS: i64 = 5;
const CONTENT_MS: i64 = 500;
/// Products whose lists a thread makes before it takes others.
const LISTS_AT_ONCE: usize = 16;

/// What a publish did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Neighbour lists refreshed.
    pub rows: usize,
    /// Neighbour lists that still wait.
    pub pending: usize,
}

impl Writer {
    /// Shows readers what was learned: refreshes up to `max_rows` neighbour lists, those that waited
    /// longest first, and the trending view at most once a second. Call it after each batch of events and
    /// while `pending` is above 0; a list costs about a microsecond per hundred products counted with it.
    pub fn publish(&mut self, now_ms: i64, max_rows: usize) -> Published {
        let mut rows = 0;
        self.count_now();
        self.counts.measure();
        while rows < max_rows
            && let Some(product) = self.counts.next_dirty()
        {
            self.refresh(product);
            rows += 1;
        }
        // A neighbour's own norm moves without marking every list that names it; one list of a quiet
        // product per publish keeps the rest from going stale.
        if self.names.len() != 0 && rows < max_rows {
            self.cursor = (self.cursor + 1) % self.names.len();
            self.refresh(self.cursor as u32);
        }
        let due = now_ms.saturating_sub(self.trending_ms) >= 1_000 || now_ms < self.trending_ms;
        if self.counts.popularity_changed && due {
            self.refresh_trending(now_ms);
        }
        self.sessions.publish(&self.shared, now_ms);
        let waited = now_ms.saturating_sub(self.content_ms);
        let wait = CONTENT_MS.max(self.names.len() as i64 / CONTENT_PRODUCTS_PER_MS);
        if self.catalogue_changed && !(0..wait).contains(&waited) {
            self.refresh_content(now_ms);
        }
        if self.onnx_products != self.names.len() && (now_ms.div_euclid(wait) != self.onnx_turn) {
            self.onnx_turn = now_ms.div_euclid(wait);
            self.refresh_onnx();
        }
        let pending = self.counts.pending();
        self.show_figures(pending);
        Published { rows, pending }
    }

    /// Refreshes everything: after it, readers see exactly what the counts say.
    pub fn flush(&mut self, now_ms: i64) -> Published {
        self.flush_on(now_ms, 1)
    }

    /// The same, the lists on so many threads.
    pub(crate) fn flush_on(&mut self, now_ms: i64, threads: usize) -> Published {
        self.count_now();
        while self.counts.next_dirty().is_some() {}
        self.counts.measure();
        let mut products: Vec<u32> = (0..self.names.len() as u32).collect();
        let (counts, shared, names) = (&self.counts, &self.shared, &self.names);
        let neighbors = self.config.neighbors;
        let list = |ranks: &mut Ranks, _: usize, products: &mut [u32]| {
            for product in products {
                show_lists(
                    shared,
                    *product,
                    counts.nearest_by(ranks, *product, neighbors, names),
                );
            }
        };
        in_parts(&mut products, LISTS_AT_ONCE, threads, Ranks::default, list);
        self.refresh_trending(now_ms);
        self.sessions.flush(&self.shared);
        if self.catalogue_changed {
            self.refresh_content(now_ms);
        }
        self.refresh_onnx();
        self.show_figures(0);
        Published {
            rows: self.names.len(),
            pending: 0,
        }
    }

    fn show_figures(&self, pending: usize) {
        self.shared.counters.pending_rows.store(pending as u64, Relaxed);
        self.shared.counters.pairs.store(self.counts.pairs, Relaxed);
    }

    pub(crate) fn refresh(&mut self, product: u32) {
        let lists = self.counts.nearest(product, self.config.neighbors, &self.names);
        show_lists(&self.shared, product, lists);
    }

    fn refresh_content(&mut self, now_ms: i64) {
        let stored: Vec<_> = (0..self.names.len() as u32)
            .map(|id| self.shared.product(id).meta.load_full())
            .collect();
        let index = ContentIndex::build(&stored);
        let ignored = &self.shared.counters.ignored_embeddings;
        ignored.store(index.embeddings.ignored as u64, Relaxed);
        self.shared.content.store(Arc::new(index));
        let index = KnowledgeIndex::build(
            stored
                .iter()
                .map(|stored| stored.as_ref().map(|stored| &stored.meta)),
        );
        self.shared.knowledge.store(Arc::new(index));
        (self.content_ms, self.catalogue_changed) = (now_ms, false);
        self.shared.counters.catalogue_settles.store(false, Relaxed);
    }

    pub(crate) fn refresh_trending(&mut self, now_ms: i64) {
        // Not the newest ever seen: that may have been of a customer who is erased by now.
        let newest = self
            .counts
            .popularity
            .iter()
            .filter_map(Buckets::newest)
            .max()
            .unwrap_or_default();
        let mut all: Vec<(u32, f32)> = (0..self.names.len() as u32)
            .filter(|id| self.shared.product(*id).available.load(Relaxed))
            .map(|id| {
                (
                    id,
                    self.counts.popularity[id as usize].score(newest) / INTEREST_STEPS as f32,
                )
            })
            .inspect(|(id, score)| {
                self.shared
                    .product(*id)
                    .popularity
                    .store(score.to_bits(), Relaxed)
            })
            .filter(|(_, score)| *score > 0.0)
            .collect();
        let order =
            |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then_with(|| self.names.compare(a.0, b.0));
        all.sort_unstable_by(order);
        let mut by_category: AHashMap<u32, Vec<(u32, f32)>> = AHashMap::new();
        for &(id, score) in &all {
            let category = self.shared.product(id).category.load(Relaxed);
            if category != NONE {
                let list = by_category.entry(category).or_default();
                if list.len() < TRENDING_IN_CATEGORY {
                    list.push((id, score));
                }
            }
        }
        all.truncate(TRENDING);
        self.shared.trending.store(Arc::new(Trending {
            overall: all,
            by_category,
        }));
        self.counts.popularity_changed = false;
        self.trending_ms = now_ms;
    }
}

/// Shows readers a product's lists: by likeness, and by walks.
fn show_lists(shared: &Shared, product: u32, (near, walks): (Vec<Neighbor>, Vec<Neighbor>)) {
    let slot = shared.product(product);
    slot.neighbors.write(&near);
    slot.walks.write(&walks);
}
