//! The model that the user brings: read from its store at the start, when the configuration names another one, and
//! when the file has changed; checked, and handed to the engine. Until one is there, Hybrid answers for it; one that
//! cannot be used leaves the one before in place. `/status` says why.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use recommendation_api::config::OnnxConfig;
use recommender_engine::{OnnxArtifact, OnnxError, OnnxModel};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::config::{Brought, Live};
use crate::ingest::Command;
use crate::metrics::Metrics;
use crate::retry::Backoff;
use crate::store::{Store, StoreError};

/// How often the configuration is looked at; it is in memory.
const NOTICE_EVERY: Duration = Duration::from_millis(500);
/// How often the store is asked whether the file has changed.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How often while it does not answer, or the file is not there.
const LOST_EVERY: Duration = Duration::from_secs(60);
/// Larger files are not fetched; the engine refuses them anyway.
const MAX_BYTES: u64 = 256 << 20;

/// Why a model is not used.
#[derive(Debug, thiserror::Error)]
pub enum BringError {
    /// The store does not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such file.
    #[error("there is no {0}")]
    Missing(String),
    /// The file is not a model for the engine.
    #[error("{url}: {source}")]
    Refused {
        /// The file.
        url: String,
        /// Why.
        source: OnnxError,
    },
    /// A thread panicked.
    #[error("reading ended unexpectedly: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

/// What tells one state of a file from another: its ETag, its time, its size.
type Seen = (Option<String>, i64, u64);

/// The task's work.
pub struct Bringing {
    /// Where the file's address is, and where what became of it is told.
    pub live: Arc<ArcSwap<Live>>,
    /// Where credentials lie.
    pub secrets_dir: PathBuf,
    /// To the ingest thread, which owns the engine.
    pub commands: mpsc::Sender<Command>,
    /// Loads are counted.
    pub metrics: Arc<Metrics>,
}

impl Bringing {
    /// Works until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut config = None;
        let mut seen = None;
        let mut backoff = Backoff::new(LOST_EVERY);
        let mut due = Instant::now();
        loop {
            let wanted = self.live.load().onnx.clone();
            if wanted != config {
                config = wanted;
                (seen, backoff, due) = (None, Backoff::new(LOST_EVERY), Instant::now());
                if config.is_none() {
                    self.remove();
                }
            }
            if let Some(config) = &config
                && due <= Instant::now()
            {
                let looking = self.look(config, &mut seen);
                let pause = match stop.run_until_cancelled(looking).await {
                    None => return,
                    Some(Ok(())) => {
                        backoff.succeeded();
                        LOOK_EVERY.mul_f64(rand::random_range(0.8..1.2))
                    }
                    Some(Err(e)) => {
                        let again = backoff.failed();
                        if backoff.worth_telling() {
                            tracing::warn!(error = %e, again_in = ?again, "the model of model.onnx is not used");
                        }
                        self.failed(&e);
                        again
                    }
                };
                due = Instant::now() + pause;
            }
            if stop
                .run_until_cancelled(tokio::time::sleep(NOTICE_EVERY))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    /// Reads the file if it is another one than `seen`. What was refused once is not read again before it changes.
    async fn look(&self, config: &OnnxConfig, seen: &mut Option<Seen>) -> Result<(), BringError> {
        let (store, name) = Store::of_model(config, &self.secrets_dir)?;
        let missing = || BringError::Missing(config.url.clone());
        let meta = store.head(&name).await?.ok_or_else(missing)?;
        let now: Seen = (meta.e_tag, meta.last_modified.timestamp_millis(), meta.size);
        if seen.as_ref() == Some(&now) {
            return Ok(());
        }
        let artifact = match self.read(config, &store, &name, now.2).await {
            Ok(artifact) => artifact,
            Err(e @ BringError::Refused { .. }) => {
                *seen = Some(now);
                return Err(e);
            }
            Err(e) => return Err(e),
        };
        let version = artifact.version().to_owned();
        if self.commands.send(Command::Bring(Some(artifact))).is_ok() {
            let brought = Brought {
                version: Some(version.clone()),
                problem: None,
            };
            self.live.rcu(|live| live.with_brought(brought.clone()));
            self.metrics
                .quality
                .onnx_loads
                .with_label_values(&["installed"])
                .inc();
            tracing::info!(version, url = config.url, "the model of model.onnx is swapped in");
        }
        *seen = Some(now);
        Ok(())
    }

    async fn read(
        &self,
        config: &OnnxConfig,
        store: &Store,
        name: &str,
        bytes: u64,
    ) -> Result<OnnxArtifact, BringError> {
        let refused = |source| BringError::Refused {
            url: config.url.clone(),
            source,
        };
        if bytes > MAX_BYTES {
            return Err(refused(OnnxError::TooLarge {
                bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
                limit: MAX_BYTES as usize,
            }));
        }
        let bytes = store
            .get(name)
            .await?
            .ok_or_else(|| BringError::Missing(config.url.clone()))?;
        // Optimising a large graph takes seconds, which no other task may wait for.
        let reading = tokio::task::spawn_blocking(move || {
            // The same on every replica that read the same file.
            let version = format!("onnx-{}", &hex::encode(Sha256::digest(&bytes))[..8]);
            OnnxModel::read(&bytes, None, &version)
        });
        reading.await?.map_err(refused)
    }

    fn failed(&self, error: &BringError) {
        self.metrics
            .quality
            .onnx_loads
            .with_label_values(&["failed"])
            .inc();
        self.live.rcu(|live| {
            live.with_brought(Brought {
                problem: Some(error.to_string()),
                ..live.brought.clone()
            })
        });
    }

    fn remove(&self) {
        // An ingest thread that has ended ends the service.
        let _ = self.commands.send(Command::Bring(None));
        self.live.rcu(|live| live.with_brought(Brought::default()));
        tracing::info!("model.onnx is gone from the configuration: Hybrid answers for Onnx");
    }
}
