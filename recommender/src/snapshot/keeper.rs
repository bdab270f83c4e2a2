//! Writes snapshots while the service runs: one replica at a time, and one snapshot a slot; see
//! [`super::names`].

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use object_store::buffered::BufWriter;
use recommendation_api::report::Phase;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::load::{KEPT, Snapshots};
use super::names::{Name, may_begin, slot, ticket};
use super::{Frozen, Manifest, SnapshotError, write};
use crate::clock::now_ms;
use crate::ingest::{Command, Progress};
use crate::metrics::Metrics;
use crate::source::positions::Positions;

/// Bytes gathered before they are handed over, and parts of an upload.
const PIECE: usize = 8 << 20;
/// Pieces that may wait for the network.
const AHEAD: usize = 4;
/// Longest to wait for the ingest thread.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest that writing is taken to last: then another replica begins.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// What happens to the log once snapshots cover it.
pub type Covered = Arc<dyn Fn(&Manifest) + Send + Sync>;

/// The task's work.
pub struct Keeper {
    /// Where snapshots go.
    pub snapshots: Snapshots,
    /// How often.
    pub interval: Duration,
    /// To the ingest thread.
    pub commands: std_mpsc::Sender<Command>,
    /// How far that is.
    pub progress: Arc<ArcSwap<Progress>>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Told, after each snapshot, what the oldest of those that are kept covers.
    pub covered: Option<Covered>,
    /// The topic of erasures, as positions name it.
    pub erasures: String,
}

/// What became of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Written by this replica.
    Written(Name),
    /// Another replica writes it, or did.
    Another,
    /// It was told to stop before it was done.
    Stopped,
}

impl Keeper {
    /// Works until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let interval_ms = i64::try_from(self.interval.as_millis())
            .unwrap_or(i64::MAX)
            .max(1_000);
        let mut written = None;
        loop {
            // In another order each time, and not all replicas at once.
            let next = slot(now_ms(), interval_ms).saturating_add(interval_ms);
            let late = rand::random_range(0..=(interval_ms / 10).min(60_000));
            let pause = Duration::from_millis(u64::try_from(next + late - now_ms()).unwrap_or(0));
            if stop
                .run_until_cancelled(tokio::time::sleep(pause))
                .await
                .is_none()
            {
                return;
            }
            let progress = self.progress.load();
            if progress.phase != Phase::Serving || written == Some(progress.taken) {
                continue; // nothing to write yet, or nothing new
            }
            let taken = progress.taken;
            drop(progress);
            match self.keep(slot(now_ms(), interval_ms), &stop).await {
                Ok(Kept::Written(_)) => written = Some(taken),
                Ok(Kept::Another | Kept::Stopped) => {}
                Err(e) => {
                    self.metrics.snapshots.with_label_values(&["failed"]).inc();
                    tracing::error!(error = %e, store = %self.snapshots.store, "no snapshot was written");
                }
            }
        }
    }

    /// Writes the snapshot of a slot, unless another replica does. What is being written when it is told to `stop` is
    /// given up, and its ticket with it: it would keep all others waiting.
    pub async fn keep(&self, slot: i64, stop: &CancellationToken) -> Result<Kept, SnapshotError> {
        let longest_ms = LONGEST.as_millis() as i64;
        let names: Vec<Name> = self
            .snapshots
            .list()
            .await?
            .iter()
            .map(|listed| listed.name)
            .collect();
        let tickets = self.snapshots.tickets(now_ms()).await?;
        if !may_begin(slot, &names, &tickets, longest_ms)
            || !self.snapshots.store.create(&ticket(slot), "").await?
        {
            return Ok(Kept::Another);
        }
        // The one that had the ticket may have finished between our look and our turn.
        let again = self.snapshots.list().await;
        let result = match again {
            Ok(listed) if listed.iter().all(|listed| listed.name.slot < slot) => {
                match stop.run_until_cancelled(self.write(slot)).await {
                    Some(written) => written.map(Kept::Written),
                    None => Ok(Kept::Stopped),
                }
            }
            Ok(_) => Ok(Kept::Another),
            Err(e) => Err(e.into()),
        };
        // Whatever happened, the next slot need not wait for this one.
        let removed = self.snapshots.store.remove(&ticket(slot)).await;
        let kept = result?;
        removed?;
        let Kept::Written(name) = kept else {
            return Ok(kept);
        };
        self.snapshots.prune(KEPT, now_ms(), longest_ms).await?;
        self.remove_outdated(name).await?;
        if let Some(covered) = &self.covered
            && let Some(oldest) = self.snapshots.list().await?.last()
        {
            let (covered, manifest) = (Arc::clone(covered), self.snapshots.manifest(oldest.name).await?);
            tokio::task::spawn_blocking(move || covered(&manifest))
                .await
                .map_err(io::Error::other)?;
        }
        Ok(Kept::Written(name))
    }

    /// Removes snapshots from before an erasure that the newest one knows of: what is to be forgotten stands in them.
    async fn remove_outdated(&self, newest: Name) -> Result<(), SnapshotError> {
        let known = self.snapshots.manifest(newest).await?.positions;
        if !Positions::default().lacks(&known, &self.erasures) {
            return Ok(()); // nobody was ever erased
        }
        for old in self.snapshots.list().await? {
            if old.name >= newest {
                continue;
            }
            // One that cannot be read serves nobody, and might hold anything.
            let lacks = match self.snapshots.manifest(old.name).await {
                Ok(manifest) => manifest.positions.lacks(&known, &self.erasures),
                Err(SnapshotError::Store(e)) => return Err(e.into()),
                Err(_) => true,
            };
            if lacks {
                self.snapshots.store.remove(&old.name.path()).await?;
                tracing::info!(name = %old.name, "snapshot from before an erasure removed");
            }
        }
        Ok(())
    }

    async fn write(&self, slot: i64) -> Result<Name, SnapshotError> {
        let (answer, frozen) = oneshot::channel();
        self.commands
            .send(Command::Freeze(answer))
            .map_err(|_| SnapshotError::NoAnswer)?;
        let frozen = tokio::time::timeout(FREEZE_TIMEOUT, frozen).await;
        let frozen = frozen.ok().and_then(Result::ok).ok_or(SnapshotError::NoAnswer)?;
        let started = Instant::now();
        let created_ms = frozen.manifest.created_ms;
        let name = Name { slot, created_ms };
        let bytes = upload(&self.snapshots, name, frozen).await?;
        self.metrics.snapshots.with_label_values(&["written"]).inc();
        self.metrics.snapshot_created.set(created_ms as f64 / 1000.0);
        tracing::info!(%name, bytes, took = ?started.elapsed(), "snapshot written");
        Ok(name)
    }
}

/// Writes a snapshot to its store: it appears as a whole or not at all. Returns its size in bytes.
pub async fn upload(snapshots: &Snapshots, name: Name, frozen: Frozen) -> Result<u64, SnapshotError> {
    let (objects, path) = snapshots.store.raw(&name.path());
    let mut upload = BufWriter::with_capacity(objects, path, PIECE);
    let (pieces, mut inbox) = mpsc::channel::<Bytes>(AHEAD);
    let writing = tokio::task::spawn_blocking(move || -> Result<(), SnapshotError> {
        let mut out = Pieces {
            pieces,
            gathered: Vec::with_capacity(PIECE),
        };
        write(&frozen, &mut out)?;
        Ok(out.flush()?)
    });
    let mut bytes = 0;
    let sent: Result<(), io::Error> = async {
        while let Some(piece) = inbox.recv().await {
            bytes += piece.len() as u64;
            upload.put(piece).await?;
        }
        Ok(())
    }
    .await;
    drop(inbox); // were sending to fail, writing must not wait for it
    let written = writing.await.map_err(io::Error::other)?;
    // Without this it would be an object, and look like a snapshot.
    let done = match (sent, written) {
        (Ok(()), Ok(())) => upload.shutdown().await.map_err(SnapshotError::from),
        (Err(e), _) => Err(e.into()),
        (_, Err(e)) => Err(e),
    };
    if done.is_err() {
        // What was sent so far goes, as far as the store lets it.
        let _ = upload.abort().await;
    }
    done.map(|()| bytes)
}

/// Hands what is written to it over in large pieces.
struct Pieces {
    pieces: mpsc::Sender<Bytes>,
    gathered: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.gathered, Vec::with_capacity(PIECE));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the upload has ended");
        self.pieces.blocking_send(piece.into()).map_err(gone)
    }
}
