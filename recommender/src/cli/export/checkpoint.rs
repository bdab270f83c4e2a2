//! How far an export is: what lies beside its file until it is complete.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::{Args, Format};

/// How far an export is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Checkpoint {
    /// The last customer that is written.
    pub customer: String,
    /// The file's length with them; of Parquet nothing, whose customers are in parts.
    pub bytes: u64,
    /// Parts written; none but of Parquet.
    #[serde(default)]
    pub parts: usize,
    /// Customers written.
    pub customers: usize,
    /// What was asked: an export with other settings cannot go on with this file.
    pub limit: u16,
    pub category: Option<String>,
    #[serde(default)]
    pub format: Format,
}

/// A file beside another, named after it.
pub(super) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn path(file: &Path) -> PathBuf {
    beside(file, ".checkpoint")
}

/// A part of an export in Parquet.
pub(super) fn part(file: &Path, number: usize) -> PathBuf {
    beside(file, &format!(".part-{number:05}"))
}

/// The checkpoint to go on from; of an export that begins, one before the first customer.
pub(super) fn begin(args: &Args) -> anyhow::Result<Checkpoint> {
    let path = path(&args.file);
    let first = Checkpoint {
        customer: String::new(),
        bytes: 0,
        parts: 0,
        customers: 0,
        limit: args.limit,
        category: args.category.clone(),
        format: args.format,
    };
    if args.restart {
        remove(&path)?;
        return Ok(first);
    }
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let written = std::fs::metadata(&args.file).map(|meta| meta.len()).unwrap_or(0);
            if written > 0 {
                bail!(
                    "{} is there already: name another file, or begin anew with --restart",
                    args.file.display()
                );
            }
            return Ok(first);
        }
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let found: Checkpoint = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is no checkpoint; begin anew with --restart", path.display()))?;
    if (found.limit, &found.category, found.format) != (args.limit, &args.category, args.format) {
        bail!(
            "{} was begun with another limit, category or format; begin anew with --restart",
            args.file.display()
        );
    }
    let written = std::fs::metadata(&args.file).map(|meta| meta.len()).unwrap_or(0);
    if written < found.bytes {
        bail!(
            "{} is shorter than its checkpoint says; begin anew with --restart",
            args.file.display()
        );
    }
    if let Some(lost) = (0..found.parts)
        .map(|number| part(&args.file, number))
        .find(|part| !part.exists())
    {
        bail!("{} is gone; begin anew with --restart", lost.display());
    }
    Ok(found)
}

/// Replaces the checkpoint in one step.
pub(super) fn keep(checkpoint: &Checkpoint, file: &Path) -> anyhow::Result<()> {
    let path = path(file);
    let new = beside(&path, ".new");
    let mut out = File::create(&new)?;
    out.write_all(&serde_json::to_vec(checkpoint)?)?;
    out.sync_data()?;
    std::fs::rename(&new, &path).with_context(|| format!("cannot write {}", path.display()))
}

/// The export is complete.
pub(super) fn end(checkpoint: &Checkpoint, file: &Path) -> anyhow::Result<()> {
    remove(&path(file))?;
    (0..checkpoint.parts).try_for_each(|number| remove(&part(file, number)))
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
