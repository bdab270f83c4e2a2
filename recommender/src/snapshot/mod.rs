//! A replica's state as one object: what the engine learned, the event ids that it remembers, and up to where
//! it read the log. Whoever loads it reads on from there and ends up exactly where it would have by reading
//! the log from its start.
//!
//! ```text
//! "RECSTATE"  layout u32  oldest layout that can read it u32
//! manifest    length u64  checksum u64  JSON, see [`Manifest`]
//! dedup       length u64  checksum u64  partitions, each with its number and what it remembers
//! engine      it carries its own version, lengths and checksums
//! insights    length u64  checksum u64  where the manifest says so; who does not know of it stops before it
//! drift       length u64  checksum u64  JSON, where the manifest says so, as above
//! elsewhere   length u64  checksum u64  postcard, where the manifest says so; who does not know of it reads no such layout
//! ```
//!
//! Numbers are little-endian, checksums XXH3. New fields of the manifest have defaults, so that the version before
//! and the one after read each other's.

pub mod keeper;
pub mod load;
pub mod names;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use recommender_engine::drift::Drift;
use recommender_engine::snapshot as engine;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::histories::Written;
use crate::insights::{Insights, Kept, codec};
use crate::source::dedup::Dedup;
use crate::source::positions::Positions;
use crate::store::StoreError;

const MAGIC: &[u8; 8] = b"RECSTATE";
/// The layout that is written.
const LAYOUT: u32 = 2;
/// The oldest that is read, and the oldest program that reads what is written.
const OLDEST: u32 = 1;
/// The oldest program that reads what is written where histories are kept elsewhere.
const OLDEST_ELSEWHERE: u32 = 2;
/// Length of what stands before the manifest's JSON.
pub(crate) const HEAD: u64 = 32;
/// Lengths beyond these are damage, not data.
const MAX_MANIFEST: u64 = 16 << 20;
const MAX_DEDUP: u64 = 4 << 30;
const MAX_INSIGHTS: u64 = 1 << 30;
const MAX_ELSEWHERE: u64 = 4 << 30;

/// What is known of a snapshot without reading it whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Manifest {
    /// Version of the program that wrote it.
    pub program: String,
    /// When it was taken, milliseconds since 1970.
    pub created_ms: i64,
    /// Up to where the log is in it.
    pub positions: Positions,
    /// Valid events in it, duplicates not counted.
    pub events: u64,
    /// Malformed records met.
    pub malformed: u64,
    /// Customers known.
    pub customers: u64,
    /// Products known.
    pub products: u64,
    /// Whether the records follow that figures are made of.
    pub insights: bool,
    /// Whether what is counted for drift stands behind that.
    pub drift: bool,
    /// Whether histories are kept elsewhere; what was counted of them stands at the end.
    pub elsewhere: bool,
}

/// Everything that goes into a snapshot, taken at one moment; later records do not change it.
pub struct Frozen {
    /// What is told of it.
    pub manifest: Manifest,
    /// What is remembered of event ids, written by [`write_dedup`].
    pub dedup: Vec<u8>,
    /// What was learned.
    pub engine: engine::Snapshot,
    /// The records that figures are made of.
    pub insights: Kept,
    /// What is counted for drift.
    pub drift: Drift,
    /// What was counted of histories that are kept elsewhere.
    pub elsewhere: Option<Written>,
}

/// Why a snapshot cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The object store does not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Bytes cannot be moved.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("it is not a snapshot")]
    Format,
    /// Written by a program that is too new or too old.
    #[error("it has layout {found}, and this program reads up to {LAYOUT}")]
    Layout {
        /// Its layout.
        found: u32,
    },
    /// Damaged on the way.
    #[error("it is damaged: the checksum of its {0} differs")]
    Checksum(&'static str),
    /// Its parts do not fit together.
    #[error("it is damaged: its {0} cannot be understood")]
    Damaged(&'static str),
    /// The engine refuses its part.
    #[error(transparent)]
    Engine(#[from] engine::SnapshotError),
    /// The ingest thread does not answer.
    #[error("the ingest thread did not hand over its state")]
    NoAnswer,
}

fn block(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(&xxh3_64(bytes).to_le_bytes())?;
    out.write_all(bytes)
}

fn take<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_block(input: &mut impl Read, name: &'static str, longest: u64) -> Result<Vec<u8>, SnapshotError> {
    let length = u64::from_le_bytes(take(input)?);
    let sum = u64::from_le_bytes(take(input)?);
    if length > longest {
        return Err(SnapshotError::Damaged(name));
    }
    // Grows with what is there, not with what the length claims.
    let mut bytes = Vec::new();
    input.by_ref().take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length || xxh3_64(&bytes) != sum {
        return Err(SnapshotError::Checksum(name));
    }
    Ok(bytes)
}

/// What is remembered of event ids, by partition, as bytes.
pub fn write_dedup(dedup: &BTreeMap<i32, Dedup>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (partition, dedup) in dedup {
        bytes.extend_from_slice(&partition.to_le_bytes());
        // A vector takes whatever is written to it.
        let _ = dedup.write(&mut bytes);
    }
    bytes
}

fn parse_dedup(mut bytes: &[u8]) -> Result<BTreeMap<i32, Dedup>, SnapshotError> {
    let damaged = |_| SnapshotError::Damaged("event ids");
    let mut dedup = BTreeMap::new();
    while !bytes.is_empty() {
        let partition = i32::from_le_bytes(take(&mut bytes).map_err(damaged)?);
        dedup.insert(partition, Dedup::read(&mut bytes).map_err(damaged)?);
    }
    Ok(dedup)
}

/// Writes a snapshot.
pub fn write(frozen: &Frozen, out: &mut impl Write) -> Result<(), SnapshotError> {
    out.write_all(MAGIC)?;
    out.write_all(&LAYOUT.to_le_bytes())?;
    let oldest = match frozen.elsewhere {
        Some(_) => OLDEST_ELSEWHERE,
        None => OLDEST,
    };
    out.write_all(&oldest.to_le_bytes())?;
    let manifest = serde_json::to_vec(&frozen.manifest).map_err(io::Error::other)?;
    block(out, &manifest)?;
    block(out, &frozen.dedup)?;
    frozen.engine.write(out)?;
    if frozen.manifest.insights {
        block(out, &codec::write(&frozen.insights))?;
    }
    if frozen.manifest.drift {
        block(out, &serde_json::to_vec(&frozen.drift).map_err(io::Error::other)?)?;
    }
    if let Some(elsewhere) = &frozen.elsewhere {
        block(out, &postcard::to_allocvec(elsewhere).map_err(io::Error::other)?)?;
    }
    Ok(())
}

/// How long the manifest is that follows these first [`HEAD`] bytes.
pub(crate) fn manifest_length(mut head: &[u8]) -> Result<u64, SnapshotError> {
    layout(&mut head)?;
    let length = u64::from_le_bytes(take(&mut head)?);
    if length > MAX_MANIFEST {
        return Err(SnapshotError::Damaged("manifest"));
    }
    Ok(length)
}

fn layout(input: &mut impl Read) -> Result<(), SnapshotError> {
    let magic: [u8; 8] = take(input).map_err(|_| SnapshotError::Format)?;
    if &magic != MAGIC {
        return Err(SnapshotError::Format);
    }
    let (found, oldest) = (u32::from_le_bytes(take(input)?), u32::from_le_bytes(take(input)?));
    if found < OLDEST || oldest > LAYOUT {
        return Err(SnapshotError::Layout { found });
    }
    Ok(())
}

/// Reads a snapshot's manifest, and nothing behind it.
pub fn read_manifest(input: &mut impl Read) -> Result<Manifest, SnapshotError> {
    layout(input)?;
    let manifest = read_block(input, "manifest", MAX_MANIFEST)?;
    serde_json::from_slice(&manifest).map_err(|_| SnapshotError::Damaged("manifest"))
}

/// A replica's state, read back.
pub struct Restored {
    /// What was told of it.
    pub manifest: Manifest,
    /// What is remembered of event ids, by partition.
    pub dedup: BTreeMap<i32, Dedup>,
    /// The engine's one writer.
    pub writer: recommender_engine::Writer,
    /// And its reader.
    pub reader: recommender_engine::Reader,
    /// The records that figures are made of.
    pub insights: Insights,
    /// What was counted for drift.
    pub drift: Option<Drift>,
    /// What was counted of histories that are kept elsewhere.
    pub elsewhere: Option<Written>,
}

/// Reads a snapshot as a whole.
pub fn read(
    config: recommender_engine::EngineConfig,
    input: &mut impl Read,
) -> Result<Restored, SnapshotError> {
    let manifest = read_manifest(input)?;
    let dedup = parse_dedup(&read_block(input, "event ids", MAX_DEDUP)?)?;
    let (writer, reader) = engine::read(config, input)?;
    let insights = if manifest.insights {
        let bytes = read_block(input, "insights", MAX_INSIGHTS)?;
        codec::read(&bytes).map_err(|_| SnapshotError::Damaged("insights"))?
    } else {
        Insights::default()
    };
    let drift = if manifest.drift {
        let bytes = read_block(input, "drift", MAX_INSIGHTS)?;
        Some(serde_json::from_slice(&bytes).map_err(|_| SnapshotError::Damaged("drift"))?)
    } else {
        None
    };
    let elsewhere = if manifest.elsewhere {
        let bytes = read_block(input, "histories", MAX_ELSEWHERE)?;
        Some(postcard::from_bytes(&bytes).map_err(|_| SnapshotError::Damaged("histories"))?)
    } else {
        None
    };
    Ok(Restored {
        manifest,
        dedup,
        writer,
        reader,
        insights,
        drift,
        elsewhere,
    })
}

#[cfg(test)]
mod tests;
