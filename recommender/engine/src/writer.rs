//! The one writer: learns from events and publishes what readers see.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{
            AtomicU8,
            Ordering::{Relaxed, Release},
        },
    },
};

use ahash::AHashSet;
use arc_swap::{ArcSwap, ArcSwapOption};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{
    blend::Blend,
    by_owner::ByOwner,
    config::{Algorithm, ConfigError, EngineConfig, Tuning},
    counts::{Counting, Counts, Ordered},
    event::{Applied, EventKind, Interaction, ProductMeta},
    fitted::Fitted,
    history::{History, HistoryRules, Recorded, Weighted, units},
    knowledge::KnowledgeIndex,
    models::{content::ContentIndex, session_knn::SessionParams},
    prequential::Prequential,
    quality::{Watch, is_labelled},
    reader::Reader,
    revision::CatalogueRevision,
    sessions::Sessions,
    shared::{Compiled, Counters, CustomerSlot, NONE, ProductSlot, Shared, StoredMeta, Trending, bump},
    visits::VisitStore,
};

/// An event may be this far ahead of `now_ms` before its time is clamped to it.
const MAX_AHEAD_MS: i64 = 5 * 60_000;
/// What became of a bulk of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkReport {
    /// Events handed in.
    pub events: u64,
    /// Events that changed the model.
    pub learned: u64,
}

/// Owns the counts. There is exactly one; it is `Send` and lives on the ingest thread.
pub struct Writer {
    pub(crate) config: EngineConfig,
    pub(crate) shared: Arc<Shared>,
    pub(crate) counts: Counts,
    pub(crate) names: Ordered,
    seen: AHashSet<u64>,
    pub(crate) seen_order: VecDeque<u64>,
    /// Customers in the order of their last known activity; checked again before one is forgotten.
    idle: VecDeque<(i64, Weak<CustomerSlot>)>,
    /// Customers with a history, and those with a profile.
    pub(crate) known: ByOwner,
    pub(crate) profiled: ByOwner,
    pub(crate) sessions: Sessions,
    pub(crate) prequential: Prequential,
    pub(crate) watch: Watch,
    /// Products that were known when the indices of the user's model were looked up.
    pub(crate) onnx_products: usize,
    /// When they were looked up again, in turns.
    pub(crate) onnx_turn: i64,
    pub(crate) content_ms: i64,
    pub(crate) catalogue_changed: bool,
    pub(crate) trending_ms: i64,
    pub(crate) cursor: usize,
}

/// Who a visit belongs to: a hash that is the same on every replica and in a snapshot. It is all that is kept of
/// a customer whose visits outlive their history.
pub fn owner(customer: &str) -> u64 {
    xxh3_64(customer.as_bytes())
}

/// Makes an empty engine: its one writer, and a reader to be cloned as often as needed.
pub fn engine(config: EngineConfig) -> Result<(Writer, Reader), ConfigError> {
    config.validate()?;
    let shared = Arc::new(Shared {
        products: boxcar::Vec::new(),
        product_ids: papaya::HashMap::builder()
            .hasher(ahash::RandomState::new())
            .build(),
        categories: boxcar::Vec::new(),
        category_ids: papaya::HashMap::builder()
            .hasher(ahash::RandomState::new())
            .build(),
        customers: papaya::HashMap::builder()
            .hasher(ahash::RandomState::new())
            .build(),
        trending: ArcSwap::from_pointee(Trending::default()),
        visits: VisitStore::default(),
        content: ArcSwap::from_pointee(ContentIndex::default()),
        fitted: ArcSwap::from_pointee(Fitted::default()),
        onnx: ArcSwapOption::empty(),
        knowledge: ArcSwap::from_pointee(KnowledgeIndex::default()),
        profiles: papaya::HashMap::builder()
            .hasher(ahash::RandomState::new())
            .build(),
        hit_rates: ArcSwap::from_pointee(Vec::new()),
        // Hybrid, until there is evidence.
        auto: AtomicU8::new(1),
        tuning: ArcSwap::from_pointee(Compiled::new(&config)),
        counters: Counters::default(),
        non_products: config.non_products.iter().map(|id| id.as_str().into()).collect(),
    });
    let reader = Reader::new(Arc::clone(&shared));
    let counting = Counting {
        window: config.limits.pair_history,
        trend_half_life_ms: config.trend_half_life_ms,
        row_capacity: config.limits.row_capacity,
        damping: config.damping,
        similarity: config.similarity,
        bm25: config.bm25,
        shrinkage: f64::from(config.shrinkage),
        alpha: f64::from(config.walk_alpha),
        beta: f64::from(config.walk_beta),
    };
    let sessions = Sessions::new(config.limits.max_sessions, config.limits.postings);
    let watch = Watch::new(config.exclude_after_damped);
    let writer = Writer {
        config,
        shared,
        counts: Counts::new(counting),
        names: Ordered::default(),
        seen: AHashSet::new(),
        seen_order: VecDeque::new(),
        idle: VecDeque::new(),
        known: ByOwner::default(),
        profiled: ByOwner::default(),
        sessions,
        prequential: Prequential::new(),
        watch,
        onnx_products: 0,
        onnx_turn: i64::MIN,
        content_ms: i64::MIN,
        catalogue_changed: false,
        trending_ms: i64::MIN,
        cursor: 0,
    };
    Ok((writer, reader))
}

impl Writer {
    /// Shows readers a changed configuration.
    pub(crate) fn compile(&self) {
        self.shared.tuning.store(Arc::new(Compiled::new(&self.config)));
    }

    /// Another reader of this engine.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// Learns one event. The customer's history is visible to readers when this returns; neighbour lists
    /// and popularity follow with the next [`Writer::publish`].
    pub fn apply(&mut self, event: &Interaction<'_>, now_ms: i64) -> Applied {
        let outcome = self.learn(event, now_ms);
        self.count(outcome);
        outcome
    }

    fn learn(&mut self, event: &Interaction<'_>, now_ms: i64) -> Applied {
        let weighted = match self.admit(event, now_ms) {
            Ok(weighted) => weighted,
            Err(refusal) => return refusal,
        };
        if self.config.tuning.algorithm == Algorithm::Auto && self.prequential.samples(event) {
            self.freshen(event.customer);
        }
        self.prequential
            .predict(&self.shared, event, self.config.tuning.algorithm);
        self.counts.peek(weighted.product);
        let slot = self.customer(event.customer, weighted.time_ms);
        let mut history = slot.history.load().with_room();
        let change = match history.record(&weighted, &self.history_rules(), &self.names) {
            Recorded::Changed(change) => change,
            Recorded::Damped => {
                slot.history.store(Arc::new(history));
                if self.damp(event.customer) {
                    self.exclude(event.customer);
                }
                return Applied::Damped;
            }
            Recorded::TooOld => return Applied::TooOld,
        };
        self.counts.change(&history, &change);
        slot.history.store(Arc::new(history));
        if event.kind != EventKind::Return {
            let (key, owner) = self.session_key(event);
            self.sessions
                .touch(&self.shared, key, owner, weighted.product, weighted.time_ms);
        }
        Applied::Learned
    }

    /// The visit of an event, and whose it is: a session id where there is one, else the customer.
    pub(crate) fn session_key(&self, event: &Interaction<'_>) -> (u64, u64) {
        let owner = self.owner(event.customer);
        let key = event
            .session
            .map_or(owner, |session| xxh3_64_with_seed(session.as_bytes(), owner));
        (key, owner)
    }

    /// Everything that is decided before the customer's history is looked at.
    pub(crate) fn admit(&mut self, event: &Interaction<'_>, now_ms: i64) -> Result<Weighted, Applied> {
        if event.customer.is_empty() || event.product.is_empty() {
            return Err(Applied::Invalid);
        }
        if let Some(id) = event.event_id
            && self.seen_before(id)
        {
            return Err(Applied::Duplicate);
        }
        let known = self.names.id(event.product);
        let is_product = match known {
            Some(id) => self.shared.product(id).is_product(),
            None => !self.shared.non_products.contains(event.product),
        };
        if !is_product {
            return Err(Applied::NonProduct);
        }
        if self.watch.excluded() > 0 && self.watch.is_excluded(self.owner(event.customer)) {
            return Err(Applied::Excluded);
        }
        let units = units(self.config.tuning.event_weights.of(event.kind));
        if units == 0 {
            return Err(Applied::Weightless);
        }
        let product = known
            .or_else(|| self.intern(event.product))
            .ok_or(Applied::Refused)?;
        let time_ms = event.time_ms.clamp(0, now_ms.saturating_add(MAX_AHEAD_MS).max(0));
        let newest_ms = &self.shared.counters.newest_event_ms;
        if time_ms > newest_ms.load(Relaxed) {
            newest_ms.store(time_ms, Relaxed);
        }
        Ok(Weighted {
            product,
            kind: event.kind,
            units,
            time_ms,
        })
    }

    pub(crate) fn count(&self, outcome: Applied) {
        let counters = &self.shared.counters;
        bump(&counters.events, 1);
        let counter = match outcome {
            Applied::Learned => &counters.learned,
            Applied::Weightless => &counters.weightless,
            Applied::Duplicate => &counters.duplicates,
            Applied::Damped => &counters.damped,
            Applied::Excluded => &counters.excluded,
            Applied::NonProduct => &counters.non_products,
            Applied::Refused => &counters.refused_products,
            Applied::TooOld => &counters.too_old,
            Applied::Invalid => &counters.invalid,
        };
        bump(counter, 1);
    }

    /// [`Writer::count`] of many that were learned.
    pub(crate) fn count_learned(&self, events: u64) {
        bump(&self.shared.counters.events, events);
        bump(&self.shared.counters.learned, events);
    }

    fn seen_before(&mut self, id: &str) -> bool {
        let capacity = self.config.limits.dedup_ids;
        if capacity == 0 {
            return false;
        }
        !self.remember_id(xxh3_64(id.as_bytes()))
    }

    /// Remembers the hash of an event id; false if it was known.
    pub(crate) fn remember_id(&mut self, hash: u64) -> bool {
        if !self.seen.insert(hash) {
            return false;
        }
        self.seen_order.push_back(hash);
        if self.seen_order.len() > self.config.limits.dedup_ids
            && let Some(oldest) = self.seen_order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }

    pub(crate) fn history_rules(&self) -> HistoryRules {
        HistoryRules {
            capacity: self.config.limits.learn_history,
            window: self.config.limits.pair_history,
            repeats: self.config.repeats,
            max_per_minute: self.config.max_events_per_minute,
        }
    }

    /// The number of a product; a new one if it is not known and there is room.
    pub(crate) fn intern(&mut self, name: &str) -> Option<u32> {
        if let Some(id) = self.names.id(name) {
            return Some(id);
        }
        if self.names.len() >= self.config.limits.max_products {
            return None;
        }
        Some(self.push_product(name))
    }

    /// Takes up a product that is not known yet.
    pub(crate) fn push_product(&mut self, name: &str) -> u32 {
        let name: Arc<str> = name.into();
        let barred = self.shared.non_products.contains(&*name);
        let slot = ProductSlot::new(Arc::clone(&name), barred);
        let id = self.shared.products.push(slot) as u32;
        self.names.push(Arc::clone(&name));
        self.counts.grow(self.names.len());
        self.shared.product_ids.pin().insert(name, id);
        id
    }

    /// The slot of a customer; a new one if there is none, for which another may have to go.
    pub(crate) fn customer(&mut self, name: &str, time_ms: i64) -> Arc<CustomerSlot> {
        if let Some(slot) = self.shared.customer(name) {
            return slot;
        }
        let capacity = self.config.limits.max_customers as u64;
        while self.shared.counters.customers.load(Relaxed) >= capacity && self.forget_idlest() {}
        let name: Arc<str> = name.into();
        let history = ArcSwap::from_pointee(History::default());
        let slot = Arc::new(CustomerSlot {
            name: Arc::clone(&name),
            history,
        });
        self.known.insert(&name);
        self.shared.customers.pin().insert(name, Arc::clone(&slot));
        bump(&self.shared.counters.customers, 1);
        self.remember_activity(time_ms, &slot);
        slot
    }

    /// Who a visit belongs to: a hash that is the same on every replica and in a snapshot.
    pub(crate) fn owner(&self, customer: &str) -> u64 {
        owner(customer)
    }

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

    fn forget_idlest(&mut self) -> bool {
        while let Some((known_ms, slot)) = self.idle.pop_front() {
            let Some(slot) = slot.upgrade() else { continue };
            let newest_ms = slot.history.load().newest_ms;
            if newest_ms > known_ms {
                self.idle.push_back((newest_ms, Arc::downgrade(&slot)));
                continue;
            }
            if self.remove_customer(&slot.name) {
                bump(&self.shared.counters.evicted_customers, 1);
                return true;
            }
        }
        false
    }

    /// Forgets a customer as if never seen: exactly what their events added is taken back, and readers no
    /// longer find a history. Answers whether there was one. Publish soon after.
    pub fn erase(&mut self, customer: &str) -> bool {
        // Their visits may have outlived a customer who was forgotten for want of room.
        let owner = self.owner(customer);
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
        let (old, new) = (self.owner(from), self.owner(into));
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
        let mut history = slot.history.load().with_room();
        let rules = self.history_rules();
        // Oldest first, as they would have come: a full history lets the oldest go.
        for entry in taken.entries.iter().rev() {
            if let Recorded::Changed(change) = history.absorb(entry, &rules, &self.names) {
                self.counts.change(&history, &change);
            }
        }
        history.newest_ms = history.newest_ms.max(taken.newest_ms);
        slot.history.store(Arc::new(history));
        true
    }

    pub(crate) fn remove_customer(&mut self, name: &str) -> bool {
        let Some(slot) = self.shared.customers.pin().remove(name).cloned() else {
            return false;
        };
        self.known.remove(name);
        let customers = &self.shared.counters.customers;
        customers.store(customers.load(Relaxed).saturating_sub(1), Relaxed);
        let history = slot.history.swap(Arc::new(History::default()));
        self.counts.erase(&history);
        true
    }

    /// Takes up what the catalogue says of a product; `None` withdraws it (its history stays, it is no
    /// longer recommended). Answers false for a new product beyond `max_products`.
    pub fn set_product(&mut self, id: &str, meta: Option<ProductMeta>) -> bool {
        let Some(product) = self.intern(id) else {
            return false;
        };
        let category = meta
            .as_ref()
            .and_then(|meta| meta.category.as_deref())
            .filter(|name| !name.is_empty());
        let category = category.map_or(NONE, |name| self.category(name));
        let slot = self.shared.product(product);
        slot.category.store(category, Relaxed);
        let labelled = meta
            .as_ref()
            .is_some_and(|meta| is_labelled(&self.config.non_product_labels, meta));
        let was_labelled = slot.no_product.swap(labelled, Relaxed);
        let count = &self.shared.counters.labelled;
        count.store(
            count.load(Relaxed) + u64::from(labelled) - u64::from(was_labelled),
            Relaxed,
        );
        slot.available
            .store(meta.as_ref().is_some_and(|meta| meta.available), Relaxed);
        let catalogued = &self.shared.counters.catalogued;
        let (was, is) = (slot.meta.load().is_some(), meta.is_some());
        catalogued.store(catalogued.load(Relaxed) + u64::from(is) - u64::from(was), Relaxed);
        let digest = CatalogueRevision::digest(slot.name_hash, meta.as_ref());
        let old = slot.catalogue_digest.swap(digest, Relaxed);
        let catalogue = &self.shared.counters.catalogue;
        let sum = catalogue.load(Relaxed).wrapping_sub(old).wrapping_add(digest);
        slot.meta.store(meta.map(|meta| Arc::new(StoredMeta::new(meta))));
        if old != digest {
            self.shared.counters.catalogue_settles.store(true, Relaxed);
            // Last: whoever sees the new revision sees what it stands for.
            catalogue.store(sum, Release);
        }
        self.counts.popularity_changed = true;
        self.catalogue_changed = true;
        true
    }

    fn category(&mut self, name: &str) -> u32 {
        if let Some(id) = self.shared.category_id(name) {
            return id;
        }
        let name: Arc<str> = name.into();
        let id = self.shared.categories.push(Arc::clone(&name)) as u32;
        self.shared.category_ids.pin().insert(name, id);
        id
    }

    /// Swaps in weights, rules and the other parts that may change while running.
    pub fn tune(&mut self, tuning: Tuning) -> Result<(), ConfigError> {
        tuning.validate()?;
        self.config.tuning = tuning;
        self.compile();
        Ok(())
    }

    /// Swaps in other parameters of the session model.
    pub fn set_session(&mut self, session: SessionParams) {
        self.config.session = session;
        self.compile();
    }

    /// Swaps in other weights of the blend, such as ones fitted on held-out events.
    pub fn set_blend(&mut self, blend: Blend) {
        self.config.blend = blend;
        self.compile();
    }
}
