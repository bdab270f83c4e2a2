//! Container images without a daemon: one layer, one static binary, a user that is not root. The archive is an
//! OCI layout and a docker archive at once, so that `ctr images import`, `kind load image-archive`,
//! `docker load` and `crane push` all take it. The same input gives the same bytes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// The user and group that images run as: the `nonroot` of distroless images.
pub const NON_ROOT: u32 = 65_532;

/// What an image is made of.
#[derive(Clone, Debug)]
pub struct ImageSpec {
    /// Its whole name with registry and tag (`localhost/recommender:dev`): a name without a registry would mean
    /// Docker Hub to some tools and nothing to others.
    pub name: String,
    /// The static binary on this machine.
    pub binary: PathBuf,
    /// Where the binary lies in the image; also the entry point (`/recommender`).
    pub entrypoint: String,
    /// Labels (`org.opencontainers.image.title`, …).
    pub labels: BTreeMap<String, String>,
    /// The archive to write.
    pub archive: PathBuf,
    /// Whether the layer is compressed, as a registry wants it: a third of the bytes, for some seconds of work.
    pub compressed: bool,
}

/// A written image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// The archive.
    pub path: PathBuf,
    /// The digest of its manifest: `sha256:…`.
    pub digest: String,
    /// Its whole name.
    pub name: String,
}

/// One thing that is addressed by the hash of its content.
struct Blob {
    hex: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let hex = hex::encode(Sha256::digest(&bytes));
        Self { hex, bytes }
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.hex)
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.hex)
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest(), "size": self.bytes.len() })
    }
}

/// The labels of a program's image.
#[must_use]
pub fn labels(title: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("org.opencontainers.image.title".to_owned(), title.to_owned()),
        (
            "org.opencontainers.image.version".to_owned(),
            env!("CARGO_PKG_VERSION").to_owned(),
        ),
        (
            "org.opencontainers.image.licenses".to_owned(),
            "Apache-2.0".to_owned(),
        ),
    ]);
    // Outside a checkout (a source archive) there is no revision to name.
    if let Ok(revision) = crate::command::Cmd::new("git")
        .dir(crate::release::workspace())
        .args(["rev-parse", "HEAD"])
        .run()
    {
        labels.insert(
            "org.opencontainers.image.revision".to_owned(),
            revision.trim().to_owned(),
        );
    }
    labels
}

/// Builds the image and writes its archive.
///
/// # Errors
/// When the name lacks a registry or tag, the binary cannot be read, is not a static Linux program, or the archive cannot
/// be written.
pub fn build(spec: &ImageSpec) -> Result<ImageInfo> {
    check_name(&spec.name)?;
    let binary = fs::read(&spec.binary).with_context(|| format!("reading {}", spec.binary.display()))?;
    let architecture = architecture(&binary).with_context(|| format!("{}", spec.binary.display()))?;
    let files = Blob::new(layer(&spec.entrypoint, &binary)?);
    // By what they unpack to, whether the layer is compressed or not.
    let config = Blob::new(to_json(&config(spec, architecture, &files.digest()))?);
    let (layer, layer_type) = if spec.compressed {
        (
            Blob::new(gzip(&files.bytes)?),
            "application/vnd.oci.image.layer.v1.tar+gzip",
        )
    } else {
        (files, "application/vnd.oci.image.layer.v1.tar")
    };
    let manifest = Blob::new(to_json(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
        "layers": [layer.descriptor(layer_type)],
    }))?);
    let mut entry = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
    let tag = spec.name.rsplit(':').next().unwrap_or_default();
    entry["platform"] = json!({ "architecture": architecture, "os": "linux" });
    entry["annotations"] =
        json!({ "io.containerd.image.name": spec.name, "org.opencontainers.image.ref.name": tag });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    });
    let docker = json!([{ "Config": config.path(), "RepoTags": [spec.name], "Layers": [layer.path()] }]);
    let mut files = BTreeMap::from([
        ("index.json".to_owned(), to_json(&index)?),
        ("manifest.json".to_owned(), to_json(&docker)?),
        (
            "oci-layout".to_owned(),
            to_json(&json!({ "imageLayoutVersion": "1.0.0" }))?,
        ),
    ]);
    let digest = manifest.digest();
    for blob in [layer, config, manifest] {
        files.insert(blob.path(), blob.bytes);
    }
    write_archive(&spec.archive, &files).with_context(|| format!("writing {}", spec.archive.display()))?;
    Ok(ImageInfo {
        path: spec.archive.clone(),
        digest,
        name: spec.name.clone(),
    })
}

fn check_name(name: &str) -> Result<()> {
    let registry = name.split_once('/').map_or("", |(registry, _)| registry);
    let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    ensure!(
        (registry == "localhost" || registry.contains(['.', ':'])) && tagged,
        "image name `{name}` needs a registry and a tag, as in `localhost/recommender:dev`"
    );
    Ok(())
}

/// What the ELF header says of a program: Go's name of its architecture.
fn architecture(binary: &[u8]) -> Result<&'static str> {
    ensure!(
        binary.starts_with(b"\x7fELF") && binary.len() > 20,
        "is not a Linux program"
    );
    ensure!(
        !wants_a_loader(binary),
        "is not static: it names a dynamic loader, which the image does not have"
    );
    ensure!(
        !has_symbols(binary),
        "has a symbol table, a third more bytes that nobody reads: build it in the release profile, which strips"
    );
    match u16::from_le_bytes([binary[18], binary[19]]) {
        0x3e => Ok("amd64"),
        0xb7 => Ok("arm64"),
        other => anyhow::bail!("is for a machine ({other:#x}) that is neither amd64 nor arm64"),
    }
}

/// A number of `size` bytes at `at`.
fn number(binary: &[u8], at: usize, size: usize) -> Option<usize> {
    let mut bytes = [0; 8];
    bytes[..size].copy_from_slice(binary.get(at..at + size)?);
    usize::try_from(u64::from_le_bytes(bytes)).ok()
}

/// Whether the program headers of a 64-bit ELF file hold a `PT_INTERP`.
fn wants_a_loader(binary: &[u8]) -> bool {
    let find = || -> Option<bool> {
        let header = |at, size| number(binary, at, size);
        let (offset, size, count) = (header(32, 8)?, header(54, 2)?, header(56, 2)?);
        Some((0..count).any(|i| number(binary, offset + i * size, 4) == Some(3)))
    };
    find().unwrap_or(false)
}

/// Whether the section headers of a 64-bit ELF file hold a `SHT_SYMTAB`.
fn has_symbols(binary: &[u8]) -> bool {
    let find = || -> Option<bool> {
        let header = |at, size| number(binary, at, size);
        let (offset, size, count) = (header(40, 8)?, header(58, 2)?, header(60, 2)?);
        Some((0..count).any(|i| number(binary, offset + i * size + 4, 4) == Some(2)))
    };
    find().unwrap_or(false)
}

/// The file system of the image: the binary, the accounts that the kernel's ids stand for, and a `/tmp`. What a
/// runtime mounts over (`/dev`, `/proc`, `/sys`, `/etc/hosts`) has its folder, for the root may be read-only.
fn layer(entrypoint: &str, binary: &[u8]) -> Result<Vec<u8>> {
    let passwd = format!("root:x:0:0:root:/:/none\nnonroot:x:{NON_ROOT}:{NON_ROOT}:nonroot:/tmp:/none\n");
    let group = format!("root:x:0:\nnonroot:x:{NON_ROOT}:\n");
    let mut tar = Builder::new(Vec::with_capacity(binary.len() + 16 * 1024));
    for (dir, mode) in [
        ("dev", 0o755),
        ("etc", 0o755),
        ("proc", 0o755),
        ("sys", 0o755),
        ("tmp", 0o1777),
    ] {
        append(&mut tar, &format!("{dir}/"), EntryType::Directory, mode, &[])?;
    }
    append(&mut tar, "etc/group", EntryType::Regular, 0o644, group.as_bytes())?;
    append(
        &mut tar,
        "etc/passwd",
        EntryType::Regular,
        0o644,
        passwd.as_bytes(),
    )?;
    let path = entrypoint.trim_start_matches('/');
    for (end, _) in path.match_indices('/') {
        append(&mut tar, &path[..=end], EntryType::Directory, 0o755, &[])?;
    }
    append(&mut tar, path, EntryType::Regular, 0o755, binary)?;
    Ok(tar.into_inner()?)
}

/// Without a name or a time, so that the same bytes become the same bytes.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .write(Vec::with_capacity(bytes.len() / 2), Compression::new(6));
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn config(spec: &ImageSpec, architecture: &str, diff_id: &str) -> Value {
    // The epoch, not now: the same input gives the same image.
    let created = "1970-01-01T00:00:00Z";
    json!({
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": {
            "Entrypoint": [spec.entrypoint],
            "User": format!("{NON_ROOT}:{NON_ROOT}"),
            "Env": ["PATH=/"],
            "WorkingDir": "/",
            "Labels": spec.labels,
        },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "created": created, "created_by": "cargo xtask image" }],
    })
}

fn to_json(value: &Value) -> Result<Vec<u8>> {
    // serde_json keeps objects sorted, which makes these bytes, and so the digests, deterministic.
    Ok(serde_json::to_vec(value)?)
}

fn append<W: Write>(
    tar: &mut Builder<W>,
    path: &str,
    kind: EntryType,
    mode: u32,
    content: &[u8],
) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, path, content)
        .with_context(|| format!("adding {path}"))
}

fn write_archive(archive: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    if let Some(parent) = archive.parent() {
        fs::create_dir_all(parent)?;
    }
    let partial = archive.with_extension("partial");
    let mut tar = Builder::new(BufWriter::new(File::create(&partial)?));
    for (path, content) in files {
        append(&mut tar, path, EntryType::Regular, 0o644, content)?;
    }
    tar.into_inner()?
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?
        .sync_all()?;
    fs::rename(&partial, archive)?;
    Ok(())
}

#[cfg(test)]
mod tests;
