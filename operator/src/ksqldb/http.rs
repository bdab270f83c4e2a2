//! HTTP clients of ksqlDB servers, and which of the servers are known to be away: a server that takes connections and
//! never answers must not hold one pipeline after the other.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::KsqlError;

/// A client that nobody asked for this long is closed.
const IDLE: Duration = Duration::from_secs(15 * 60);
/// A server that failed is asked again after this time.
const FAILURE: Duration = Duration::from_secs(5);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);

/// Clients by the authority that they trust, and servers that failed.
#[derive(Debug, Default)]
pub struct Servers {
    private: Mutex<HashMap<String, (reqwest::Client, Instant)>>,
    failed: Mutex<HashMap<String, Failure>>,
}

#[derive(Clone, Debug)]
struct Failure {
    error: KsqlError,
    at: Instant,
    /// Somebody asks it at this moment.
    asked: bool,
}

impl Servers {
    /// A client that trusts the authorities of `ca` (PEM) and no other.
    ///
    /// # Errors
    /// [`KsqlError::Client`] when that is no PEM.
    pub fn client(&self, ca: &str) -> Result<reqwest::Client, KsqlError> {
        let now = Instant::now();
        let mut clients = self.private.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|key, (_, used)| key == ca || now.duration_since(*used) < IDLE);
        if let Some((client, used)) = clients.get_mut(ca) {
            *used = now;
            return Ok(client.clone());
        }
        let problem = |error: reqwest::Error| KsqlError::Client(error.to_string());
        let authorities = reqwest::Certificate::from_pem_bundle(ca.as_bytes()).map_err(problem)?;
        if authorities.is_empty() {
            return Err(KsqlError::Client("there is no certificate in it".to_owned()));
        }
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .pool_idle_timeout(Duration::from_secs(60))
            .tls_certs_only(authorities)
            .build()
            .map_err(problem)?;
        clients.insert(ca.to_owned(), (client.clone(), now));
        Ok(client)
    }

    /// Whether the server may be asked now.
    ///
    /// # Errors
    /// What it answered a moment ago, or what it answered last while somebody else asks it.
    pub fn admit(&self, endpoint: &str) -> Result<(), KsqlError> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match failed.get_mut(endpoint) {
            Some(failure) if failure.asked || failure.at.elapsed() < FAILURE => Err(failure.error.clone()),
            Some(failure) => {
                failure.asked = true;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Remembers how the server answered.
    pub fn note<T>(&self, endpoint: &str, answer: &Result<T, KsqlError>) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|_, failure| failure.at.elapsed() < IDLE);
        match answer {
            Err(error @ KsqlError::Unreachable { .. }) => {
                let failure = Failure {
                    error: error.clone(),
                    at: Instant::now(),
                    asked: false,
                };
                failed.insert(endpoint.to_owned(), failure);
            }
            _ => {
                failed.remove(endpoint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_failed_is_asked_by_one_at_a_time_and_not_at_once() {
        let servers = Servers::default();
        servers.admit("a").unwrap();
        let away: Result<(), KsqlError> = Err(KsqlError::Unreachable {
            endpoint: "a".to_owned(),
            message: "no answer in time".to_owned(),
        });
        servers.note("a", &away);
        assert!(servers.admit("a").is_err());
        servers.admit("b").unwrap();
        servers.failed.lock().unwrap().get_mut("a").unwrap().at -= FAILURE;
        servers.admit("a").unwrap();
        assert!(servers.admit("a").is_err(), "somebody else asks it already");
        servers.note("a", &Ok(()));
        servers.admit("a").unwrap();
        servers.admit("a").unwrap();
    }

    #[test]
    fn an_authority_that_is_no_certificate_is_refused() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        for text in ["", "no certificate"] {
            let refused = Servers::default().client(text);
            assert!(matches!(refused, Err(KsqlError::Client(_))), "{text:?}");
        }
    }
}
