//! The start: the newest snapshot that can be used and that belongs to this log.

use std::time::{Duration, Instant};

use recommender_engine::EngineConfig;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Ingest;
use crate::clock::now_ms;
use crate::retry::Backoff;
use crate::snapshot::load::{Listed, Snapshots};
use crate::snapshot::{self, Restored, SnapshotError};
use crate::source::positions::ResumeError;

/// How often the log is asked whether it is there.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Where snapshots are looked for at the start.
pub struct Start {
    /// Where they lie.
    pub snapshots: Snapshots,
    /// What the engine is told.
    pub engine: EngineConfig,
    /// For calls of the store.
    pub runtime: Handle,
}

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
enum Skip {
    #[error("{0}")]
    Unreadable(#[from] SnapshotError),
    #[error("{0}")]
    OtherLog(String),
    #[error("it is {} hours old, and deletions from the catalogue may be gone since", .0 / 3_600_000)]
    TooOld(i64),
    #[error("it does not tell what was counted of histories in Redis")]
    Uncounted,
    #[error("the program ends")]
    Stopped,
}

impl Ingest {
    /// Goes on from the newest snapshot that can be used; without one, from the log's start.
    pub(super) fn restore(&mut self, stop: &CancellationToken) {
        let Some(start) = self.start.take() else { return };
        let Some(listed) = list(&start, stop) else { return };
        for candidate in &listed {
            let began = Instant::now();
            match self.try_snapshot(&start, candidate, stop) {
                Ok(restored) => {
                    self.metrics()
                        .snapshot_created
                        .set(restored.manifest.created_ms as f64 / 1000.0);
                    tracing::info!(
                        snapshot = %candidate.name,
                        bytes = candidate.bytes,
                        events = restored.manifest.events,
                        customers = restored.manifest.customers,
                        took = ?began.elapsed(),
                        "snapshot loaded; the log is read on from where it ends"
                    );
                    self.source.resume(&restored.manifest.positions);
                    self.late.settle(restored.reader.clone());
                    self.learner.restore(restored);
                    return;
                }
                Err(Skip::Stopped) => return,
                Err(e) => {
                    self.metrics().snapshots.with_label_values(&["skipped"]).inc();
                    tracing::warn!(snapshot = %candidate.name, reason = %e, "snapshot not used; trying the one before");
                }
            }
        }
        let found = listed.len();
        tracing::info!(found, store = %start.snapshots.store, "no snapshot to start from: the whole log is read");
    }

    fn try_snapshot(
        &mut self,
        start: &Start,
        candidate: &Listed,
        stop: &CancellationToken,
    ) -> Result<Restored, Skip> {
        let manifest = start.runtime.block_on(start.snapshots.manifest(candidate.name))?;
        let age_ms = now_ms() - manifest.created_ms;
        if self
            .source
            .oldest_resumable()
            .is_some_and(|oldest| age_ms > oldest.as_millis() as i64)
        {
            return Err(Skip::TooOld(age_ms));
        }
        loop {
            match self.source.recognise(&manifest.positions) {
                Ok(()) => break,
                Err(ResumeError::Never(why)) => return Err(Skip::OtherLog(why)),
                Err(ResumeError::NotYet) => {
                    self.report_waiting();
                    if stop.is_cancelled() {
                        return Err(Skip::Stopped);
                    }
                    std::thread::sleep(ASK_AGAIN);
                }
            }
        }
        let mut body = {
            let _runtime = start.runtime.enter();
            start.snapshots.open(candidate.name)
        };
        let restored = snapshot::read(start.engine.clone(), &mut body)?;
        if self.learner.elsewhere.is_some() && restored.elsewhere.is_none() {
            return Err(Skip::Uncounted);
        }
        Ok(restored)
    }
}

/// What there is, newest first; `None` if the store does not answer in several attempts, or it is time to end.
fn list(start: &Start, stop: &CancellationToken) -> Option<Vec<Listed>> {
    let mut backoff = Backoff::new(Duration::ZERO);
    loop {
        match start.runtime.block_on(start.snapshots.list()) {
            Ok(listed) => return Some(listed),
            Err(e) => {
                let again = backoff.failed();
                if backoff.lasts() {
                    tracing::error!(error = %e, "the snapshot store does not answer: the whole log is read");
                    return None;
                }
                tracing::warn!(error = %e, again_in = ?again, "the snapshot store does not answer");
                start
                    .runtime
                    .block_on(stop.run_until_cancelled(tokio::time::sleep(again)))?;
            }
        }
    }
}
