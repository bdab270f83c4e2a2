//! Data quality: customers who act faster than people do, and catalogue entries that are not products.

use std::sync::atomic::Ordering::Relaxed;

use ahash::{AHashMap, AHashSet};

use crate::{
    event::ProductMeta,
    writer::{Writer, owner},
};

/// Watches customers whose events come faster than `max_events_per_minute`. Those events are not learned
/// ("damped"); who goes on like that is excluded, and what they did before is taken back. A function of the log:
/// a replica that reads it again excludes the same customers.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Damped events after which a customer is excluded; 0 means never.
    after: u32,
    /// Damped events by customer, as hashes. Only customers with at least one.
    damped: AHashMap<u64, u32>,
    excluded: AHashSet<u64>,
}

/// What is remembered of one customer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    pub customer: u64,
    pub damped: u32,
    pub excluded: bool,
}

impl Watch {
    /// For a snapshot.
    pub fn export(&self) -> Vec<Watched> {
        let one = |(customer, damped): (&u64, &u32)| Watched {
            customer: *customer,
            damped: *damped,
            excluded: self.excluded.contains(customer),
        };
        self.damped.iter().map(one).collect()
    }

    /// The reverse of [`Watch::export`].
    pub fn import(&mut self, watched: Watched) {
        self.damped.insert(watched.customer, watched.damped);
        if watched.excluded {
            self.excluded.insert(watched.customer);
        }
    }

    pub fn new(after: u32) -> Self {
        Watch {
            after,
            ..Watch::default()
        }
    }

    pub fn is_excluded(&self, customer: u64) -> bool {
        !self.excluded.is_empty() && self.excluded.contains(&customer)
    }

    /// Counts a damped event; answers whether the customer is excluded by it.
    pub fn damp(&mut self, customer: u64) -> bool {
        let damped = self.damped.entry(customer).or_default();
        *damped = damped.saturating_add(1);
        self.after > 0 && *damped >= self.after && self.excluded.insert(customer)
    }

    /// Customers with at least one damped event, the excluded ones among them.
    pub fn damped(&self) -> usize {
        self.damped.len()
    }

    pub fn excluded(&self) -> usize {
        self.excluded.len()
    }

    /// An erased customer who comes back starts anew.
    pub fn forget(&mut self, customer: u64) {
        self.damped.remove(&customer);
        self.excluded.remove(&customer);
    }
}

/// Whether the catalogue itself says that an entry is not a product (postage, fees, samples): its category or
/// one of its tags is one of these labels, compared without regard to case.
pub(crate) fn is_labelled(labels: &[String], meta: &ProductMeta) -> bool {
    let mut own = meta.category.iter().chain(&meta.tags);
    own.any(|label| labels.iter().any(|other| label.eq_ignore_ascii_case(other)))
}

impl Writer {
    /// Counts a damped event of a customer; answers whether they are to be excluded now.
    pub(crate) fn damp(&mut self, customer: &str) -> bool {
        let excluded = self.watch.damp(owner(customer));
        self.show_watch();
        excluded
    }

    /// Takes back what an excluded customer did.
    pub(crate) fn exclude(&mut self, customer: &str) {
        let owner = owner(customer);
        self.sessions.erase(&self.shared, owner);
        self.remove_customer(customer);
    }

    pub(crate) fn show_watch(&self) {
        let counters = &self.shared.counters;
        counters
            .damped_customers
            .store(self.watch.damped() as u64, Relaxed);
        counters
            .excluded_customers
            .store(self.watch.excluded() as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_is_excluded_once_by_the_last_of_so_many_damped_events() {
        let mut watch = Watch::new(3);
        assert_eq!([(); 4].map(|()| watch.damp(7)), [false, false, true, false]);
        assert_eq!((watch.is_excluded(7), watch.is_excluded(8)), (true, false));
        watch.forget(7);
        assert_eq!((watch.is_excluded(7), watch.damped()), (false, 0));
    }
}
