//! Figures about lists that were shown: how surprising their products are, and how unlike each other.

use std::sync::atomic::Ordering::Relaxed;

use crate::{lists::Word, reader::Reader};

impl Reader {
    /// Recent popularity of all products together: what [`Reader::surprise`] takes shares of. Looks at every product,
    /// some milliseconds a million.
    pub fn total_popularity(&self) -> f64 {
        let products = self.shared().products.iter();
        products
            .map(|(_, slot)| f64::from(f32::from_bits(slot.popularity.load(Relaxed))))
            .sum()
    }

    /// How surprising a product is, in bits: -log2 of its share of the recent popularity of all (Vargas and Castells,
    /// "Rank and relevance in novelty and diversity metrics for recommender systems", RecSys 2011, section 4.1).
    /// `None` for an unknown product, one that nobody turned to lately, and a `total` of nothing.
    pub fn surprise(&self, product: &str, total: f64) -> Option<f64> {
        let id = self.shared().product_id(product)?;
        let popularity = f64::from(f32::from_bits(self.shared().product(id).popularity.load(Relaxed)));
        // The total may be a little older than the product's own figure.
        (popularity > 0.0 && total > 0.0).then(|| -(popularity / total).min(1.0).log2())
    }

    /// How unlike each other the products of a list are, 0..=1: one less the mean similarity of two of them, where the
    /// similarity of products that are no neighbours counts as none. `None` for a list without pairs, and where it is not
    /// counted what customers have in common: nothing is known of it.
    pub fn variety(&self, list: &[&str]) -> Option<f64> {
        let shared = self.shared();
        let ids: Vec<u32> = list.iter().filter_map(|name| shared.product_id(name)).collect();
        let pairs = ids.len() * ids.len().saturating_sub(1) / 2;
        if pairs == 0 || !shared.counts_pairs {
            return None;
        }
        let mut alike = 0.0;
        for (at, id) in ids.iter().enumerate() {
            for neighbor in shared.product(*id).neighbors.read().iter().map(Word::get) {
                if ids
                    .iter()
                    .enumerate()
                    .any(|(other, id)| other != at && *id == neighbor.product)
                {
                    // Met once from each side where both lists hold the other.
                    alike += f64::from(neighbor.similarity.clamp(0.0, 1.0)) / 2.0;
                }
            }
        }
        Some(1.0 - (alike / pairs as f64).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use crate::{EngineConfig, EventKind, Interaction, engine};

    #[test]
    fn the_rarer_product_surprises_more_and_products_of_the_same_customers_vary_less() {
        let (mut writer, reader) = engine(EngineConfig::default()).unwrap();
        let now = 1_000_000_000;
        for customer in 0..40 {
            let name = customer.to_string();
            // Everybody has cup and mug; one in four has a hat instead of a saucer.
            let other = if customer % 4 == 0 { "hat" } else { "saucer" };
            for product in ["cup", "mug", other] {
                writer.apply(&Interaction::new(&name, product, EventKind::Purchase, now), now);
            }
        }
        writer.flush(now);
        let total = reader.total_popularity();
        let surprise = |product| reader.surprise(product, total).unwrap();
        assert!(surprise("hat") > surprise("saucer") && surprise("saucer") > surprise("cup"));
        // A third of what was bought are cups.
        assert!(
            (surprise("cup") - 3f64.log2()).abs() < 0.05,
            "{}",
            surprise("cup")
        );
        assert_eq!(reader.surprise("unheard of", total), None);
        assert_eq!(reader.surprise("cup", 0.0), None);
        let variety = |list: &[&str]| reader.variety(list).unwrap();
        assert!(
            (variety(&["hat", "saucer"]) - 1.0).abs() < 1e-9,
            "nobody has both"
        );
        assert!(variety(&["cup", "mug"]) < variety(&["cup", "hat"]));
        assert_eq!(reader.variety(&["cup"]), None);
    }
}
