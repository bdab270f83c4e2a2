//! Histories that are kept elsewhere and brought back: for an event of a customer who was let go of, and for an answer.
//!
//! What is kept is the events that were learned, in their order. Folding them again gives the history that was let go
//! of, whoever does it; what was counted of them has stayed (see [`EngineConfig::recalls`](crate::EngineConfig)).

use std::sync::Arc;

use ahash::AHashSet;
use arc_swap::ArcSwap;

use crate::{
    event::{EventKind, Interaction},
    history::{History, HistoryRules, Names, Rate, Weighted},
    reader::Reader,
    shared::CustomerSlot,
    writer::{Writer, owner},
};

/// Histories that readers bring back at most before all of these are let go of.
const MOST_RECALLED: usize = 10_000;

/// An event that was learned, as it is to be kept elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastEvent<'a> {
    /// The product.
    pub product: &'a str,
    /// What was done with it.
    pub kind: EventKind,
    /// What it weighed when it was learned, in fixed point.
    pub units: i32,
    /// When, milliseconds since 1970.
    pub time_ms: i64,
}

fn folded<'a>(
    events: impl IntoIterator<Item = PastEvent<'a>>,
    rules: &HistoryRules,
    names: &impl Names,
    id: impl Fn(&str) -> Option<u32>,
) -> History {
    let mut history = History::default();
    for event in events {
        // Whoever has learned the event knows the product.
        let Some(product) = id(event.product) else {
            continue;
        };
        let weighted = Weighted {
            product,
            kind: event.kind,
            units: event.units,
            time_ms: event.time_ms,
        };
        // What was not taken up then is not now.
        history.record(&weighted, rules, names);
    }
    history.entries.shrink_to_fit();
    history
}

impl Writer {
    /// How fast a customer's events came last, as far as is known here: of who was let go of, nothing is.
    pub fn rate(&self, customer: &str) -> Rate {
        let slot = self.shared.customer(customer);
        slot.map_or_else(Rate::default, |slot| slot.history.load().rate)
    }

    /// What is to be kept of an event that [`Writer::apply`] may learn; `None` if it will not be looked at, or is one too
    /// many of its minute. What a robot does would push out what it did before, which may have to be taken back.
    ///
    /// `rate` is of the event's customer before it, and then with it. One that is behind (of a customer who is not at hand,
    /// it begins with nothing) keeps a few that are not learned; ahead it must never be, or what is learned is not kept.
    pub fn past<'a>(
        &mut self,
        event: &Interaction<'a>,
        rate: &mut Rate,
        now_ms: i64,
    ) -> Option<PastEvent<'a>> {
        let unnamed = Interaction {
            event_id: None,
            ..*event
        };
        let weighted = self.admit(&unnamed, None, now_ms).ok()?;
        let is_damped = rate.exceeds(weighted.time_ms, self.history_rules().max_per_minute);
        (!is_damped).then_some(PastEvent {
            product: event.product,
            kind: event.kind,
            units: weighted.units,
            time_ms: weighted.time_ms,
        })
    }

    /// Lets go of everything that readers brought back: somebody among them may have been forgotten.
    pub fn drop_recalled(&self) {
        self.shared.recalled.pin().clear();
    }

    /// Shows nothing of the customer with this [`owner`] any more, who is about to be forgotten; until
    /// [`Writer::show_hidden`].
    pub fn hide(&self, owner: u64) {
        let hidden = &self.shared.hidden;
        if !hidden.load().contains(&owner) {
            let mut all = AHashSet::clone(&hidden.load());
            all.insert(owner);
            hidden.store(Arc::new(all));
        }
    }

    /// Those who were hidden have been forgotten.
    pub fn show_hidden(&self) {
        if !self.shared.hidden.load().is_empty() {
            self.shared.hidden.store(Arc::default());
        }
    }

    /// Whether the customer with this [`owner`] was too fast, and what was counted of them taken back.
    pub fn excludes(&self, owner: u64) -> bool {
        self.watch.is_excluded(owner)
    }

    /// Takes a customer up again who was let go of; `events` are all that was learned of them, in that order. Nothing
    /// is counted: it was when they were learned. Without effect on a customer who is there.
    pub fn recall<'a>(&mut self, customer: &str, events: impl IntoIterator<Item = PastEvent<'a>>) {
        if self.shared.customer(customer).is_some() || self.watch.is_excluded(owner(customer)) {
            return;
        }
        let history = folded(events, &self.shared.rules, &self.names, |name| {
            self.names.id(name)
        });
        if history.entries.is_empty() {
            return;
        }
        let slot = self.customer(customer, history.newest_ms);
        slot.history.store(Arc::new(history));
    }
}

impl Reader {
    /// Brings a customer's history back for answers, from all that was learned of them in that order. It is let go of
    /// with the customer's next event, or when too many are held.
    pub fn recall<'a>(&self, customer: &str, events: impl IntoIterator<Item = PastEvent<'a>>) {
        let shared = self.shared();
        let history = folded(events, &shared.rules, shared, |name| shared.product_id(name));
        if history.entries.is_empty() {
            return;
        }
        let recalled = shared.recalled.pin();
        if recalled.len() >= MOST_RECALLED {
            recalled.clear();
        }
        let name: Arc<str> = customer.into();
        let slot = CustomerSlot {
            name: Arc::clone(&name),
            history: ArcSwap::from_pointee(history),
        };
        recalled.insert(name, Arc::new(slot));
    }

    /// Whether a history is at hand for an answer.
    pub fn has_history(&self, customer: &str) -> bool {
        self.shared().asked(customer).is_some()
    }
}
