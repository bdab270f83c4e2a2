//! The readers' side: answers questions from what the writer published, never waiting for it.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::{
    answer, assemble,
    event::{HistoryItem, ProductMeta},
    history::WEIGHT_UNITS,
    prequential::HitRate,
    query::{Query, Recommendations, Scored, Stats},
    revision::{CatalogueRevision, Revision},
    shared::Shared,
    similar,
};

/// Answers questions. Cheap to clone, `Send` and `Sync`; share one or clone it per thread.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Reader { shared }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Products for a customer, a visit or a basket.
    pub fn recommend(&self, query: &Query<'_>) -> Recommendations {
        answer::recommend(&self.shared, query)
    }

    /// Products that interest the same customers, nearest first; every fourth place goes to one that hardly
    /// anybody has met yet and is like it by title, category, tags or embedding, and such products fill up what
    /// is left. Empty for an unknown product.
    pub fn similar(&self, product: &str, limit: usize) -> Vec<Scored> {
        similar::similar(&self.shared, product, limit)
    }

    /// What is popular now, overall or in a category. The order holds at any `now_ms`, for decay is the
    /// same for all products.
    pub fn trending(&self, limit: usize, category: Option<&str>, _now_ms: i64) -> Vec<Scored> {
        assemble::trending(&self.shared, limit, category)
    }

    /// What the catalogue says of a product.
    pub fn product(&self, id: &str) -> Option<ProductMeta> {
        let id = self.shared.product_id(id)?;
        self.shared
            .product(id)
            .meta
            .load()
            .as_ref()
            .map(|stored| stored.meta.clone())
    }

    /// What the catalogue calls a product.
    pub fn title(&self, id: &str) -> Option<Arc<str>> {
        self.shared.product(self.shared.product_id(id)?).title()
    }

    /// Whether a product is known, by events or catalogue.
    pub fn has_product(&self, id: &str) -> bool {
        self.shared.product_id(id).is_some()
    }

    /// A customer's history, newest first; `None` for an unknown customer.
    pub fn customer_history(&self, id: &str) -> Option<Vec<HistoryItem>> {
        let slot = self.shared.asked(id)?;
        let history = slot.history.load();
        let item = |entry: &crate::history::Entry| HistoryItem {
            product: Arc::clone(&self.shared.product(entry.product).name),
            kind: entry.strongest(),
            weight: entry.total as f32 / WEIGHT_UNITS,
            purchases: i32::from(entry.purchases),
            last_ms: entry.last_ms,
        };
        Some(history.entries.iter().map(item).collect())
    }

    /// Hands every customer with their history (as [`Reader::customer_history`] has it) to `take`, in no order.
    pub fn each_customer(&self, mut take: impl FnMut(&Arc<str>, &[HistoryItem])) {
        for slot in self.shared.customers.pin().values() {
            if let Some(history) = self.customer_history(&slot.name) {
                take(&slot.name, &history);
            }
        }
    }

    /// Whether anything was learned of a customer.
    pub fn knows(&self, customer: &str) -> bool {
        self.shared.customer(customer).is_some()
    }

    /// Hands the name of every customer with a history or a profile to `take`, in no order; one with both twice.
    pub fn each_name(&self, mut take: impl FnMut(&Arc<str>)) {
        self.shared.customers.pin().keys().for_each(&mut take);
        self.shared.profiles.pin().keys().for_each(&mut take);
    }

    /// Hands every product that the catalogue gives a title to `take`, with its id first.
    pub fn each_title(&self, mut take: impl FnMut(&str, &str)) {
        for (_, slot) in self.shared.products.iter() {
            if let Some(title) = slot.title() {
                take(&slot.name, &title);
            }
        }
    }

    /// What is known of a customer, in a few bytes: two revisions are equal exactly if the customer's history and
    /// profile are, on every replica (see [`Revision`]). The first time after an event it takes about as long as
    /// reading the history.
    pub fn customer_revision(&self, id: &str) -> Revision {
        Revision::of(&self.shared, id)
    }

    /// What the catalogue says, in a few bytes: two revisions are equal exactly if all products' entries are, on every
    /// replica, but for prices, which no answer depends on.
    pub fn catalogue_revision(&self) -> CatalogueRevision {
        CatalogueRevision::of(&self.shared)
    }

    /// How well the configured algorithm (with `Auto`, each) predicts what customers turn to next.
    pub fn hit_rates(&self) -> Vec<HitRate> {
        self.shared.hit_rates.load().to_vec()
    }

    /// Figures about the model. Each is exact, together they may be a few events apart.
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        Stats {
            products: self.shared.products.count() as u64,
            catalogued: counters.catalogued.load(Relaxed),
            customers: counters.customers.load(Relaxed),
            events: counters.events.load(Relaxed),
            learned: counters.learned.load(Relaxed),
            weightless: counters.weightless.load(Relaxed),
            duplicates: counters.duplicates.load(Relaxed),
            damped: counters.damped.load(Relaxed),
            non_products: counters.non_products.load(Relaxed),
            damped_customers: counters.damped_customers.load(Relaxed),
            excluded: counters.excluded.load(Relaxed),
            excluded_customers: counters.excluded_customers.load(Relaxed),
            labelled_non_products: counters.labelled.load(Relaxed),
            onnx_failures: counters.onnx_failures.load(Relaxed),
            ignored_embeddings: counters.ignored_embeddings.load(Relaxed),
            refused_products: counters.refused_products.load(Relaxed),
            too_old: counters.too_old.load(Relaxed),
            invalid: counters.invalid.load(Relaxed),
            erased_customers: counters.erased_customers.load(Relaxed),
            evicted_customers: counters.evicted_customers.load(Relaxed),
            pairs: counters.pairs.load(Relaxed).max(0) as u64,
            pending_rows: counters.pending_rows.load(Relaxed),
            newest_event_ms: counters.newest_event_ms.load(Relaxed),
        }
    }
}
