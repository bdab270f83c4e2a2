//! Customers who leave the model: the idlest where room is wanted, those who are erased, and visitors who turn out to be
//! somebody who is known.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::{
    history::{History, Recorded},
    shared::{CustomerSlot, bump},
    writer::{Writer, owner},
};

impl Writer {
    /// Customers as they stand in line for being forgotten, with the activity they are known for.
    pub(crate) fn standing(&self) -> impl Iterator<Item = (i64, Arc<CustomerSlot>)> + '_ {
        let live = |slot: &Arc<CustomerSlot>| {
            // Whoever was removed left an empty history behind.
            !slot.history.load().entries.is_empty()
                || self
                    .shared
                    .customer(&slot.name)
                    .is_some_and(|now| Arc::ptr_eq(&now, slot))
        };
        let upgraded = self
            .idle
            .iter()
            .filter_map(|(known_ms, slot)| Some((*known_ms, slot.upgrade()?)));
        upgraded.filter(move |(_, slot)| live(slot))
    }

    pub(crate) fn remember_activity(&mut self, newest_ms: i64, slot: &Arc<CustomerSlot>) {
        self.idle.push_back((newest_ms, Arc::downgrade(slot)));
    }

    /// The customer who was idle for longest.
    fn idlest(&mut self) -> Option<Arc<CustomerSlot>> {
        while let Some((known_ms, slot)) = self.idle.pop_front() {
            let Some(slot) = slot.upgrade() else { continue };
            let newest_ms = slot.history.load().newest_ms;
            if newest_ms > known_ms {
                self.idle.push_back((newest_ms, Arc::downgrade(&slot)));
                continue;
            }
            return Some(slot);
        }
        None
    }

    pub(crate) fn forget_idlest(&mut self) -> bool {
        while let Some(slot) = self.idlest() {
            if self.remove_customer(&slot.name) {
                bump(&self.shared.counters.evicted_customers, 1);
                return true;
            }
        }
        false
    }

    /// Where histories are kept elsewhere: lets go of the customers beyond `limits.max_customers` who were idle for longest.
    /// To be called now and then, and not between [`Writer::recall`] and the event for which it was.
    pub fn let_go(&mut self) {
        while self.config.recalls && self.customers() > self.config.limits.max_customers {
            let Some(slot) = self.idlest() else { return };
            self.take_out(&slot.name);
        }
    }

    /// Forgets a customer as if never seen: exactly what their events added is taken back, and readers no
    /// longer find a history. Answers whether there was one. Publish soon after.
    pub fn erase(&mut self, customer: &str) -> bool {
        // Their visits may have outlived a customer who was forgotten for want of room.
        let owner = owner(customer);
        self.sessions.erase(&self.shared, owner);
        self.watch.forget(owner);
        self.show_watch();
        let profiled = self.forget_profile(customer);
        let erased = self.remove_customer(customer) || profiled;
        if erased {
            bump(&self.shared.counters.erased_customers, 1);
        }
        erased
    }

    /// Those with a history or a profile whose [`owner`] this is: one, or by a rare chance more.
    pub fn names_of(&self, owner: u64) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = self.known.of(owner).cloned().collect();
        let profiled = self.profiled.of(owner).filter(|name| !names.contains(name));
        let profiled: Vec<Arc<str>> = profiled.cloned().collect();
        names.extend(profiled);
        names
    }

    /// Forgets the visits of a customer of whom only [`owner`] is known: they may have outlived a customer who
    /// was forgotten for want of room.
    pub fn erase_visits(&mut self, owner: u64) {
        self.sessions.erase(&self.shared, owner);
        self.watch.forget(owner);
        self.show_watch();
    }

    /// Takes what one customer did for what another did, as if the events had been theirs: an anonymous visit
    /// whose visitor has signed in. Histories are sums, so that the counts are exactly those of a model that was
    /// told so from the start, while no cap binds. Visits keep to themselves what was seen in each; those that
    /// still go on are continued by none. Answers whether anything was known of the first. Publish soon after.
    pub fn merge(&mut self, from: &str, into: &str) -> bool {
        if from == into || into.is_empty() {
            return false;
        }
        let (old, new) = (owner(from), owner(into));
        self.sessions.pass_on(old, new);
        self.watch.forget(old);
        self.show_watch();
        self.forget_profile(from);
        let Some(slot) = self.shared.customer(from) else {
            return false;
        };
        let taken = slot.history.load_full();
        self.remove_customer(from);
        if taken.entries.is_empty() {
            return true;
        }
        let slot = self.customer(into, taken.newest_ms);
        let counted = slot.history.load_full();
        let mut history = counted.with_room();
        let rules = self.history_rules();
        // Oldest first, as they would have come: a full history lets the oldest go.
        for entry in taken.entries.iter().rev() {
            if let Recorded::Changed(change) = history.absorb(entry, &rules, &self.names) {
                self.counts.vote(&change);
            }
        }
        history.newest_ms = history.newest_ms.max(taken.newest_ms);
        slot.history.store(Arc::new(history));
        self.count_later(slot, counted);
        true
    }

    pub(crate) fn remove_customer(&mut self, name: &str) -> bool {
        let history = self.take_out(name);
        if let Some(history) = &history {
            self.counts.erase(history, &self.names);
        }
        history.is_some()
    }

    /// Takes a customer out and leaves in what was counted.
    fn take_out(&mut self, name: &str) -> Option<Arc<History>> {
        self.count_now();
        self.shared.recalled.pin().remove(name);
        let slot = self.shared.customers.pin().remove(name).cloned()?;
        self.known.remove(name);
        let customers = &self.shared.counters.customers;
        customers.store(customers.load(Relaxed).saturating_sub(1), Relaxed);
        Some(slot.history.swap(Arc::new(History::default())))
    }
}
