//! TLS on the public port: the certificate and key lie in one folder, as a Kubernetes Secret of type
//! `kubernetes.io/tls` mounts them, and are taken up again when they change, so that a renewed certificate needs no
//! restart. Clients choose between HTTP/2 and HTTP/1.1 by ALPN.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_rustls::TlsAcceptor;

use crate::secrets::{self, SecretError};

/// The certificate chain, PEM.
const CERTIFICATE: &str = "tls.crt";
/// Its key, PEM.
const KEY: &str = "tls.key";

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The certificate is not understood.
    #[error("{0} is no PEM certificate chain: {1}")]
    Certificate(PathBuf, pem::Error),
    /// The key is not understood; what is wrong with it is not repeated.
    #[error("{0} is no PEM private key")]
    Key(PathBuf),
    /// They do not belong together, or cannot be used.
    #[error("certificate and key in {0} cannot be used: {1}")]
    Pair(PathBuf, rustls::Error),
}

/// What the files held.
struct Loaded {
    certificate: SecretString,
    key: SecretString,
    acceptor: TlsAcceptor,
}

/// The public port's certificate and key.
pub struct Tls {
    dir: PathBuf,
    loaded: ArcSwap<Loaded>,
}

impl Tls {
    /// Reads `tls.crt` and `tls.key` in `dir`.
    pub fn new(dir: PathBuf) -> Result<Self, TlsError> {
        let (certificate, key) = read(&dir)?;
        let loaded = load(&dir, certificate, key)?;
        Ok(Self {
            dir,
            loaded: ArcSwap::from_pointee(loaded),
        })
    }

    /// Reads the files again. While they do not fit together (one of them is already new) or cannot be read, the
    /// old ones stay in force.
    pub fn reload(&self) {
        let Ok((certificate, key)) = read(&self.dir) else {
            return;
        };
        let old = self.loaded.load();
        let same = |a: &SecretString, b: &SecretString| a.expose_secret() == b.expose_secret();
        if same(&certificate, &old.certificate) && same(&key, &old.key) {
            return;
        }
        match load(&self.dir, certificate, key) {
            Ok(new) => {
                self.loaded.store(Arc::new(new));
                tracing::info!("the certificate was changed");
            }
            Err(e) => tracing::warn!(error = %e, "the changed certificate is refused; the old one stays"),
        }
    }

    /// What the next connection is accepted with.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.loaded.load().acceptor.clone()
    }
}

fn read(dir: &Path) -> Result<(SecretString, SecretString), SecretError> {
    Ok((
        secrets::read(&dir.join(CERTIFICATE))?,
        secrets::read(&dir.join(KEY))?,
    ))
}

fn load(dir: &Path, certificate: SecretString, key: SecretString) -> Result<Loaded, TlsError> {
    let chain = CertificateDer::pem_slice_iter(certificate.expose_secret().as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| TlsError::Certificate(dir.join(CERTIFICATE), e))?;
    let private = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes())
        .map_err(|_| TlsError::Key(dir.join(KEY)))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pair = |e| TlsError::Pair(dir.to_owned(), e);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Loaded {
        certificate,
        key,
        acceptor: TlsAcceptor::from(Arc::new(config)),
    })
}
