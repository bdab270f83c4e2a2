//! What is odd about the events that come in. Counted, never a reason to refuse one.

use ahash::AHashMap;
use serde::Serialize;

use crate::{reader::Reader, shared::Shared};

/// An event this much older than the newest of its partition came out of order, milliseconds.
const LATE_MS: i64 = 60_000;

/// What was odd about one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// The catalogue has products, but not this one.
    pub unknown_product: bool,
    /// More than a minute older than the newest event of its partition.
    pub out_of_order: bool,
}

/// Looks at events as they come.
#[derive(Clone, Debug, Default)]
pub struct Quality {
    newest: AHashMap<i32, i64>,
}

impl Quality {
    /// Looks at one event.
    pub fn observe(&mut self, reader: &Reader, partition: i32, product: &str, time_ms: i64) -> Oddities {
        let newest = self.newest.entry(partition).or_insert(time_ms);
        let out_of_order = newest.saturating_sub(time_ms) > LATE_MS;
        *newest = (*newest).max(time_ms);
        Oddities {
            unknown_product: is_uncatalogued(reader.shared(), product),
            out_of_order,
        }
    }
}

fn is_uncatalogued(shared: &Shared, product: &str) -> bool {
    use std::sync::atomic::Ordering::Relaxed;
    if shared.counters.catalogued.load(Relaxed) == 0 {
        return false;
    }
    shared
        .product_id(product)
        .is_none_or(|id| shared.product(id).meta.load().is_none())
}

/// How thinly the pairs of customer and product are sown.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sparsity {
    /// Share of the pairs about which nothing is known, 0..=1.
    pub sparsity: f64,
    /// Customers that it was taken from.
    pub sampled: usize,
}

impl Sparsity {
    /// From at most `sample` customers, which come in the order of their hashes: as good as drawn by lot. Histories
    /// are bounded, so of customers with very many products not all count. `None` without customers or products.
    pub fn of(reader: &Reader, sample: usize) -> Option<Self> {
        let shared = reader.shared();
        let products = shared.products.count();
        let customers = shared.customers.pin();
        let (mut sampled, mut pairs) = (0usize, 0usize);
        for slot in customers.values().take(sample) {
            sampled += 1;
            pairs += slot.history.load().entries.len();
        }
        (sampled > 0 && products > 0).then(|| Sparsity {
            sparsity: 1.0 - pairs as f64 / (sampled as f64 * products as f64),
            sampled,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EngineConfig, EventKind, Interaction, ProductMeta, engine};

    #[test]
    fn products_are_unknown_only_where_there_is_a_catalogue() {
        let (mut writer, reader) = engine(EngineConfig::default()).unwrap();
        let mut quality = Quality::default();
        assert!(!quality.observe(&reader, 0, "cup", 0).unknown_product);
        writer.set_product("mug", Some(ProductMeta::titled("Mug")));
        // Known by an event, which is not the catalogue.
        writer.apply(&Interaction::new("ann", "cup", EventKind::View, 0), 0);
        assert!(quality.observe(&reader, 0, "cup", 0).unknown_product);
        assert!(!quality.observe(&reader, 0, "mug", 0).unknown_product);
    }

    #[test]
    fn order_is_kept_by_partition_and_a_minute_is_forgiven() {
        let (_, reader) = engine(EngineConfig::default()).unwrap();
        let mut quality = Quality::default();
        let mut late = |partition, time_ms| quality.observe(&reader, partition, "p", time_ms).out_of_order;
        assert!(!late(0, 100_000));
        assert!(!late(0, 40_000));
        assert!(late(0, 39_999));
        assert!(!late(1, 10), "another partition");
        assert!(!late(0, 100_001));
    }

    #[test]
    fn sparsity_is_the_share_of_pairs_that_nobody_made() {
        let (mut writer, reader) = engine(EngineConfig::default()).unwrap();
        assert_eq!(Sparsity::of(&reader, 10), None);
        for (customer, product) in [("ann", "cup"), ("ann", "mug"), ("bob", "cup"), ("bob", "cup")] {
            writer.apply(&Interaction::new(customer, product, EventKind::View, 0), 0);
        }
        let all = Sparsity::of(&reader, 10).unwrap();
        assert_eq!((all.sparsity, all.sampled), (0.25, 2));
        assert_eq!(Sparsity::of(&reader, 1).unwrap().sampled, 1);
    }
}
