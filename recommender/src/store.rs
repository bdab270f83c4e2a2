//! The object store that snapshots and fitted models are kept in: a folder, S3, Google's or Azure's.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, Error, ObjectMeta, ObjectStore, ObjectStoreExt as _,
    ObjectStoreScheme, PutMode, RetryConfig,
};
use recommendation_api::config::{OnnxConfig, SnapshotsConfig};
use url::Url;

use crate::secrets::{self, SecretError};

/// Longest one call may take, body included.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Longest to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The address is not one of a store.
    #[error("{field}.url: {url:?}: {problem}; write s3://bucket/path, gs://…, az://… or file:///path")]
    Url {
        /// The part of the configuration.
        field: &'static str,
        /// The address.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The credentials cannot be read.
    #[error("{field}.credentialsDir: {source}")]
    Secret {
        /// The part of the configuration.
        field: &'static str,
        /// Why.
        source: SecretError,
    },
    /// The credentials folder cannot be read.
    #[error("{field}.credentialsDir: cannot read {path}: {source}")]
    Credentials {
        /// The part of the configuration.
        field: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder cannot be made.
    #[error("cannot make the folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A call failed.
    #[error("{what}: {source}")]
    Call {
        /// What was asked for.
        what: String,
        /// Why.
        source: Error,
    },
}

/// A place in an object store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    shown: String,
}

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

fn call<T>(what: impl FnOnce() -> String, result: Result<T, Error>) -> Result<T, StoreError> {
    result.map_err(|source| StoreError::Call { what: what(), source })
}

/// Where something lies, as the configuration says it.
struct Place<'a> {
    /// The part of the configuration, for messages.
    field: &'static str,
    url: &'a str,
    credentials_dir: Option<&'a str>,
    secrets_dir: &'a FilePath,
}

impl Place<'_> {
    fn wrong(&self, problem: impl Into<String>) -> StoreError {
        StoreError::Url {
            field: self.field,
            url: self.url.to_owned(),
            problem: problem.into(),
        }
    }

    /// The file or folder on this machine, if it is one.
    fn local(&self) -> Result<Option<PathBuf>, StoreError> {
        let url: Url = self
            .url
            .parse()
            .map_err(|e: url::ParseError| self.wrong(e.to_string()))?;
        let (scheme, _) = ObjectStoreScheme::parse(&url).map_err(|e| self.wrong(e.to_string()))?;
        if scheme != ObjectStoreScheme::Local {
            return Ok(None);
        }
        let path = url.to_file_path().map_err(|()| self.wrong("is no path"))?;
        Ok(Some(path))
    }

    /// The store elsewhere; its prefix is the whole path of the address.
    fn remote(&self) -> Result<Store, StoreError> {
        let url: Url = self
            .url
            .parse()
            .map_err(|e: url::ParseError| self.wrong(e.to_string()))?;
        let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|e| self.wrong(e.to_string()))?;
        let settings = match self.credentials_dir {
            Some(name) => {
                let dir = secrets::below(self.secrets_dir, name).map_err(|source| StoreError::Secret {
                    field: self.field,
                    source,
                })?;
                settings(self.field, &dir)?
            }
            None => Vec::new(),
        };
        let made = |result: Result<Arc<dyn ObjectStore>, Error>| call(|| self.url.to_owned(), result);
        macro_rules! remote {
            ($builder:ty) => {{
                let mut builder = <$builder>::from_env()
                    .with_url(self.url)
                    .with_client_options(client_options().map_err(|e| self.wrong(e.to_string()))?)
                    .with_retry(retry());
                for (name, value) in settings {
                    // Files of other programs may lie there too.
                    if let Ok(key) = name.parse() {
                        builder = builder.with_config(key, value);
                    }
                }
                made(
                    builder
                        .build()
                        .map(|store| Arc::new(store) as Arc<dyn ObjectStore>),
                )?
            }};
        }
        let objects = match scheme {
            ObjectStoreScheme::AmazonS3 => remote!(AmazonS3Builder),
            ObjectStoreScheme::GoogleCloudStorage => remote!(GoogleCloudStorageBuilder),
            ObjectStoreScheme::MicrosoftAzure => remote!(MicrosoftAzureBuilder),
            _ => return Err(self.wrong("is not supported")),
        };
        Ok(Store {
            objects,
            prefix,
            shown: self.url.to_owned(),
        })
    }
}

impl Store {
    /// The configured store; credentials lie below `secrets_dir`, one file a setting, or come from the
    /// environment (a pod's identity).
    pub fn open(config: &SnapshotsConfig, secrets_dir: &FilePath) -> Result<Self, StoreError> {
        let place = Place {
            field: "snapshots",
            url: &config.url,
            credentials_dir: config.credentials_dir.as_deref(),
            secrets_dir,
        };
        match place.local()? {
            Some(folder) => Self::folder(&folder),
            None => place.remote(),
        }
    }

    /// Where the model lies that the user brings: the store, and the model's name in it. Nothing is made there.
    pub fn of_model(config: &OnnxConfig, secrets_dir: &FilePath) -> Result<(Self, String), StoreError> {
        let place = Place {
            field: "model.onnx",
            url: &config.url,
            credentials_dir: config.credentials_dir.as_deref(),
            secrets_dir,
        };
        let Some(path) = place.local()? else {
            return Ok((place.remote()?, String::new()));
        };
        let name = path.file_name().and_then(|name| name.to_str());
        let (Some(folder), Some(name)) = (path.parent(), name) else {
            return Err(place.wrong("names no file"));
        };
        let objects = call(|| config.url.clone(), LocalFileSystem::new_with_prefix(folder))?;
        let store = Self {
            objects: Arc::new(objects),
            prefix: Path::default(),
            shown: folder.display().to_string(),
        };
        Ok((store, name.to_owned()))
    }

    /// A folder, made if it is not there.
    pub fn folder(path: &FilePath) -> Result<Self, StoreError> {
        std::fs::create_dir_all(path).map_err(|source| StoreError::Folder {
            path: path.to_owned(),
            source,
        })?;
        let shown = path.display().to_string();
        let objects = call(|| shown.clone(), LocalFileSystem::new_with_prefix(path))?;
        Ok(Self {
            objects: Arc::new(objects.with_fsync(true)),
            prefix: Path::default(),
            shown,
        })
    }

    fn path(&self, name: &str) -> Path {
        // Names are ours: parts of letters, digits, dots and dashes.
        let mut path = self.prefix.clone();
        for part in name.split('/').filter(|part| !part.is_empty()) {
            path = path.join(part);
        }
        path
    }

    /// The store itself and the path of a name in it, for streaming.
    pub(crate) fn raw(&self, name: &str) -> (Arc<dyn ObjectStore>, Path) {
        (Arc::clone(&self.objects), self.path(name))
    }

    /// What lies in a folder (not below it), by name, sorted.
    pub async fn list(&self, folder: &str) -> Result<Vec<(String, ObjectMeta)>, StoreError> {
        let path = self.path(folder);
        let listed: Result<Vec<ObjectMeta>, Error> = self.objects.list(Some(&path)).try_collect().await;
        let listed = call(|| format!("listing {folder} in {self}"), listed)?;
        let named = listed.into_iter().filter_map(|meta| {
            let mut below = meta.location.prefix_match(&path)?;
            let name = below.next()?.as_ref().to_owned();
            if below.next().is_some() {
                return None;
            }
            drop(below);
            Some((name, meta))
        });
        let mut named: Vec<_> = named.collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(named)
    }

    /// A small object as a whole; `None` if there is none.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let path = self.path(name);
        let read = async { self.objects.get(&path).await?.bytes().await };
        match read.await {
            Err(Error::NotFound { .. }) => Ok(None),
            result => call(|| format!("reading {name} in {self}"), result).map(Some),
        }
    }

    /// What is told of an object without reading it; `None` if there is none.
    pub async fn head(&self, name: &str) -> Result<Option<ObjectMeta>, StoreError> {
        match self.objects.head(&self.path(name)).await {
            Err(Error::NotFound { .. }) => Ok(None),
            result => call(|| format!("looking at {name} in {self}"), result).map(Some),
        }
    }

    /// Part of an object.
    pub async fn range(&self, name: &str, range: std::ops::Range<u64>) -> Result<Bytes, StoreError> {
        let result = self.objects.get_range(&self.path(name), range).await;
        call(|| format!("reading {name} in {self}"), result)
    }

    /// Writes a small object at once; it is never seen half-written.
    pub async fn put(&self, name: &str, bytes: impl Into<Bytes>) -> Result<(), StoreError> {
        let result = self.objects.put(&self.path(name), bytes.into().into()).await;
        call(|| format!("writing {name} in {self}"), result).map(drop)
    }

    /// Writes a small object unless there is one; returns whether it was written. Of two that try at once, one
    /// succeeds.
    pub async fn create(&self, name: &str, bytes: impl Into<Bytes>) -> Result<bool, StoreError> {
        let path = self.path(name);
        match self
            .objects
            .put_opts(&path, bytes.into().into(), PutMode::Create.into())
            .await
        {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(source) => call(|| format!("writing {name} in {self}"), Err(source)),
        }
    }

    /// Removes an object; one that is not there is no error.
    pub async fn remove(&self, name: &str) -> Result<(), StoreError> {
        match self.objects.delete(&self.path(name)).await {
            Err(Error::NotFound { .. }) => Ok(()),
            result => call(|| format!("removing {name} in {self}"), result),
        }
    }
}

/// One setting a file; names as the store's environment variables, in any case.
fn settings(field: &'static str, dir: &FilePath) -> Result<Vec<(String, String)>, StoreError> {
    let failed = |source| StoreError::Credentials {
        field,
        path: dir.to_owned(),
        source,
    };
    let mut settings = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        // A mounted Secret has folders of Kubernetes' own beside its keys.
        if name.is_empty() || name.starts_with('.') || !path.is_file() {
            continue;
        }
        let value = std::fs::read_to_string(&path).map_err(failed)?;
        settings.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(settings)
}

/// The authorities that browsers trust, compiled in: in the image there is no system whose store could be asked.
fn client_options() -> Result<ClientOptions, Error> {
    let mut options = ClientOptions::new()
        .with_timeout(TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_no_system_certificates(true);
    for der in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        options = options.with_root_certificate(Certificate::from_der(der)?);
    }
    Ok(options)
}

/// Three attempts, twice as long between them each time, with chance in it.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(4),
            base: 2.0,
        },
        max_retries: 3,
        retry_timeout: Duration::from_secs(60),
    }
}

#[cfg(test)]
pub(crate) mod tests;
