//! What a record changes: the engine, what is remembered of event ids, and figures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use prometheus::IntCounter;
use recommendation_api::event::EventRef;
use recommendation_api::{EventError, EventType};
use recommender_engine::{Applied, EventKind, Gathered, Interaction, Published, Writer};

use super::Lookups;
use super::elsewhere::Elsewhere;
use super::forget::Forgetting;
use super::pace::Pace;
use crate::clock::now_ms;
use crate::insights::Insights;
use crate::metrics::Metrics;
use crate::model;
use crate::privacy::salts::PREFIX;
use crate::quality::QualityWatch;
use crate::snapshot::{Frozen, Manifest, Restored, write_dedup};
use crate::source::dedup::Dedup;
use crate::source::positions::Positions;
use crate::source::{Item, Record};
use crate::traces::Traces;
use crate::watching::Seen;

/// Live events whose freshness is measured at once; under a load that never lets up, the others are not.
const MAX_FRESH: usize = 100_000;
/// How far a record's own time may be ahead of the clock: what Kafka allows producers by default.
const MAX_RECORD_AHEAD_MS: i64 = 60 * 60 * 1000;

/// Counters by type of event, looked up once: a log of millions is read through them.
struct EventCounters {
    types: [(EventType, IntCounter); 6],
    other: IntCounter,
}

impl EventCounters {
    fn new(metrics: &Metrics) -> Self {
        let of = |kind: &EventType| metrics.events.with_label_values(&[kind.label()]);
        let types = [
            EventType::View,
            EventType::Click,
            EventType::Cart,
            EventType::Purchase,
            EventType::Return,
            EventType::Email,
        ];
        Self {
            types: types.map(|kind| {
                let counter = of(&kind);
                (kind, counter)
            }),
            other: of(&EventType::Other(String::new())),
        }
    }

    fn of(&self, kind: &EventType) -> &IntCounter {
        let known = self.types.iter().find(|(known, _)| known == kind);
        known.map_or(&self.other, |(_, counter)| counter)
    }
}

/// What is told of an event when it has been learned.
pub(super) struct Live {
    label: &'static str,
    record_ms: i64,
    trace: Option<(String, SystemTime)>,
}

/// Everything that a record changes.
pub(super) struct Learner {
    pub writer: Writer,
    pub(super) lookups: Lookups,
    counted: EventCounters,
    pub(super) forgetting: Forgetting,
    /// Where histories are, if not with the engine.
    pub(super) elsewhere: Option<Elsewhere>,
    /// Whether the state began with a snapshot.
    pub(super) restored: bool,
    dedup: BTreeMap<i32, Dedup>,
    default_type: Option<EventType>,
    pub metrics: Arc<Metrics>,
    pub quality: QualityWatch,
    pub insights: Insights,
    /// Gathered until the log is caught up with; `None` from then on.
    bulk: Option<Gathered>,
    /// Whether the tables were read: until then nobody knows who refuses, and whose an id is.
    pub has_tables: bool,
    /// Whether the log was caught up with: what comes from then on is new.
    pub follows: bool,
    /// Record times of new events whose effect is not published yet.
    fresh: Vec<i64>,
    /// Traces of live events whose effect is not published yet, and when they were taken.
    traced: Vec<(String, SystemTime)>,
    pub traces: Traces,
    started: Instant,
    pace: Pace,
    pub events: u64,
    pub malformed: u64,
    pub taken: u64,
}

impl Learner {
    /// `default_type` is the type of records that carry none.
    pub fn new(
        writer: Writer,
        lookups: Lookups,
        default_type: Option<EventType>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let quality = QualityWatch::new(writer.reader(), Arc::clone(&metrics));
        let mut insights = Insights::default();
        insights.sweep_daily(false);
        Self {
            writer,
            quality,
            insights,
            lookups,
            counted: EventCounters::new(&metrics),
            forgetting: Forgetting::default(),
            elsewhere: None,
            restored: false,
            dedup: BTreeMap::new(),
            default_type,
            metrics,
            bulk: Some(Gathered::default()),
            has_tables: false,
            follows: false,
            fresh: Vec::new(),
            traced: Vec::new(),
            traces: Traces::default(),
            started: Instant::now(),
            pace: Pace::new(0.0),
            events: 0,
            malformed: 0,
            taken: 0,
        }
    }

    /// Histories are kept elsewhere, where every event is from the first on: nothing is gathered.
    pub fn keep_elsewhere(&mut self, elsewhere: Elsewhere) {
        self.elsewhere = Some(elsewhere);
        self.bulk = None;
        self.insights.sweep_daily(true);
    }

    /// Goes on from a snapshot.
    pub fn restore(&mut self, restored: Restored) {
        self.writer = restored.writer;
        self.restored = true;
        let privacy = &self.lookups.privacy;
        let topics = &restored.manifest.positions.topics;
        let applied = |topic: &str| topics.get(topic).cloned().unwrap_or_default();
        self.forgetting.applied = applied(&privacy.erasures);
        self.forgetting.profiled = applied(&privacy.profiles);
        if let (Some(elsewhere), Some(written)) = (&mut self.elsewhere, restored.elsewhere) {
            elsewhere.restore(&restored.manifest, written, privacy);
        }
        self.quality.follow(self.writer.reader());
        self.dedup = restored.dedup;
        self.insights = restored.insights;
        if let Some(drift) = restored.drift {
            self.quality.go_on(drift);
        }
        (self.events, self.malformed) = (restored.manifest.events, restored.manifest.malformed);
        self.bulk = None;
        self.figures();
    }

    /// The state as it is now; `None` while events wait for the engine's bulk path or for histories, or something is still
    /// to be forgotten: whoever starts from a snapshot does not read again what it covers.
    pub fn freeze(&mut self, positions: Positions) -> Option<Frozen> {
        let is_behind = self.elsewhere.as_ref().is_some_and(Elsewhere::is_behind);
        if self.bulk.is_some() || is_behind || self.forgetting.is_waiting() {
            return None;
        }
        let stats = self.writer.reader().stats();
        let elsewhere = self.elsewhere.as_ref();
        Some(Frozen {
            manifest: Manifest {
                program: env!("CARGO_PKG_VERSION").to_owned(),
                created_ms: now_ms(),
                positions,
                events: self.events,
                malformed: self.malformed,
                customers: stats.customers,
                products: stats.products,
                insights: true,
                drift: true,
                elsewhere: elsewhere.is_some(),
            },
            dedup: write_dedup(&self.dedup),
            engine: self.writer.freeze(),
            insights: self.insights.freeze(),
            drift: self.quality.counted().clone(),
            elsewhere: elsewhere.map(Elsewhere::write),
        })
    }

    /// Takes up a record.
    pub fn take(&mut self, item: Item<'_>) -> Result<(), EventError> {
        self.taken += 1;
        let taken = match item {
            Item::Event(record) => self.take_event(record),
            Item::Product(record) => return self.take_product(record),
            Item::Profile(record) => return self.take_profile(record),
            Item::Impression(record) => return self.take_impression(record),
            Item::Erasure(record) => return self.take_erasure(record),
            Item::Salt(record) => return self.take_salt(record),
        };
        if taken.is_err() {
            self.malformed += 1;
            self.metrics.malformed.inc();
        }
        taken
    }

    fn take_event(&mut self, record: Record<'_>) -> Result<(), EventError> {
        self.has_tables = true;
        self.forget_waiting();
        if let Some(elsewhere) = &mut self.elsewhere {
            elsewhere.read(record.partition, record.offset);
        }
        let parsed;
        let event = match record.event {
            Some(Ok(event)) => event,
            Some(Err(e)) => return Err(e.clone()),
            None => {
                parsed = EventRef::parse(record.value.unwrap_or_default(), self.default_type.as_ref())?;
                &parsed
            }
        };
        if let Some(id) = &event.event_id
            && !self
                .dedup
                .entry(record.partition)
                .or_default()
                .is_new(id, record.time_ms)
        {
            self.metrics.duplicates.inc();
            return Ok(());
        }
        self.events += 1;
        self.counted.of(&event.event_type).inc();
        // An e-mail without a product says nothing about products.
        let Some(product) = &event.product_id else {
            return Ok(());
        };
        let at = (record.partition, record.offset);
        let Lookups {
            privacy, directory, ..
        } = &self.lookups;
        let erased = &self.forgetting.erasures;
        if erased.covers(privacy, &event.customer_id, at, record.time_ms) {
            return Ok(());
        }
        if privacy.salts.is_some() && !event.customer_id.starts_with(PREFIX) {
            self.metrics.plain.inc();
        }
        let whose = directory.canonical(&event.customer_id);
        let customer = whose.as_deref().unwrap_or(&event.customer_id);
        if !privacy.tracks(directory, customer) {
            if let Some(elsewhere) = &mut self.elsewhere {
                elsewhere.skip(&event.customer_id, at);
            }
            return Ok(());
        }
        let now = now_ms();
        // Against the record's time and not the clock, so that reading the log again decides as the first time.
        // Only a record that is itself from the future (brokers may let producers choose) is held to the clock.
        let record_ms = record.time_ms.min(now.saturating_add(MAX_RECORD_AHEAD_MS));
        let time_ms = event.time_ms(record_ms, record_ms);
        let interaction = Interaction {
            session: event.session_id.as_deref(),
            ..Interaction::new(customer, product, model::kind(&event.event_type), time_ms)
        };
        self.insights.event(customer, event, time_ms);
        let live = self.bulk.is_none();
        self.quality
            .observe(record.partition, product, interaction.kind, time_ms, live);
        // So that the engine's own limit does not bind.
        if let Some(bulk) = &mut self.bulk {
            self.writer.gather(bulk, &interaction, now.max(time_ms));
            return Ok(());
        }
        let trace = record.traceparent;
        let live = Live {
            label: event.event_type.label(),
            record_ms: record.time_ms,
            trace: trace.map(|trace| (trace.to_owned(), SystemTime::now())),
        };
        match &mut self.elsewhere {
            Some(elsewhere) => elsewhere.wait(&interaction, &event.customer_id, at, live),
            None => {
                self.learn_live(&interaction, live, now);
            }
        }
        Ok(())
    }

    /// Learns an event, and tells whoever follows what is learned.
    pub(super) fn learn_live(&mut self, event: &Interaction<'_>, live: Live, now: i64) -> Applied {
        let applied = self.writer.apply(event, now.max(event.time_ms));
        self.lookups.watching.show(|| Seen {
            customer: event.customer.into(),
            kind: live.label,
            product: event.product.into(),
            time_ms: event.time_ms,
            produced_ms: live.record_ms,
            learned_ms: now,
        });
        if event.kind == EventKind::Purchase {
            self.lookups.baskets.bought(event.customer, event.product);
        }
        if self.follows && self.fresh.len() < MAX_FRESH {
            self.fresh.push(live.record_ms);
            self.traced.extend(live.trace);
        }
        applied
    }

    /// Whether events are learned as they come.
    pub fn learns_live(&self) -> bool {
        self.bulk.is_none()
    }

    /// Events that wait for the engine's bulk path.
    pub fn waiting(&self) -> usize {
        self.bulk.as_ref().map_or(0, Gathered::len)
    }

    /// Learns what was gathered; from then on event by event.
    pub fn learn_bulk(&mut self, now: i64) {
        let Some(bulk) = self.bulk.take() else { return };
        // Nobody is answered yet: all processors are for this.
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        self.writer.learn_gathered(bulk, now, threads);
        self.insights.sweep_daily(true);
        self.figures();
    }

    /// How long to wait for events before lists that wait are worth their time.
    pub fn rest(&self) -> Duration {
        self.pace.rest(self.started.elapsed().as_secs_f64())
    }

    /// Shows readers what was learned.
    pub fn publish(&mut self, now: i64) -> Published {
        let began = self.started.elapsed().as_secs_f64();
        let published = self.writer.publish(now, self.pace.lists(began));
        self.pace
            .refreshed(published.rows, began, self.started.elapsed().as_secs_f64());
        self.quality.compare(now);
        if published.pending == 0 && !self.fresh.is_empty() {
            let now = now_ms();
            for at in self.fresh.drain(..) {
                self.metrics.freshness.observe((now - at).max(0) as f64 / 1000.0);
            }
        }
        if published.pending == 0 {
            for (trace, taken) in self.traced.drain(..) {
                self.traces.learned(trace, taken, SystemTime::now());
            }
        }
        self.figures();
        published
    }

    fn figures(&self) {
        let stats = self.writer.reader().stats();
        self.metrics
            .products
            .set(i64::try_from(stats.products).unwrap_or(i64::MAX));
        self.metrics
            .customers
            .set(i64::try_from(stats.customers).unwrap_or(i64::MAX));
    }
}
