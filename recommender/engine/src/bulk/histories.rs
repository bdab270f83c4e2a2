//! From events to histories, of all customers at once.

use std::sync::Arc;

use super::{CUSTOMERS_AHEAD, EVENTS_AHEAD, in_parts};
use crate::{
    event::Applied,
    history::{History, Recorded},
    passing::Passing,
    shared::BulkEvent,
    writer::Writer,
};

/// Customers whose histories a thread makes before it takes others.
const CUSTOMERS_AT_ONCE: usize = 4_096;

/// What a thread met while it made histories.
#[derive(Default)]
struct Met {
    /// Events, by their place in the log, that a history did not take up.
    too_old: Vec<u32>,
    /// Customers with events that came too fast: what becomes of them is decided one after the other.
    too_fast: Vec<u32>,
}

impl Writer {
    /// The histories that events make, none for customers who were excluded, and how many events were learned. Those
    /// that were not have no weight afterwards.
    pub(super) fn histories(
        &mut self,
        admitted: &mut [BulkEvent],
        names: &[Arc<str>],
        passing: &Passing,
        threads: usize,
    ) -> (Vec<Option<History>>, u64) {
        let rules = self.history_rules();
        let (starts, order) = by_customer(admitted, names.len());
        let of = |customer: usize| &order[starts[customer] as usize..starts[customer + 1] as usize];
        let mut histories: Vec<Option<History>> = Vec::new();
        histories.resize_with(names.len(), || None);
        let (events, products) = (&*admitted, &self.names);
        let make = |met: &mut Met, first: usize, histories: &mut [Option<History>]| {
            'customers: for (customer, made) in (first..).zip(histories) {
                if (customer - first).is_multiple_of(CUSTOMERS_AHEAD) {
                    // Their events lie all over memory: all are asked for before the first is needed.
                    let end = (customer + CUSTOMERS_AHEAD).min(names.len());
                    let theirs = &order[starts[customer] as usize..starts[end] as usize];
                    let peeks = theirs.iter().take(EVENTS_AHEAD);
                    std::hint::black_box(peeks.fold(0, |all, at| all ^ events[*at as usize].product));
                }
                let mut history = History::with_capacity(of(customer).len().min(rules.capacity));
                let before = met.too_old.len();
                for &at in of(customer) {
                    match history.record(&events[at as usize].weighted(), &rules, products) {
                        Recorded::Changed(_) => {}
                        Recorded::TooOld => met.too_old.push(at),
                        Recorded::Damped => {
                            met.too_old.truncate(before);
                            met.too_fast.push(customer as u32);
                            continue 'customers;
                        }
                    }
                }
                if met.too_old.len() == before {
                    passing.mark(events, of(customer));
                }
                history.entries.shrink_to_fit();
                *made = Some(history);
            }
        };
        let met = in_parts(&mut histories, CUSTOMERS_AT_ONCE, threads, Met::default, make);
        let mut learned = admitted.len() as u64;
        for Met { too_old, too_fast } in met {
            for at in too_old {
                admitted[at as usize].units = 0;
                self.count(Applied::TooOld);
                learned -= 1;
            }
            for customer in too_fast {
                let customer = customer as usize;
                let (history, counted) = self.watched(admitted, of(customer), &names[customer]);
                histories[customer] = history;
                learned -= of(customer).len() as u64 - counted;
            }
        }
        self.count_learned(learned);
        (histories, learned)
    }

    /// The history of a customer some of whose events came too fast; `None` for one who is excluded for that. And how
    /// many events it holds or held.
    fn watched(&mut self, admitted: &mut [BulkEvent], events: &[u32], name: &str) -> (Option<History>, u64) {
        let rules = self.history_rules();
        let mut history = History::default();
        let (mut excluded, mut learned) = (false, 0);
        for &at in events {
            let event = &mut admitted[at as usize];
            if excluded {
                event.units = 0;
                self.count(Applied::Excluded);
                continue;
            }
            let outcome = match history.record(&event.weighted(), &rules, &self.names) {
                Recorded::Changed(_) => Applied::Learned,
                Recorded::Damped => Applied::Damped,
                Recorded::TooOld => Applied::TooOld,
            };
            if outcome == Applied::Learned {
                learned += 1;
                continue;
            }
            excluded = outcome == Applied::Damped && self.damp(name);
            event.units = 0;
            self.count(outcome);
        }
        if excluded {
            for &at in events {
                admitted[at as usize].units = 0;
            }
            return (None, learned);
        }
        history.entries.shrink_to_fit();
        (Some(history), learned)
    }
}

/// Where each customer's events begin (and the last one's end) in an order that keeps theirs.
fn by_customer(events: &[BulkEvent], customers: usize) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0u32; customers + 1];
    for event in events {
        starts[event.customer as usize + 1] += 1;
    }
    for at in 0..customers {
        starts[at + 1] += starts[at];
    }
    let mut fill = starts.clone();
    let mut order = vec![0u32; events.len()];
    for (at, event) in events.iter().enumerate() {
        let to = &mut fill[event.customer as usize];
        order[*to as usize] = at as u32;
        *to += 1;
    }
    (starts, order)
}
