//! A model without a service around it: reads its snapshot and the log up to its end, for commands that need
//! what a replica knows (the trainer, `snapshot create`). It writes neither dead letters nor offsets.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use arc_swap::ArcSwap;
use recommendation_api::config::RecommenderConfig;
use recommendation_api::report::Phase;
use recommender_engine::EngineConfig;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::ingest::{Command, Ingest, LateReader, Lookups, Progress, Start};
use crate::metrics::Metrics;
use crate::model;
use crate::service::{Mode, StartError, privacy};
use crate::snapshot::Frozen;
use crate::snapshot::load::Snapshots;
use crate::source::embedded::EmbeddedSource;
use crate::source::kafka::{KafkaSource, events_topic};
use crate::source::{Source, SourceError};

/// How often it is looked at how far reading is.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A model that follows its log on a thread of its own.
pub struct Headless {
    /// The engine's readers' side.
    pub reader: LateReader,
    /// How far it is.
    pub progress: Arc<ArcSwap<Progress>>,
    /// Metrics, which nobody scrapes.
    pub metrics: Arc<Metrics>,
    commands: mpsc::Sender<Command>,
    stop: CancellationToken,
    ended: oneshot::Receiver<Result<(), SourceError>>,
}

impl Headless {
    /// Starts to read: a snapshot where there is one that can be used, then the log.
    pub fn start(
        config: &RecommenderConfig,
        secrets_dir: &Path,
        mode: &Mode,
        snapshots: Option<Snapshots>,
    ) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new()?);
        // On its own: Redis holds the histories of those who serve.
        let engine = EngineConfig {
            recalls: false,
            ..model::engine_config(config)?
        };
        let (writer, _) = recommender_engine::engine(engine.clone())?;
        let source: Box<dyn Source> = match mode {
            Mode::Embedded(path) => {
                Box::new(EmbeddedSource::open(path, Arc::default(), Arc::clone(&metrics))?)
            }
            Mode::Kafka => {
                let kafka = config.kafka.as_ref().ok_or(StartError::NoKafka)?;
                let client = crate::kafka::client(kafka, secrets_dir, "recommender-headless")?;
                Box::new(KafkaSource::follow(&client, config)?)
            }
        };
        let (commands, inbox) = mpsc::channel();
        let runtime = tokio::runtime::Handle::current();
        let start = snapshots.map(|snapshots| Start {
            snapshots,
            engine,
            runtime,
        });
        let ingest = Ingest::new(
            source,
            writer,
            events_topic(config).1,
            Arc::clone(&metrics),
            inbox,
            config.quality.max_lag_seconds,
            Lookups {
                privacy: Arc::new(privacy(config, secrets_dir, mode)?),
                ..Lookups::default()
            },
        )
        .starting_from(start);
        let (reader, progress) = (ingest.reader(), ingest.progress());
        let stop = CancellationToken::new();
        let (done, ended) = oneshot::channel();
        let ingest_stop = stop.clone();
        std::thread::Builder::new()
            .name("ingest".into())
            .spawn(move || {
                // Whoever started it may be gone, which is all that this failing would mean.
                let _ = done.send(ingest.run(&ingest_stop));
            })
            .map_err(StartError::Thread)?;
        Ok(Self {
            reader,
            progress,
            metrics,
            commands,
            stop,
            ended,
        })
    }

    /// Waits until everything that stood in the log has been read. An error means that the log is broken.
    pub async fn caught_up(&mut self) -> Result<(), SourceError> {
        loop {
            if self.progress.load().phase == Phase::Serving {
                return Ok(());
            }
            let pause = tokio::time::sleep(LOOK_EVERY);
            tokio::select! {
                ended = &mut self.ended => return ended.unwrap_or(Err(SourceError::Thread("ingest"))),
                () = pause => {}
            }
        }
    }

    /// The state as it is now; `None` before the log was caught up with.
    pub async fn freeze(&self) -> Option<Frozen> {
        let (answer, frozen) = oneshot::channel();
        self.commands.send(Command::Freeze(answer)).ok()?;
        frozen.await.ok()
    }

    /// Ends it.
    pub async fn stop(mut self) {
        self.stop.cancel();
        // It ends either way; its result tells nothing that matters any more.
        let _ = (&mut self.ended).await;
    }
}

impl Drop for Headless {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
