//! Finding customers by how their id begins: for people who look into the model, not for answers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use serde::Serialize;

use crate::reader::Reader;

/// A customer with a history.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct KnownCustomer {
    /// When they last did something, milliseconds since 1970.
    pub last_ms: i64,
    /// The id.
    pub customer: Arc<str>,
    /// Products in the history.
    pub products: usize,
}

impl Reader {
    /// Customers whose id begins with `prefix` (an empty one: all), whoever did something last first, at most
    /// `limit`. Looks at every customer, about a tenth of a second a million: not for a thread that answers
    /// requests.
    pub fn customers_beginning(&self, prefix: &str, limit: usize) -> Vec<KnownCustomer> {
        let mut newest = BinaryHeap::with_capacity(limit + 1);
        for slot in self.shared().customers.pin().values() {
            if !slot.name.starts_with(prefix) {
                continue;
            }
            let history = slot.history.load();
            let Some(last_ms) = history.entries.front().map(|entry| entry.last_ms) else {
                continue;
            };
            let full = newest.len() >= limit;
            let oldest = newest
                .peek()
                .map(|Reverse(known): &Reverse<KnownCustomer>| known.last_ms);
            if full && oldest.is_none_or(|oldest| oldest > last_ms) {
                continue;
            }
            newest.push(Reverse(KnownCustomer {
                last_ms,
                customer: Arc::clone(&slot.name),
                products: history.entries.len(),
            }));
            if full {
                newest.pop();
            }
        }
        let mut found: Vec<KnownCustomer> = newest.into_iter().map(|Reverse(known)| known).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        found
    }
}

#[cfg(test)]
mod tests {
    use crate::{EngineConfig, EventKind, Interaction, engine};

    #[test]
    fn the_last_to_do_something_come_first_and_no_more_than_asked_for() {
        let (mut writer, reader) = engine(EngineConfig::default()).unwrap();
        for (at, customer) in ["ann", "bob", "anna", "annika", "zoe"].iter().enumerate() {
            let time = 1_000 + at as i64;
            writer.apply(&Interaction::new(customer, "cup", EventKind::View, time), time);
        }
        writer.apply(&Interaction::new("ann", "mug", EventKind::View, 5_000), 5_000);
        let ids = |prefix: &str, limit: usize| -> Vec<String> {
            let found = reader.customers_beginning(prefix, limit);
            found.iter().map(|known| known.customer.to_string()).collect()
        };
        assert_eq!(ids("", 2), ["ann", "zoe"]);
        assert_eq!(ids("ann", 10), ["ann", "annika", "anna"]);
        assert_eq!(ids("ann", 1), ["ann"]);
        assert!(ids("x", 10).is_empty() && ids("", 0).is_empty());
        assert_eq!(reader.customers_beginning("ann", 1)[0].products, 2);
        writer.erase("ann");
        assert_eq!(ids("ann", 10), ["annika", "anna"]);
    }
}
