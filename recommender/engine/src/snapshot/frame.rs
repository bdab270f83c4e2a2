//! The outside of a snapshot: a header, then sections, each with its name, length and checksum.
//!
//! ```text
//! header   "RECSNAP\n"  version u32  oldest version that can read it u32  checksum u64
//! section  name [u8; 4]  length u64  checksum u64  payload
//! last     section "END " whose payload is empty
//! ```
//!
//! All numbers are little-endian. A checksum is XXH3 with the section's number and name as its seed, so that
//! sections that were lost, doubled or swapped are found as well as flipped bits. Sections of names that are
//! not known are checked and skipped.

use std::io::{Read, Write};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::SnapshotError;

const MAGIC: &[u8; 8] = b"RECSNAP\n";
/// The layout written here.
pub(crate) const VERSION: u32 = 1;
/// The oldest layout that is read here, and the oldest program that can read what is written here: raised
/// only when a section changes its meaning, not when one is added.
pub(crate) const OLDEST: u32 = 1;
/// A section is written when it has grown to this.
pub(crate) const BLOCK: usize = 1 << 20;
/// One that claims more than this is damaged.
const LARGEST: u64 = 1 << 30;

/// A section's name.
pub(crate) type Name = [u8; 4];

const END: Name = *b"END ";

fn seed(number: u32, name: Name) -> u64 {
    u64::from(number) << 32 | u64::from(u32::from_le_bytes(name))
}

fn header(version: u32, oldest: u32) -> [u8; 24] {
    let mut header = [0; 24];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&version.to_le_bytes());
    header[12..16].copy_from_slice(&oldest.to_le_bytes());
    let sum = xxh3_64_with_seed(&header[..16], 0);
    header[16..].copy_from_slice(&sum.to_le_bytes());
    header
}

/// Writes sections.
pub(crate) struct FrameWriter<'a, W: Write> {
    out: &'a mut W,
    number: u32,
}

impl<'a, W: Write> FrameWriter<'a, W> {
    pub fn new(out: &'a mut W, version: u32, oldest: u32) -> Result<Self, SnapshotError> {
        out.write_all(&header(version, oldest))
            .map_err(SnapshotError::Write)?;
        Ok(FrameWriter { out, number: 0 })
    }

    pub fn section(&mut self, name: Name, payload: &[u8]) -> Result<(), SnapshotError> {
        let sum = xxh3_64_with_seed(payload, seed(self.number, name));
        self.number += 1;
        let mut head = [0; 20];
        head[..4].copy_from_slice(&name);
        head[4..12].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        head[12..].copy_from_slice(&sum.to_le_bytes());
        let mut write = |bytes: &[u8]| self.out.write_all(bytes).map_err(SnapshotError::Write);
        write(&head)?;
        write(payload)
    }

    pub fn finish(mut self) -> Result<(), SnapshotError> {
        self.section(END, &[])?;
        self.out.flush().map_err(SnapshotError::Write)
    }
}

/// Reads sections.
pub(crate) struct FrameReader<'a, R: Read> {
    input: &'a mut R,
    number: u32,
    payload: Vec<u8>,
}

impl<'a, R: Read> FrameReader<'a, R> {
    pub fn new(input: &'a mut R) -> Result<Self, SnapshotError> {
        let mut found = [0; 24];
        read(input, &mut found)?;
        if found[..8] != *MAGIC {
            return Err(SnapshotError::Format);
        }
        let number = |at: usize| u32::from_le_bytes([found[at], found[at + 1], found[at + 2], found[at + 3]]);
        let (version, oldest) = (number(8), number(12));
        if found != header(version, oldest) {
            return Err(SnapshotError::Checksum {
                section: "header".into(),
            });
        }
        if version < OLDEST || oldest > VERSION {
            return Err(SnapshotError::Version {
                found: version,
                supported: VERSION,
            });
        }
        let payload = Vec::new();
        Ok(FrameReader {
            input,
            number: 0,
            payload,
        })
    }

    /// The next section; `None` after the last. Its payload may be taken.
    pub fn next(&mut self) -> Result<Option<(Name, &mut Vec<u8>)>, SnapshotError> {
        let mut head = [0; 20];
        read(self.input, &mut head)?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let name = [head[0], head[1], head[2], head[3]];
        let (length, sum) = (number(4), number(12));
        if length > LARGEST {
            return Err(SnapshotError::damaged(name));
        }
        // Grows with what is there, not with what the length claims.
        self.payload.clear();
        let read = self.input.take(length).read_to_end(&mut self.payload);
        if read.map_err(SnapshotError::Read)? as u64 != length {
            return Err(SnapshotError::Truncated);
        }
        if xxh3_64_with_seed(&self.payload, seed(self.number, name)) != sum {
            return Err(SnapshotError::Checksum {
                section: super::printable(name),
            });
        }
        self.number += 1;
        Ok((name != END).then_some((name, &mut self.payload)))
    }
}

fn read(input: &mut impl Read, bytes: &mut [u8]) -> Result<(), SnapshotError> {
    input.read_exact(bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => SnapshotError::Truncated,
        _ => SnapshotError::Read(error),
    })
}
