//! Finding, reading and removing snapshots in their store.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use object_store::ObjectStoreExt as _;
use tokio::sync::mpsc;

use super::names::{Name, SNAPSHOTS, TICKETS};
use super::{HEAD, Manifest, SnapshotError, manifest_length, read_manifest};
use crate::store::{Store, StoreError};

/// Snapshots that are kept; older ones are removed.
pub const KEPT: usize = 3;
/// A snapshot is fetched in pieces of this size,
const PIECE: u64 = 4 << 20;
/// so many at once: one stream of an object store is slower than what reads it.
const AT_ONCE: usize = 3;

/// A snapshot as its store lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: Name,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The snapshots of one pipeline.
#[derive(Clone)]
pub struct Snapshots {
    /// Where they lie.
    pub store: Store,
}

impl Snapshots {
    /// All of them, newest first.
    pub async fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let all = self
            .store
            .list(SNAPSHOTS)
            .await?
            .into_iter()
            .filter_map(|(name, meta)| {
                Some(Listed {
                    name: Name::parse(&name)?,
                    bytes: meta.size,
                })
            });
        let mut all: Vec<Listed> = all.collect();
        all.sort_by_key(|listed| std::cmp::Reverse(listed.name));
        Ok(all)
    }

    /// What one tells of itself.
    pub async fn manifest(&self, name: Name) -> Result<Manifest, SnapshotError> {
        let path = name.path();
        let head = self.store.range(&path, 0..HEAD).await?;
        let end = HEAD + manifest_length(&head)?;
        let bytes = self.store.range(&path, 0..end).await?;
        read_manifest(&mut bytes.reader())
    }

    /// Reads one from its start; to be read on a thread that may block. To be called within a tokio runtime.
    pub fn open(&self, name: Name) -> Body {
        let (objects, path) = self.store.raw(&name.path());
        let (pieces, inbox) = mpsc::channel(1);
        tokio::spawn(async move {
            let bytes = match objects.head(&path).await {
                Ok(meta) => meta.size,
                Err(e) => {
                    let _ = pieces.send(Err(io::Error::other(e))).await;
                    return;
                }
            };
            let piece = |at: u64| objects.get_range(&path, at..bytes.min(at + PIECE));
            let starts = (0..bytes).step_by(PIECE as usize);
            let mut stream = futures::stream::iter(starts).map(piece).buffered(AT_ONCE);
            while let Some(piece) = stream.next().await {
                // Whoever reads may have seen enough.
                if pieces.send(piece.map_err(io::Error::other)).await.is_err() {
                    return;
                }
            }
        });
        Body {
            inbox,
            piece: Bytes::new(),
        }
    }

    /// Removes all but the newest `kept`, and tickets older than `longest_ms`; returns how many snapshots went.
    pub async fn prune(&self, kept: usize, now_ms: i64, longest_ms: i64) -> Result<usize, StoreError> {
        let mut removed = 0;
        for old in self.list().await?.into_iter().skip(kept) {
            self.store.remove(&old.name.path()).await?;
            removed += 1;
        }
        for (slot, age_ms) in self.tickets(now_ms).await? {
            if age_ms > longest_ms {
                self.store.remove(&super::names::ticket(slot)).await?;
            }
        }
        Ok(removed)
    }

    /// Tickets, each with its slot and its age in milliseconds.
    pub async fn tickets(&self, now_ms: i64) -> Result<Vec<(i64, i64)>, StoreError> {
        let all = self
            .store
            .list(TICKETS)
            .await?
            .into_iter()
            .filter_map(|(name, meta)| {
                let age_ms = now_ms - meta.last_modified.timestamp_millis();
                Some((name.parse().ok()?, age_ms))
            });
        Ok(all.collect())
    }
}

/// The bytes of a snapshot as they arrive.
pub struct Body {
    inbox: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.inbox.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece?,
            }
        }
        let n = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..n]);
        Ok(n)
    }
}
