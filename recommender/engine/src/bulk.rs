//! Starting from a log: group by customer, then count, instead of event by event.

use std::sync::Arc;

use ahash::AHashMap;
use arc_swap::ArcSwap;

use crate::{
    counts::{share, square},
    event::{Applied, EventKind, Interaction},
    history::{Entry, History, Recorded},
    rows::Row,
    shared::{BulkEvent, CustomerSlot, bump},
    writer::{BulkReport, Writer},
};

/// A customer with a whole history.
pub(crate) struct Loaded {
    pub name: Arc<str>,
    /// Activity to stand in line with.
    pub known_ms: i64,
    pub history: History,
}

impl Writer {
    /// Learns many events at once, several times faster than one by one, with the same result. Only an
    /// engine without customers has the fast path (and only if the limit on customers is not exceeded);
    /// otherwise this is [`Writer::apply`] in a loop. Readers see everything when it returns.
    pub fn bulk<'a>(&mut self, events: impl IntoIterator<Item = Interaction<'a>>, now_ms: i64) -> BulkReport {
        let mut report = BulkReport::default();
        if !self.shared.customers.is_empty() {
            for event in events {
                report.events += 1;
                report.learned += u64::from(self.apply(&event, now_ms) == Applied::Learned);
            }
            self.flush(now_ms);
            return report;
        }
        let mut ids: AHashMap<Arc<str>, u32> = AHashMap::new();
        let mut names: Vec<Arc<str>> = Vec::new();
        let mut admitted: Vec<BulkEvent> = Vec::new();
        for event in events {
            report.events += 1;
            match self.admit(&event, now_ms) {
                Ok(weighted) => {
                    let customer = match ids.get(event.customer) {
                        Some(id) => *id,
                        None => {
                            let (id, name) = (names.len() as u32, Arc::<str>::from(event.customer));
                            names.push(Arc::clone(&name));
                            ids.insert(name, id);
                            id
                        }
                    };
                    let session = event.session.map_or(0, |_| self.session_key(&event).0);
                    admitted.push(BulkEvent {
                        customer,
                        session,
                        event: weighted,
                    });
                }
                Err(refusal) => self.count(refusal),
            }
        }
        drop(ids);
        let rules = self.history_rules();
        let mut customers: Vec<Loaded> = Vec::with_capacity(names.len());
        let (starts, order) = by_customer(&admitted, names.len());
        for (customer, name) in names.iter().enumerate() {
            let mut history = History::default();
            let mut excluded = false;
            for &at in &order[starts[customer] as usize..starts[customer + 1] as usize] {
                let event = &mut admitted[at as usize].event;
                if excluded {
                    event.units = 0;
                    self.count(Applied::Excluded);
                    continue;
                }
                let outcome = match history.record(event, &rules, &self.names) {
                    Recorded::Changed(_) => Applied::Learned,
                    Recorded::Damped => Applied::Damped,
                    Recorded::TooOld => Applied::TooOld,
                };
                excluded = outcome == Applied::Damped && self.damp(name);
                if outcome == Applied::Learned {
                    report.learned += 1;
                } else {
                    event.units = 0;
                }
                self.count(outcome);
            }
            if excluded {
                for &at in &order[starts[customer] as usize..starts[customer + 1] as usize] {
                    admitted[at as usize].event.units = 0;
                }
                continue;
            }
            history.entries.shrink_to_fit();
            customers.push(Loaded {
                name: Arc::clone(name),
                known_ms: history.newest_ms,
                history,
            });
        }
        drop((starts, order));
        // Visits are followed in the order of the log, as event by event.
        let owners: Vec<u64> = names.iter().map(|name| self.owner(name)).collect();
        let learned = admitted.iter().filter(|event| event.event.units != 0);
        for BulkEvent {
            customer,
            session,
            event,
        } in learned.filter(|event| event.event.kind != EventKind::Return)
        {
            let owner = owners[*customer as usize];
            let key = if *session == 0 { owner } else { *session };
            self.sessions
                .touch(&self.shared, key, owner, event.product, event.time_ms);
        }
        drop((admitted, owners, names));
        // The idlest go first when there are too many, and the rest stand in line in that order.
        customers.sort_by(|a, b| a.known_ms.cmp(&b.known_ms).then_with(|| a.name.cmp(&b.name)));
        let excess = customers.len().saturating_sub(self.config.limits.max_customers);
        bump(&self.shared.counters.evicted_customers, excess as u64);
        customers.drain(..excess);
        self.take_up(customers, None);
        self.flush(now_ms);
        report
    }

    /// Takes up whole histories of customers that are not known yet, those first that are to be forgotten
    /// first. Counts between products are summed up unless they are given.
    pub(crate) fn take_up(&mut self, customers: Vec<Loaded>, pairs: Option<Vec<Row>>) {
        match pairs {
            None => self.count_pairs(&customers),
            Some(mut rows) => {
                rows.resize_with(self.names.len(), Row::default);
                self.counts.pairs = rows.iter().map(|row| row.len() as i64).sum();
                (self.counts.rows, self.counts.cut) = (rows, true);
            }
        }
        let window = self.config.limits.pair_history;
        for Loaded { history, .. } in &customers {
            for entry in &history.entries {
                self.counts.shift_popularity(None, Some(entry));
            }
            for entry in history.counted(window) {
                let share = share(history.degree, self.config.damping);
                self.counts.norms[entry.product as usize] += square(entry.interest) * share;
                self.counts.degrees[entry.product as usize] += i64::from(entry.interest);
            }
        }
        for product in 0..self.names.len() as u32 {
            self.counts.rescale(product);
        }
        for Loaded {
            name,
            known_ms,
            history,
        } in customers
        {
            let slot = Arc::new(CustomerSlot {
                name: Arc::clone(&name),
                history: ArcSwap::from_pointee(history),
            });
            self.remember_activity(known_ms, &slot);
            self.known.insert(&name);
            self.shared.customers.pin().insert(name, slot);
            bump(&self.shared.counters.customers, 1);
        }
    }

    /// Row by row: every row is summed up densely, touching each pair once per customer and row.
    fn count_pairs(&mut self, customers: &[Loaded]) {
        let products = self.names.len();
        let mut starts = vec![0usize; products + 1];
        let window = self.config.limits.pair_history;
        let interesting = |entry: &&Entry| entry.interest > 0;
        for Loaded { history, .. } in customers {
            for entry in history.counted(window).filter(interesting) {
                starts[entry.product as usize + 1] += 1;
            }
        }
        for at in 0..products {
            starts[at + 1] += starts[at];
        }
        let mut fill = starts.clone();
        let mut postings = vec![(0u32, 0u16); starts[products]];
        for (customer, Loaded { history, .. }) in customers.iter().enumerate() {
            for entry in history.counted(window).filter(interesting) {
                let at = &mut fill[entry.product as usize];
                postings[*at] = (customer as u32, entry.interest);
                *at += 1;
            }
        }
        let mut sums = vec![0i64; products];
        let mut touched: Vec<u32> = Vec::new();
        let mut counts: Vec<(u32, i64)> = Vec::new();
        for product in 0..products {
            for &(customer, interest) in &postings[starts[product]..starts[product + 1]] {
                let history = &customers[customer as usize].history;
                let interest = i64::from(interest) * share(history.degree, self.config.damping);
                history.counted(window).filter(interesting).for_each(|other| {
                    let sum = &mut sums[other.product as usize];
                    if *sum == 0 {
                        touched.push(other.product);
                    }
                    *sum += interest * i64::from(other.interest);
                });
            }
            counts.clear();
            for other in touched.drain(..) {
                let sum = std::mem::take(&mut sums[other as usize]);
                if other as usize != product {
                    counts.push((other, sum));
                }
            }
            let mut row = Row::from_counts(&counts, products);
            self.counts.cut |= row.prune(self.config.limits.row_capacity, products) > 0;
            self.counts.pairs += row.len() as i64;
            self.counts.rows[product] = row;
        }
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
