//! The one writer: learns from events and publishes what readers see.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{
    blend::Blend,
    by_owner::ByOwner,
    config::{Algorithm, ConfigError, EngineConfig, Tuning},
    counts::{Counting, Counts, Ordered},
    event::{Applied, EventKind, Interaction},
    fitted::Fitted,
    history::{History, HistoryRules, Recorded, Weighted, units},
    knowledge::KnowledgeIndex,
    models::{content::ContentIndex, session_knn::SessionParams},
    prequential::Prequential,
    quality::Watch,
    reader::Reader,
    recount::Uncounted,
    seen::Seen,
    sessions::Sessions,
    shared::{Compiled, Counters, CustomerSlot, ProductSlot, Shared, Trending, bump},
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
    pub(crate) uncounted: Uncounted,
    pub(crate) names: Ordered,
    /// Hashes of event ids.
    pub(crate) seen: Seen,
    /// Customers in the order of their last known activity; checked again before one is forgotten.
    pub(crate) idle: VecDeque<(i64, Weak<CustomerSlot>)>,
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
        recalled: papaya::HashMap::builder()
            .hasher(ahash::RandomState::new())
            .build(),
        hidden: ArcSwap::default(),
        rules: HistoryRules::of(&config),
        counts_pairs: config.limits.row_capacity != 0,
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
    let seen = Seen::of(config.limits.dedup_ids);
    let writer = Writer {
        config,
        shared,
        counts: Counts::new(counting),
        uncounted: None,
        names: Ordered::default(),
        seen,
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
        let weighted = match self.admit(event, None, now_ms) {
            Ok(weighted) => weighted,
            Err(refusal) => return refusal,
        };
        if self.config.tuning.algorithm == Algorithm::Auto && self.prequential.samples(event) {
            self.freshen(event.customer);
        }
        self.prequential
            .predict(&self.shared, event, self.config.tuning.algorithm);
        self.counts.peek(weighted.product);
        let slot = match &self.uncounted {
            // A basket: the same customer again.
            Some((slot, _)) if *slot.name == *event.customer => Arc::clone(slot),
            _ => self.customer(event.customer, weighted.time_ms),
        };
        let counted = slot.history.load_full();
        let mut history = counted.with_room();
        let change = match history.record(&weighted, &self.history_rules(), &self.names) {
            Recorded::Changed(change) => change,
            Recorded::Damped => {
                slot.history.store(Arc::new(history));
                if self.damp(event.customer) {
                    self.exclude(event.customer);
                }
                return Applied::Damped;
            }
            Recorded::TooOld => {
                // It counts among those of its minute all the same, as wherever a history is folded anew.
                slot.history.store(Arc::new(history));
                return Applied::TooOld;
            }
        };
        self.counts.vote(&change);
        slot.history.store(Arc::new(history));
        self.count_later(slot, counted);
        if event.kind != EventKind::Return {
            let (key, owner) = self.session_key(event);
            self.sessions
                .touch(&self.shared, key, owner, weighted.product, weighted.time_ms);
        }
        Applied::Learned
    }

    /// The visit of an event, and whose it is: a session id where there is one, else the customer.
    pub(crate) fn session_key(&self, event: &Interaction<'_>) -> (u64, u64) {
        let owner = owner(event.customer);
        let key = event
            .session
            .map_or(owner, |session| xxh3_64_with_seed(session.as_bytes(), owner));
        (key, owner)
    }

    /// Everything that is decided before the customer's history is looked at. `product` is its number, if that was found
    /// before.
    pub(crate) fn admit(
        &mut self,
        event: &Interaction<'_>,
        product: Option<u32>,
        now_ms: i64,
    ) -> Result<Weighted, Applied> {
        if event.customer.is_empty() || event.product.is_empty() {
            return Err(Applied::Invalid);
        }
        if let Some(id) = event.event_id
            && self.seen_before(id)
        {
            return Err(Applied::Duplicate);
        }
        let known = product.or_else(|| self.names.id(event.product));
        let is_product = match known {
            Some(id) => self.shared.product(id).is_product(),
            None => !self.shared.non_products.contains(event.product),
        };
        if !is_product {
            return Err(Applied::NonProduct);
        }
        if self.watch.excluded() > 0 && self.watch.is_excluded(owner(event.customer)) {
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
        self.config.limits.dedup_ids > 0 && !self.seen.insert(xxh3_64(id.as_bytes()))
    }

    pub(crate) fn history_rules(&self) -> HistoryRules {
        self.shared.rules
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

    pub(crate) fn customers(&self) -> usize {
        self.shared.counters.customers.load(Relaxed) as usize
    }

    /// The slot of a customer; a new one if there is none, for which another may have to go.
    pub(crate) fn customer(&mut self, name: &str, time_ms: i64) -> Arc<CustomerSlot> {
        if let Some(slot) = self.shared.customer(name) {
            return slot;
        }
        if !self.config.recalls {
            while self.customers() >= self.config.limits.max_customers && self.forget_idlest() {}
        }
        let name: Arc<str> = name.into();
        let history = ArcSwap::from_pointee(History::default());
        let slot = Arc::new(CustomerSlot {
            name: Arc::clone(&name),
            history,
        });
        self.known.insert(&name);
        self.shared
            .customers
            .pin()
            .insert(Arc::clone(&name), Arc::clone(&slot));
        if self.config.recalls {
            self.shared.recalled.pin().remove(&name);
        }
        bump(&self.shared.counters.customers, 1);
        self.remember_activity(time_ms, &slot);
        slot
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
