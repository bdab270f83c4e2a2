//! The ingest thread: owns the engine's writer, applies what the source hands over and publishes it to the
//! readers. Nobody waits for it, and it waits for the source only.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use recommendation_api::report::{DependencyState, Phase};
use recommendation_api::{Event, EventError, EventType};
use recommender_engine::{EventKind, Interaction, Published, Tuning, Writer};
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::metrics::Metrics;
use crate::model;
use crate::source::dedup::Dedup;
use crate::source::{Item, Lag, Record, Source, SourceError};

/// Longest wait for the next record; bounds how late a command or the end is noticed.
const WAIT: Duration = Duration::from_millis(20);
/// Neighbour lists refreshed between two polls.
const ROWS_PER_PUBLISH: usize = 500;
/// Events gathered for the engine's bulk path at most (about 150 bytes each).
const MAX_BULK: usize = 2_000_000;

/// Live events whose freshness is measured at once; under a load that never lets up, the others are not.
const MAX_FRESH: usize = 100_000;

/// What the thread last said about itself.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Where the replica stands; once `Serving`, always so.
    pub phase: Phase,
    /// Valid events read, duplicates not counted.
    pub events: u64,
    /// Malformed records met.
    pub malformed: u64,
    /// How far behind the log.
    pub lag: Lag,
    /// Whether the log answers.
    pub log: DependencyState,
    /// The last error of the source, while it lasts.
    pub problem: Option<String>,
    /// When this was said: a thread that hangs says nothing any more.
    pub at: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            phase: Phase::Loading,
            events: 0,
            malformed: 0,
            lag: Lag {
                records: 0,
                seconds: 0.0,
                caught_up: false,
            },
            log: DependencyState::Down,
            problem: None,
            at: Instant::now(),
        }
    }
}

/// An event on its way to the engine's bulk path.
struct Waiting {
    customer: Box<str>,
    product: Box<str>,
    kind: EventKind,
    time_ms: i64,
    session: Option<Box<str>>,
}

/// The thread's work.
pub struct Ingest {
    source: Box<dyn Source>,
    learner: Learner,
    commands: mpsc::Receiver<Tuning>,
    shared: Arc<ArcSwap<Progress>>,
    max_lag_seconds: f64,
}

/// Everything that a record changes.
struct Learner {
    writer: Writer,
    dedup: HashMap<i32, Dedup>,
    default_type: Option<EventType>,
    metrics: Arc<Metrics>,
    /// Gathered until the log is caught up with; `None` from then on.
    bulk: Option<Vec<Waiting>>,
    /// Record times of live events whose effect is not published yet.
    fresh: Vec<i64>,
    events: u64,
    malformed: u64,
}

impl Ingest {
    /// `default_type` is the type of records that carry none; the first readiness waits until the lag is
    /// below `max_lag_seconds`.
    pub fn new(
        source: Box<dyn Source>,
        writer: Writer,
        default_type: Option<EventType>,
        metrics: Arc<Metrics>,
        commands: mpsc::Receiver<Tuning>,
        max_lag_seconds: u32,
    ) -> Self {
        let learner = Learner {
            writer,
            dedup: HashMap::new(),
            default_type,
            metrics,
            bulk: Some(Vec::new()),
            fresh: Vec::new(),
            events: 0,
            malformed: 0,
        };
        let shared = Arc::new(ArcSwap::from_pointee(Progress::default()));
        Self {
            source,
            learner,
            commands,
            shared,
            max_lag_seconds: f64::from(max_lag_seconds),
        }
    }

    /// Where the thread tells how far it is.
    pub fn progress(&self) -> Arc<ArcSwap<Progress>> {
        Arc::clone(&self.shared)
    }

    /// Works until stopped. An error means that the source is broken for good.
    pub fn run(mut self, stop: &CancellationToken) -> Result<(), SourceError> {
        let result = self.work(stop);
        self.source.close();
        result
    }

    fn work(&mut self, stop: &CancellationToken) -> Result<(), SourceError> {
        let started = Instant::now();
        let mut phase = Phase::Loading;
        let mut failures = 0u32;
        let mut pending = 0;
        // Neighbour lists that waited when the log had been caught up with. They are shown oldest first, so that
        // those of newer events cannot hold readiness back under a load that never lets up.
        let mut lists_left = None;
        while !stop.is_cancelled() {
            while let Ok(tuning) = self.commands.try_recv() {
                if let Err(e) = self.learner.writer.tune(tuning) {
                    tracing::error!(error = %e, "the engine refuses the new configuration");
                }
            }
            let wait = if pending > 0 { Duration::ZERO } else { WAIT };
            let learner = &mut self.learner;
            let problem = match self.source.poll(wait, &mut |item| learner.take(item)) {
                Ok(_) => {
                    failures = 0;
                    None
                }
                Err(e @ SourceError::Thread(_)) => return Err(e),
                Err(e) => {
                    if failures.is_multiple_of(100) {
                        tracing::warn!(error = %e, "the log cannot be read; going on");
                    }
                    failures += 1;
                    std::thread::sleep(Duration::from_millis(50));
                    Some(e.to_string())
                }
            };
            let now = now_ms();
            let lag = self.source.lag(now);
            let learner = &mut self.learner;
            if learner
                .bulk
                .as_ref()
                .is_some_and(|bulk| lag.caught_up || bulk.len() >= MAX_BULK)
            {
                learner.learn_bulk(now);
            }
            let published = learner.publish(now);
            pending = published.pending;
            if lag.caught_up {
                lists_left =
                    Some(lists_left.map_or(pending, |left: usize| left.saturating_sub(published.rows)));
            }
            if phase == Phase::Loading && lists_left == Some(0) && lag.seconds <= self.max_lag_seconds {
                phase = Phase::Serving;
                let stats = learner.writer.reader().stats();
                tracing::info!(
                    events = learner.events,
                    products = stats.products,
                    customers = stats.customers,
                    took = ?started.elapsed(),
                    "caught up with the log"
                );
            }
            self.report(phase, lag, problem);
        }
        Ok(())
    }

    fn report(&self, phase: Phase, lag: Lag, problem: Option<String>) {
        let metrics = &self.learner.metrics;
        metrics
            .lag_records
            .set(i64::try_from(lag.records).unwrap_or(i64::MAX));
        metrics.lag_seconds.set(lag.seconds);
        metrics.ready.set(i64::from(phase == Phase::Serving));
        self.shared.store(Arc::new(Progress {
            phase,
            events: self.learner.events,
            malformed: self.learner.malformed,
            lag,
            log: self.source.state(),
            problem,
            at: Instant::now(),
        }));
    }
}

impl Learner {
    fn take(&mut self, item: Item<'_>) -> Result<(), EventError> {
        let taken = match item {
            Item::Event(record) => self.take_event(record),
            Item::Product(record) => return self.take_product(record),
        };
        if taken.is_err() {
            self.malformed += 1;
            self.metrics.malformed.inc();
        }
        taken
    }

    fn take_event(&mut self, record: Record<'_>) -> Result<(), EventError> {
        let event = Event::parse(record.value.unwrap_or_default(), self.default_type.clone())?;
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
        self.metrics
            .events
            .with_label_values(&[event.event_type.label()])
            .inc();
        // An e-mail without a product says nothing about products.
        let Some(product) = &event.product_id else {
            return Ok(());
        };
        let now = now_ms();
        let (kind, time_ms) = (model::kind(&event.event_type), event.time_ms(record.time_ms, now));
        match &mut self.bulk {
            Some(bulk) => bulk.push(Waiting {
                customer: event.customer_id.into(),
                product: product.as_str().into(),
                kind,
                time_ms,
                session: event.session_id.map(Into::into),
            }),
            None => {
                let session = event.session_id.as_deref();
                let interaction = Interaction::new(&event.customer_id, product, kind, time_ms);
                self.writer.apply(
                    &Interaction {
                        session,
                        ..interaction
                    },
                    now,
                );
                if self.fresh.len() < MAX_FRESH {
                    self.fresh.push(record.time_ms);
                }
            }
        }
        Ok(())
    }

    fn take_product(&mut self, record: Record<'_>) -> Result<(), EventError> {
        let id = record
            .key
            .and_then(|key| std::str::from_utf8(key).ok())
            .filter(|id| !id.is_empty());
        let Some(id) = id else {
            tracing::warn!(
                offset = record.offset,
                "catalogue record without a product id as its key"
            );
            return Err(EventError::MissingField("product_id"));
        };
        let meta = model::parse_product(record.value).inspect_err(|e| {
            tracing::warn!(product_id = id, error = %e, "catalogue record not understood");
        })?;
        if !self.writer.set_product(id, meta) {
            tracing::warn!(
                product_id = id,
                "limits.maxProducts is reached: product not taken up"
            );
        }
        Ok(())
    }

    fn learn_bulk(&mut self, now: i64) {
        let bulk = self.bulk.take().unwrap_or_default();
        let events = bulk.iter().map(|w| {
            let interaction = Interaction::new(&w.customer, &w.product, w.kind, w.time_ms);
            Interaction {
                session: w.session.as_deref(),
                ..interaction
            }
        });
        self.writer.bulk(events, now);
        self.figures();
    }

    /// Shows readers what was learned.
    fn publish(&mut self, now: i64) -> Published {
        let published = self.writer.publish(now, ROWS_PER_PUBLISH);
        if published.pending == 0 && !self.fresh.is_empty() {
            let now = now_ms();
            for at in self.fresh.drain(..) {
                self.metrics.freshness.observe((now - at).max(0) as f64 / 1000.0);
            }
        }
        if published.rows > 0 {
            self.figures();
        }
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
