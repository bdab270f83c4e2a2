//! Starting from a log: group by customer, then count, instead of event by event.

mod histories;
mod pairs;

use std::sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed};

use arc_swap::ArcSwap;

use crate::{
    counts::{share, square},
    event::{Applied, EventKind, Interaction},
    history::History,
    name_table::NameTable,
    passing::Passing,
    rows::Row,
    sessions::Sessions,
    shared::{BulkEvent, CustomerSlot, bump},
    writer::{BulkReport, Writer, owner},
};

/// Names or visits that are asked for at once.
const AHEAD: usize = 32;
/// Customers whose events or products are asked for at once, and how many of their events at most: a robot has thousands.
const CUSTOMERS_AHEAD: usize = 8;
const EVENTS_AHEAD: usize = 512;

/// A customer with a whole history.
pub(crate) struct Loaded {
    pub name: Arc<str>,
    /// Activity to stand in line with.
    pub known_ms: i64,
    pub history: History,
}

/// Events of a log on their way into the model, in its order; see [`Writer::gather`].
#[derive(Default)]
pub struct Gathered {
    customers: NameTable,
    admitted: Vec<BulkEvent>,
    report: BulkReport,
}

impl Gathered {
    /// How many of them wait to be learned.
    pub fn len(&self) -> usize {
        self.admitted.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.admitted.is_empty()
    }
}

impl Writer {
    /// Learns many events at once, several times faster than one by one, with the same result while
    /// [`crate::Limits::max_sessions`] does not bind. Only an engine without customers has the fast path (and only if the
    /// limit on customers is not exceeded); otherwise this is [`Writer::apply`] in a loop. Readers see everything when it
    /// returns.
    pub fn bulk<'a>(&mut self, events: impl IntoIterator<Item = Interaction<'a>>, now_ms: i64) -> BulkReport {
        let (mut gathered, mut events) = (Gathered::default(), events.into_iter().fuse());
        let from_nothing = self.shared.counters.customers.load(Relaxed) == 0;
        if from_nothing {
            gathered.admitted.reserve(events.size_hint().0);
        }
        // Names lie all over memory, as visits do below.
        let mut ahead: Vec<(Interaction<'a>, Option<u32>, Option<u32>)> = Vec::with_capacity(AHEAD);
        loop {
            ahead.extend(events.by_ref().take(AHEAD).map(|event| (event, None, None)));
            if ahead.is_empty() {
                break;
            }
            // A number that was found stays; what was not is looked for again, for it may be taken up meanwhile.
            if from_nothing {
                for (event, customer, _) in &mut ahead {
                    *customer = gathered.customers.get(event.customer);
                }
                for (event, _, product) in &mut ahead {
                    *product = self.names.id(event.product);
                }
            }
            for (event, customer, product) in ahead.drain(..) {
                self.gather_known(&mut gathered, &event, customer, product, now_ms);
            }
        }
        self.learn_gathered(gathered, now_ms, 1)
    }

    /// [`Writer::bulk`] for a log that is still being read: takes up one event. It is decided whether it counts at
    /// all; the model changes with [`Writer::learn_gathered`]. (Its names are looked up as it comes, which takes longer than
    /// [`Writer::bulk`] does for many.)
    pub fn gather(&mut self, gathered: &mut Gathered, event: &Interaction<'_>, now_ms: i64) {
        self.gather_known(gathered, event, None, None, now_ms);
    }

    /// The same, with the numbers of customer and product where they were found before.
    fn gather_known(
        &mut self,
        gathered: &mut Gathered,
        event: &Interaction<'_>,
        customer: Option<u32>,
        product: Option<u32>,
        now_ms: i64,
    ) {
        gathered.report.events += 1;
        if self.shared.counters.customers.load(Relaxed) > 0 {
            gathered.report.learned += u64::from(self.apply(event, now_ms) == Applied::Learned);
            return;
        }
        match self.admit(event, product, now_ms) {
            Ok(weighted) => {
                let session = event.session.map_or(0, |_| self.session_key(event).0);
                let known = customer.or_else(|| gathered.customers.get(event.customer));
                let customer = known.unwrap_or_else(|| gathered.customers.push(event.customer));
                gathered.admitted.push(BulkEvent {
                    session,
                    time_ms: weighted.time_ms,
                    customer,
                    product: weighted.product,
                    units: weighted.units,
                    kind: weighted.kind,
                });
            }
            Err(refusal) => self.count(refusal),
        }
    }

    /// Learns what was gathered, on so many threads; the result does not depend on their number. To be called before
    /// anything else is learned. Readers see everything when it returns.
    pub fn learn_gathered(&mut self, gathered: Gathered, now_ms: i64, threads: usize) -> BulkReport {
        let Gathered {
            customers,
            mut admitted,
            mut report,
        } = gathered;
        let names = customers.into_names();
        if !admitted.is_empty() {
            let passing = Passing::new(admitted.len(), self.sessions.is_empty());
            let (histories, learned) = self.histories(&mut admitted, &names, &passing, threads);
            report.learned += learned;
            self.take_up_all(admitted, names, passing, histories, threads);
        }
        self.flush_on(now_ms, threads);
        report
    }

    fn take_up_all(
        &mut self,
        admitted: Vec<BulkEvent>,
        names: Vec<Arc<str>>,
        passing: Passing,
        histories: Vec<Option<History>>,
        threads: usize,
    ) {
        // Visits are followed in the order of the log, as event by event, and need nothing but it: beside the rest,
        // where there is a thread for it.
        let mut sessions = std::mem::replace(&mut self.sessions, Sessions::new(0, 0));
        let (shared, owned) = (Arc::clone(&self.shared), names.clone());
        let follow = move || {
            let owners: Vec<u64> = owned.iter().map(|name| owner(name)).collect();
            let visit = |event: &BulkEvent| {
                let owner = owners[event.customer as usize];
                (if event.session == 0 { owner } else { event.session }, owner)
            };
            let mut followed = admitted
                .iter()
                .enumerate()
                .filter(|(at, event)| {
                    event.units != 0 && event.kind != EventKind::Return && !passing.contains(*at)
                })
                .map(|(_, event)| event);
            // Visits lie all over memory: several are asked for before the first is needed, so that the processor fetches
            // them side by side.
            let mut ahead: Vec<&BulkEvent> = Vec::with_capacity(AHEAD);
            loop {
                ahead.extend(followed.by_ref().take(AHEAD));
                if ahead.is_empty() {
                    break;
                }
                let peeks = ahead.iter().map(|event| sessions.peek(visit(event).0));
                std::hint::black_box(peeks.fold(0, |all, one| all ^ one));
                for event in ahead.drain(..) {
                    let (key, owner) = visit(event);
                    sessions.touch(&shared, key, owner, event.product, event.time_ms);
                }
            }
            sessions
        };
        self.sessions = std::thread::scope(|scope| {
            let following = if threads > 1 {
                Err(scope.spawn(follow))
            } else {
                Ok(follow())
            };
            let made = names.into_iter().zip(histories);
            let mut customers: Vec<Loaded> = made
                .filter_map(|(name, history)| {
                    let history = history?;
                    let known_ms = history.newest_ms;
                    Some(Loaded {
                        name,
                        known_ms,
                        history,
                    })
                })
                .collect();
            // The idlest go first when there are too many, and the rest stand in line in that order.
            customers.sort_by(|a, b| a.known_ms.cmp(&b.known_ms).then_with(|| a.name.cmp(&b.name)));
            let excess = customers.len().saturating_sub(self.config.limits.max_customers);
            bump(&self.shared.counters.evicted_customers, excess as u64);
            customers.drain(..excess);
            self.take_up(customers, None, threads);
            match following {
                Ok(sessions) => sessions,
                Err(thread) => joined(thread.join()),
            }
        });
    }

    /// Takes up whole histories of customers that are not known yet, those first that are to be forgotten
    /// first. Counts between products are summed up unless they are given.
    pub(crate) fn take_up(&mut self, customers: Vec<Loaded>, pairs: Option<Vec<Row>>, threads: usize) {
        let counts_pairs = self.counts.counts_pairs();
        match pairs {
            None if !counts_pairs => {}
            None => self.count_pairs(&customers, threads),
            Some(mut rows) => {
                rows.resize_with(self.names.len(), Row::default);
                self.counts.pairs = rows.iter().map(|row| row.len() as i64).sum();
                (self.counts.rows, self.counts.cut) = (rows, true);
            }
        }
        let window = self.config.limits.pair_history;
        for (at, Loaded { history, .. }) in customers.iter().enumerate() {
            if at.is_multiple_of(CUSTOMERS_AHEAD) {
                let ahead = customers[at..].iter().take(CUSTOMERS_AHEAD);
                let entries = ahead.flat_map(|loaded| &loaded.history.entries);
                entries
                    .take(EVENTS_AHEAD)
                    .for_each(|entry| self.counts.peek(entry.product));
            }
            for entry in &history.entries {
                self.counts.shift_popularity(None, Some(entry));
            }
            if !counts_pairs {
                continue;
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
}

/// Has a list worked on in parts, by so many threads of which each takes the next part when it is done with one.
/// `work` is told where its part begins. Answers what each thread has gathered.
pub(crate) fn in_parts<T: Send, S: Send>(
    list: &mut [T],
    size: usize,
    threads: usize,
    new: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize, &mut [T]) + Sync,
) -> Vec<S> {
    let parts = Mutex::new(list.chunks_mut(size).enumerate());
    let run = || {
        let mut state = new();
        loop {
            // Locked for the taking alone.
            let next = parts.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((at, part)) = next else { return state };
            work(&mut state, at * size, part);
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mut states = vec![run()];
        states.extend(others.into_iter().map(|thread| joined(thread.join())));
        states
    })
}

/// A thread's result; its panic is ours.
pub(crate) fn joined<T>(result: std::thread::Result<T>) -> T {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
