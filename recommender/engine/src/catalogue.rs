//! What the catalogue says of products.

use std::sync::{
    Arc,
    atomic::Ordering::{Relaxed, Release},
};

use crate::{
    event::ProductMeta,
    quality::is_labelled,
    revision::CatalogueRevision,
    shared::{NONE, StoredMeta},
    writer::Writer,
};

impl Writer {
    /// Takes up what the catalogue says of a product; `None` withdraws it (its history stays, it is no
    /// longer recommended). Answers false for a new product beyond `max_products`.
    pub fn set_product(&mut self, id: &str, meta: Option<ProductMeta>) -> bool {
        let Some(product) = self.intern(id) else {
            return false;
        };
        let category = meta
            .as_ref()
            .and_then(|meta| meta.category.as_deref())
            .filter(|name| !name.is_empty());
        let category = category.map_or(NONE, |name| self.category(name));
        let slot = self.shared.product(product);
        slot.category.store(category, Relaxed);
        let labelled = meta
            .as_ref()
            .is_some_and(|meta| is_labelled(&self.config.non_product_labels, meta));
        let was_labelled = slot.no_product.swap(labelled, Relaxed);
        let count = &self.shared.counters.labelled;
        count.store(
            count.load(Relaxed) + u64::from(labelled) - u64::from(was_labelled),
            Relaxed,
        );
        slot.available
            .store(meta.as_ref().is_some_and(|meta| meta.available), Relaxed);
        let catalogued = &self.shared.counters.catalogued;
        let (was, is) = (slot.meta.load().is_some(), meta.is_some());
        catalogued.store(catalogued.load(Relaxed) + u64::from(is) - u64::from(was), Relaxed);
        let digest = CatalogueRevision::digest(slot.name_hash, meta.as_ref());
        let old = slot.catalogue_digest.swap(digest, Relaxed);
        let catalogue = &self.shared.counters.catalogue;
        let sum = catalogue.load(Relaxed).wrapping_sub(old).wrapping_add(digest);
        slot.meta.store(meta.map(|meta| Arc::new(StoredMeta::new(meta))));
        if old != digest {
            self.shared.counters.catalogue_settles.store(true, Relaxed);
            // Last: whoever sees the new revision sees what it stands for.
            catalogue.store(sum, Release);
        }
        self.counts.popularity_changed = true;
        self.catalogue_changed = true;
        true
    }

    fn category(&mut self, name: &str) -> u32 {
        if let Some(id) = self.shared.category_id(name) {
            return id;
        }
        let name: Arc<str> = name.into();
        let id = self.shared.categories.push(Arc::clone(&name)) as u32;
        self.shared.category_ids.pin().insert(name, id);
        id
    }
}
