//! What is bought together: of each product the customers who bought it last are known, and what else they bought
//! within a day of it is counted when somebody asks. Nothing is counted ahead, so that an erased customer or a returned
//! purchase is gone from the answer with the history that it came from.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use recommender_engine::{Reader, Reason, Scored};

/// Buyers remembered of each product, newest last.
const BUYERS: usize = 200;
/// Purchases of one customer this close together are of one occasion.
const DAY_MS: i64 = 24 * 3_600_000;
/// One other customer is no evidence.
const FEWEST: u32 = 2;

/// A customer, with the hash of the id before it: whoever looks for one among a million reads no other's id.
#[derive(Clone)]
struct Buyer {
    owner: u64,
    name: Arc<str>,
}

impl From<Arc<str>> for Buyer {
    fn from(name: Arc<str>) -> Self {
        let owner = recommender_engine::owner(&name);
        Self { owner, name }
    }
}

/// Last buyers by product.
#[derive(Default)]
pub struct Baskets {
    buyers: RwLock<HashMap<Box<str>, VecDeque<Buyer>>>,
}

impl Baskets {
    /// A customer bought a product.
    pub fn bought(&self, customer: &str, product: &str) {
        let mut buyers = self.buyers.write().unwrap_or_else(PoisonError::into_inner);
        let known = buyers.entry(product.into()).or_default();
        if known.back().is_some_and(|last| *last.name == *customer) {
            return;
        }
        known.push_back(Arc::<str>::from(customer).into());
        if known.len() > BUYERS {
            known.pop_front();
        }
    }

    /// Customers are remembered as buyers of nothing any more: those with one of these hashes of whom `whose` says so.
    pub fn forget(&self, owners: &[u64], whose: impl Fn(&str) -> bool) {
        let owners: HashSet<u64, ahash::RandomState> = owners.iter().copied().collect();
        let is_theirs = |buyer: &Buyer| owners.contains(&buyer.owner) && whose(&buyer.name);
        let mut buyers = self.buyers.write().unwrap_or_else(PoisonError::into_inner);
        buyers.retain(|_, known| {
            // Most products were bought by nobody of them: nothing is moved.
            if known.iter().any(is_theirs) {
                known.retain(|buyer| !is_theirs(buyer));
            }
            !known.is_empty()
        });
    }

    /// What one customer bought was bought by another.
    pub fn rename(&self, from: &str, into: &str) {
        let (owner, into) = (
            recommender_engine::owner(from),
            Buyer::from(Arc::<str>::from(into)),
        );
        let mut buyers = self.buyers.write().unwrap_or_else(PoisonError::into_inner);
        let known = buyers.values_mut().flatten();
        for buyer in known.filter(|buyer| buyer.owner == owner && *buyer.name == *from) {
            *buyer = into.clone();
        }
    }

    /// Takes up who bought what from the histories of a model that was built without telling each purchase.
    pub fn fill(&self, reader: &Reader) {
        let mut found: HashMap<Box<str>, Vec<(i64, Arc<str>)>> = HashMap::new();
        reader.each_customer(|customer, history| {
            for item in history.iter().filter(|item| item.purchases > 0) {
                let known = found.entry((*item.product).into()).or_default();
                known.push((item.last_ms, Arc::clone(customer)));
                if known.len() >= 4 * BUYERS {
                    newest(known);
                }
            }
        });
        let mut buyers = self.buyers.write().unwrap_or_else(PoisonError::into_inner);
        for (product, mut known) in found {
            newest(&mut known);
            let before = known.into_iter().map(|(_, customer)| Buyer::from(customer));
            let since = buyers.remove(&product).unwrap_or_default();
            // Somebody may have been erased since they were found.
            let known = |buyer: &Buyer| reader.knows(&buyer.name);
            let mut all: VecDeque<Buyer> = before.chain(since).filter(known).collect();
            all.drain(..all.len().saturating_sub(BUYERS));
            buyers.insert(product, all);
        }
    }

    /// What customers bought within a day of `product`, by the share of the product's last buyers who did.
    pub fn together(
        &self,
        reader: &Reader,
        product: &str,
        limit: usize,
        excluded: &HashSet<String>,
    ) -> Vec<Scored> {
        let buyers: HashSet<Arc<str>> = {
            let known = self.buyers.read().unwrap_or_else(PoisonError::into_inner);
            let known = known.get(product).into_iter().flatten();
            known.map(|buyer| Arc::clone(&buyer.name)).collect()
        };
        let mut counted: HashMap<Arc<str>, u32> = HashMap::new();
        let mut asked: u32 = 0;
        for customer in &buyers {
            let history = reader.customer_history(customer).unwrap_or_default();
            let bought = history.iter().filter(|item| item.purchases > 0);
            let Some(this) = bought.clone().find(|item| *item.product == *product) else {
                continue;
            };
            asked += 1;
            for item in bought {
                let same_day = (item.last_ms - this.last_ms).abs() <= DAY_MS;
                if same_day && *item.product != *product && !excluded.contains(&*item.product) {
                    *counted.entry(Arc::clone(&item.product)).or_default() += 1;
                }
            }
        }
        let mut ranked: Vec<(Arc<str>, u32)> = counted.into_iter().filter(|(_, n)| *n >= FEWEST).collect();
        ranked.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let asked_about: Arc<str> = product.into();
        ranked
            .into_iter()
            .filter_map(|(other, count)| {
                let meta = reader.product(&other);
                if meta.as_ref().is_some_and(|meta| !meta.available) {
                    return None;
                }
                Some(Scored {
                    title: meta.and_then(|meta| meta.title).map(Arc::from),
                    product: other,
                    score: count as f32 / asked as f32,
                    reason: Reason::SimilarTo {
                        product: Arc::clone(&asked_about),
                    },
                    explored: false,
                    probability: 1.0,
                })
            })
            .take(limit)
            .collect()
    }
}

/// Keeps the newest buyers, oldest first; of one time in the order of their ids, so that replicas agree.
fn newest(known: &mut Vec<(i64, Arc<str>)>) {
    known.sort_unstable();
    known.drain(..known.len().saturating_sub(BUYERS));
}

#[cfg(test)]
mod tests {
    use recommender_engine::{EngineConfig, EventKind, Interaction, Writer, engine};

    use super::*;

    fn buy(writer: &mut Writer, customer: &str, product: &str, kind: EventKind, time_ms: i64) {
        writer.apply(&Interaction::new(customer, product, kind, time_ms), time_ms);
    }

    fn ids(found: &[Scored]) -> Vec<&str> {
        found.iter().map(|item| &*item.product).collect()
    }

    #[test]
    fn what_was_bought_on_another_day_or_only_looked_at_is_not_bought_together() {
        let (mut writer, reader) = engine(EngineConfig::default()).unwrap();
        let (now, week) = (1_000 * DAY_MS, 7 * DAY_MS);
        for customer in ["a", "b", "c"] {
            buy(&mut writer, customer, "cup", EventKind::Purchase, now);
            buy(&mut writer, customer, "saucer", EventKind::Purchase, now + 1);
            buy(&mut writer, customer, "mug", EventKind::View, now + 2);
            buy(&mut writer, customer, "hat", EventKind::Purchase, now - week);
        }
        buy(&mut writer, "a", "spoon", EventKind::Purchase, now);
        writer.flush(now);
        let baskets = Baskets::default();
        baskets.fill(&reader);
        let none = HashSet::new();
        let found = baskets.together(&reader, "cup", 10, &none);
        assert_eq!(ids(&found), ["saucer"], "one buyer of a spoon is no evidence");
        assert!((found[0].score - 1.0).abs() < f32::EPSILON);
        assert!(
            baskets
                .together(&reader, "cup", 10, &HashSet::from(["saucer".to_owned()]))
                .is_empty()
        );
        // Returned, and erased: gone.
        buy(&mut writer, "a", "saucer", EventKind::Return, now + 3);
        assert_eq!(ids(&baskets.together(&reader, "cup", 10, &none)), ["saucer"]);
        writer.erase("b");
        assert!(baskets.together(&reader, "cup", 10, &none).is_empty());
        baskets.rename("a", "d");
        baskets.forget(&["b", "d", "c"].map(recommender_engine::owner), |name| {
            name != "c"
        });
        let buyers = baskets.buyers.read().unwrap();
        assert!(buyers.values().flatten().all(|buyer| &*buyer.name == "c"));
    }

    #[test]
    fn live_purchases_are_taken_up_and_memory_is_bounded() {
        let (mut writer, reader) = engine(EngineConfig::default()).unwrap();
        let now = 1_000 * DAY_MS;
        let baskets = Baskets::default();
        for i in 0..2 * BUYERS {
            let customer = i.to_string();
            for product in ["cup", "saucer"] {
                buy(&mut writer, &customer, product, EventKind::Purchase, now);
                baskets.bought(&customer, product);
            }
        }
        writer.flush(now);
        assert_eq!(
            ids(&baskets.together(&reader, "saucer", 5, &HashSet::new())),
            ["cup"]
        );
        baskets.fill(&reader);
        let buyers = baskets.buyers.read().unwrap();
        assert!(buyers.values().all(|known| known.len() <= BUYERS));
    }
}
