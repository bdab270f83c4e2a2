//! A replica follows the shelf: what stands in front there answers here.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::shelf::{Shelf, ShelfError};
use crate::config::{FittedVersion, Live};
use crate::ingest::Command;
use crate::retry::Backoff;

/// How often the shelf is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How often while it does not answer.
const LOST_EVERY: Duration = Duration::from_secs(60);

/// The task's work.
pub struct Follow {
    /// The versions.
    pub shelf: Shelf,
    /// To the ingest thread, which owns the engine.
    pub commands: mpsc::Sender<Command>,
    /// Where answers take the version's name from.
    pub live: Arc<ArcSwap<Live>>,
}

impl Follow {
    /// Looks until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut installed = None;
        let mut backoff = Backoff::new(LOST_EVERY);
        loop {
            let pause = match self.look(&mut installed).await {
                Ok(()) => {
                    backoff.succeeded();
                    LOOK_EVERY.mul_f64(rand::random_range(0.8..1.2))
                }
                Err(e) => {
                    let again = backoff.failed();
                    if backoff.worth_telling() {
                        tracing::warn!(error = %e, again_in = ?again, "fitted models are not up to date");
                    }
                    again
                }
            };
            if stop
                .run_until_cancelled(tokio::time::sleep(pause))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    async fn look(&self, installed: &mut Option<String>) -> Result<(), ShelfError> {
        let current = self.shelf.current().await?;
        let Some(version) = current.filter(|version| installed.as_ref() != Some(version)) else {
            return Ok(());
        };
        let bundle = self.shelf.load(&version).await?;
        let fitted = FittedVersion {
            version: version.clone(),
            trained_ms: bundle.trained_ms,
        };
        if self.commands.send(Command::Install(Box::new(bundle))).is_ok() {
            self.live.rcu(|live| live.with_fitted(Some(fitted.clone())));
            tracing::info!(version, "fitted models swapped in");
        }
        *installed = Some(version);
        Ok(())
    }
}
