//! The ingest thread: owns the engine's writer, applies what the source hands over and publishes it to the
//! readers. Nobody waits for it, and it waits for the source only.

mod elsewhere;
mod forget;
mod late;
mod learner;
pub(crate) mod pace;
mod recall;
mod restore;
mod tables;

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use recommendation_api::EventType;
use recommendation_api::report::{DependencyState, Phase};
use recommender_engine::drift::DriftReport;
use recommender_engine::{Algorithm, KnowledgeRule, OnnxArtifact, Tuning, Writer};
use tokio_util::sync::CancellationToken;

pub use self::elsewhere::Elsewhere;
pub use self::late::LateReader;
use self::learner::Learner;
pub use self::restore::Start;
use crate::baskets::Baskets;
use crate::clock::now_ms;
use crate::directory::Directory;
use crate::insights::Kept;
use crate::metrics::Metrics;
use crate::privacy::{Privacy, Tag};
use crate::retry::Backoff;
use crate::snapshot::Frozen;
use crate::source::{Lag, Source, SourceError};
use crate::traces::Traces;
use crate::trainer::fit::Bundle;
use crate::watching::Watching;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// Longest wait for the next record; bounds how late a command, a catalogue record or the end is noticed.
const WAIT: Duration = Duration::from_millis(50);
/// While events keep coming, what was learned is shown this often at most: each time costs the same, for one event or
/// for hundreds.
pub(crate) const PUBLISH_EVERY: Duration = Duration::from_millis(5);
/// Events gathered for the engine's bulk path at most (40 bytes each, and each id once).
const MAX_BULK: usize = 20_000_000;

/// What the thread last said about itself.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Where the replica stands; once `Serving`, always so.
    pub phase: Phase,
    /// Valid events read, duplicates not counted.
    pub events: u64,
    /// Malformed records met.
    pub malformed: u64,
    /// Records taken in all, of the catalogue too, since this process began.
    pub taken: u64,
    /// How far behind the log.
    pub lag: Lag,
    /// Whether the log answers.
    pub log: DependencyState,
    /// Drift of what is learned; `None` while too few events say.
    pub drift: Option<DriftReport>,
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
            taken: 0,
            lag: Lag {
                records: 0,
                seconds: 0.0,
                caught_up: false,
            },
            log: DependencyState::Down,
            drift: None,
            problem: None,
            at: Instant::now(),
        }
    }
}

/// What requests look up beside the model, and this thread writes.
#[derive(Clone, Default)]
pub struct Lookups {
    /// Profiles and titles.
    pub directory: Arc<Directory>,
    /// Told of every live event, for people who watch.
    pub watching: Arc<Watching>,
    /// Told of every live purchase; what the log held at the start stands in the histories.
    pub baskets: Arc<Baskets>,
    /// Who may be learned from, and who has to be forgotten.
    pub privacy: Arc<Privacy>,
    /// Told whose answers are to be forgotten too.
    pub erased: Option<UnboundedSender<Tag>>,
}

/// What the thread is told from outside.
pub enum Command {
    /// Take up changed weights and rules, those between attributes too.
    Tune(Tuning, Vec<KnowledgeRule>),
    /// Hand over the state as it is now, for a snapshot. Not answered before the log was caught up with.
    Freeze(oneshot::Sender<Frozen>),
    /// Answer with these fitted models from now on.
    Install(Box<Bundle>),
    /// Hand out the records that figures are made of.
    Insights(oneshot::Sender<Kept>),
    /// Answer with this model of the user's from now on, or with none.
    Bring(Option<OnnxArtifact>),
}

/// The thread's work.
pub struct Ingest {
    source: Box<dyn Source>,
    learner: Learner,
    commands: mpsc::Receiver<Command>,
    shared: Arc<ArcSwap<Progress>>,
    max_lag_seconds: f64,
    start: Option<Start>,
    late: LateReader,
    /// Of histories that are kept elsewhere.
    stuck: Backoff,
}

impl Ingest {
    /// `default_type` is the type of records that carry none; the first readiness waits until the lag is
    /// below `max_lag_seconds`.
    pub fn new(
        source: Box<dyn Source>,
        writer: Writer,
        default_type: Option<EventType>,
        metrics: Arc<Metrics>,
        commands: mpsc::Receiver<Command>,
        max_lag_seconds: u32,
        lookups: Lookups,
    ) -> Self {
        let late = LateReader::new(writer.reader());
        let learner = Learner::new(writer, lookups, default_type, metrics);
        let shared = Arc::new(ArcSwap::from_pointee(Progress::default()));
        Self {
            source,
            learner,
            commands,
            shared,
            max_lag_seconds: f64::from(max_lag_seconds),
            start: None,
            late,
            stuck: Backoff::new(Duration::from_secs(5)),
        }
    }

    /// The state begins with a snapshot where there is one; the writer must be of an empty engine, which it replaces.
    #[must_use]
    pub fn starting_from(mut self, start: Option<Start>) -> Self {
        self.start = start;
        self
    }

    /// Histories are kept elsewhere than in the memory of the engine, which must be configured for it.
    #[must_use]
    pub fn keeping_elsewhere(mut self, elsewhere: Option<Elsewhere>) -> Self {
        if let Some(elsewhere) = elsewhere {
            self.learner.keep_elsewhere(elsewhere);
        }
        self
    }

    /// Events that belong to a trace get a span, from their taking to their effect.
    #[must_use]
    pub fn traced(mut self, traces: Traces) -> Self {
        self.learner.traces = traces;
        self
    }

    /// Where the thread tells how far it is.
    pub fn progress(&self) -> Arc<ArcSwap<Progress>> {
        Arc::clone(&self.shared)
    }

    /// The engine's readers' side.
    pub fn reader(&self) -> LateReader {
        self.late.clone()
    }

    /// Works until stopped. An error means that the source is broken for good.
    pub fn run(mut self, stop: &CancellationToken) -> Result<(), SourceError> {
        let result = self.work(stop);
        self.source.close();
        result
    }

    fn work(&mut self, stop: &CancellationToken) -> Result<(), SourceError> {
        let started = Instant::now();
        self.restore(stop);
        let mut phase = Phase::Loading;
        let mut backoff = Backoff::new(Duration::from_secs(5));
        let mut pending = 0;
        // Neighbour lists that waited when the log had been caught up with. They are shown oldest first, so that
        // those of newer events cannot hold readiness back under a load that never lets up.
        let mut lists_left = None;
        // When what was taken first has waited long enough to be shown.
        let mut due = None;
        let mut settled = false;
        while !stop.is_cancelled() {
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            if self.stuck.fails() && !self.learns_on() {
                continue;
            }
            let idle = match (phase, pending) {
                (_, 0) => WAIT,
                (Phase::Serving, _) => self.learner.rest().min(WAIT),
                _ => Duration::ZERO,
            };
            let wait = due.map_or(idle, |due: Instant| {
                idle.min(due.saturating_duration_since(Instant::now()))
            });
            let learner = &mut self.learner;
            let problem = match self.source.poll(wait, &mut |item| learner.take(item)) {
                Ok(taken) => {
                    let now = Instant::now();
                    let full = learner.elsewhere.as_ref().is_some_and(Elsewhere::is_full);
                    let may_wait = taken > 0 && phase == Phase::Serving && !full;
                    if may_wait && now < *due.get_or_insert(now + PUBLISH_EVERY) {
                        continue;
                    }
                    if backoff.succeeded() {
                        tracing::info!("the log can be read again");
                    }
                    self.source.problem()
                }
                Err(e @ SourceError::Thread(_)) => return Err(e),
                Err(e) => {
                    // The client tries again by itself; this only paces what is asked of it and told.
                    backoff.failed();
                    if backoff.worth_telling() {
                        tracing::warn!(error = %e, "the log cannot be read; going on");
                    }
                    std::thread::sleep(Duration::from_millis(50));
                    Some(self.source.problem().unwrap_or_else(|| e.to_string()))
                }
            };
            let now = now_ms();
            let lag = self.source.lag(now);
            let learner = &mut self.learner;
            learner.has_tables |= self.source.has_tables();
            if lag.caught_up || learner.waiting() >= MAX_BULK {
                learner.learn_bulk(now);
            }
            learner.follows |= lag.caught_up;
            due = None;
            if !self.learns_on() {
                continue;
            }
            let learner = &mut self.learner;
            if lag.caught_up && !settled {
                settled = true;
                let positions = self.source.positions();
                learner.settle(positions.topics.get(&learner.lookups.privacy.events));
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

    /// Whether everything that was read has been learned, or forgotten. It has not where histories are kept elsewhere and
    /// do not come: then nothing more is read for now.
    fn learns_on(&mut self) -> bool {
        let learner = &mut self.learner;
        learner.forget_waiting();
        let Err(e) = learner.learn_waiting() else {
            if self.stuck.succeeded() {
                tracing::info!("histories are to be had again: learning goes on");
            }
            return true;
        };
        self.stuck.failed();
        if self.stuck.worth_telling() {
            tracing::warn!(error = %e, "histories are not to be had: learning waits");
        }
        let problem = Some(format!("learning waits for histories: {e}"));
        let phase = self.shared.load().phase;
        self.report(phase, self.source.lag(now_ms()), problem);
        std::thread::sleep(WAIT);
        false
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Tune(tuning, knowledge) => {
                if let Err(e) = self.learner.writer.tune(tuning) {
                    tracing::error!(error = %e, "the engine refuses the new configuration");
                }
                self.learner.writer.set_knowledge(knowledge);
            }
            Command::Bring(Some(artifact)) => self.learner.writer.install_onnx(artifact),
            Command::Bring(None) => self.learner.writer.uninstall_onnx(),
            // Whoever asked may have given up.
            Command::Insights(answer) => drop(answer.send(self.learner.insights.freeze())),
            Command::Install(bundle) => {
                let writer = &mut self.learner.writer;
                for artifact in &bundle.artifacts {
                    writer.install(artifact);
                }
                // A version may lack a model that the one before had.
                for algorithm in [Algorithm::Ease, Algorithm::ImplicitAls] {
                    if bundle
                        .artifacts
                        .iter()
                        .all(|artifact| artifact.algorithm() != algorithm)
                    {
                        writer.uninstall(algorithm);
                    }
                }
                writer.set_blend(bundle.blend);
                // Weights alone are fitted to the past in the same way.
                let fitted = !bundle.artifacts.is_empty();
                self.learner.quality.fitted(fitted.then_some(bundle.trained_ms));
            }
            Command::Freeze(answer) => {
                let started = Instant::now();
                // What a batch that is not published yet wants forgotten must not be kept.
                if !self.learns_on() {
                    return;
                }
                let frozen = self.learner.freeze(self.source.positions());
                self.metrics().snapshot_stall.set(started.elapsed().as_secs_f64());
                // Whoever asked may have given up.
                if let Some(frozen) = frozen {
                    let _ = answer.send(frozen);
                }
            }
        }
    }

    fn metrics(&self) -> &Metrics {
        &self.learner.metrics
    }

    /// Says that the log does not answer yet.
    fn report_waiting(&self) {
        self.report(Phase::Loading, self.source.lag(now_ms()), self.source.problem());
    }

    fn report(&self, phase: Phase, lag: Lag, problem: Option<String>) {
        let drift = self.learner.quality.drift();
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
            taken: self.learner.taken,
            lag,
            log: self.source.state(),
            drift,
            problem,
            at: Instant::now(),
        }));
    }
}
