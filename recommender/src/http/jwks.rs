//! A JSON Web Key Set (RFC 7517) by its address: the public keys of somebody who signs tokens for us. Kept until
//! they are replaced: while the address does not answer, the last good keys stay in force.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::outgoing;

/// Longest the address may take; a request may be waiting.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Keys are read again this often.
const REFRESH_EVERY: Duration = Duration::from_secs(300);
/// An unknown key id makes the keys be read again, but never more often than this: callers choose the id.
const MIN_INTERVAL: Duration = Duration::from_secs(10);
/// Largest answer, in bytes.
const MAX_BYTES: usize = 256 * 1024;
/// Most keys of one set.
const MAX_KEYS: usize = 100;

/// Why a key set could not be read.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// The client cannot be made.
    #[error("cannot make an HTTP client: {0}")]
    Client(reqwest::Error),
    /// No answer, or a bad one.
    #[error("the key set's address does not answer: {0}")]
    Fetch(reqwest::Error),
    /// The answer is too large.
    #[error("the key set is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// The answer is no key set.
    #[error("not a JSON Web Key Set: {0}")]
    Parse(serde_json::Error),
    /// Nothing in it can be used.
    #[error("the key set has no key for RS256 or ES256")]
    NoKey,
}

/// One public key and the one algorithm that it is used with: the key decides, never the token.
pub struct PublicKey {
    /// RS256 or ES256.
    pub algorithm: Algorithm,
    /// The key.
    pub key: DecodingKey,
}

type Keys = HashMap<String, Arc<PublicKey>>;

/// A key set.
pub struct Jwks {
    url: String,
    client: reqwest::Client,
    keys: ArcSwap<Keys>,
    /// How often they were read.
    readings: AtomicU64,
    /// When the address was last asked, whatever it answered; held while it is asked.
    asked: Mutex<Option<Instant>>,
    min_interval: Duration,
}

impl Jwks {
    /// Nothing is read yet: the address need not be there.
    pub fn new(url: &str) -> Result<Self, JwksError> {
        Ok(Self {
            url: url.to_owned(),
            client: outgoing::staying(TIMEOUT).map_err(JwksError::Client)?,
            keys: ArcSwap::from_pointee(Keys::new()),
            readings: AtomicU64::new(0),
            asked: Mutex::new(None),
            min_interval: MIN_INTERVAL,
        })
    }

    /// Reads the set again, as the watch does every few minutes.
    #[cfg(test)]
    pub async fn read_again(&self) {
        self.refresh(&mut *self.asked.lock().await).await;
    }

    /// Another least time between two readings.
    #[cfg(test)]
    fn with_min_interval(self, min_interval: Duration) -> Self {
        Self { min_interval, ..self }
    }

    /// The key of this id, reading the set again if it is not known and that was not done just now. A token
    /// without an id is checked with the only key of a set of one.
    pub async fn key(&self, id: Option<&str>) -> Option<Arc<PublicKey>> {
        if let Some(key) = self.known(id) {
            return Some(key);
        }
        let mut asked = self.asked.lock().await;
        // Somebody may have read it while this waited.
        if let Some(key) = self.known(id) {
            return Some(key);
        }
        if asked.is_some_and(|at| at.elapsed() < self.min_interval) {
            return None;
        }
        self.refresh(&mut asked).await;
        self.known(id)
    }

    /// How often the set was read: what was checked before the last time was checked with other keys.
    pub fn readings(&self) -> u64 {
        self.readings.load(Ordering::Acquire)
    }

    fn known(&self, id: Option<&str>) -> Option<Arc<PublicKey>> {
        let keys = self.keys.load();
        match id {
            Some(id) => keys.get(id).cloned(),
            None if keys.len() == 1 => keys.values().next().cloned(),
            None => None,
        }
    }

    async fn refresh(&self, asked: &mut Option<Instant>) {
        *asked = Some(Instant::now());
        match self.fetch().await {
            Ok(keys) => {
                self.keys.store(Arc::new(keys));
                // After the keys: whoever sees the count checks with the new ones.
                self.readings.fetch_add(1, Ordering::Release);
            }
            Err(e) => {
                let known = self.keys.load().len();
                tracing::warn!(error = %e, known, "key set not read; the keys known so far stay in force");
            }
        }
    }

    async fn fetch(&self) -> Result<Keys, JwksError> {
        let failed = |e: reqwest::Error| JwksError::Fetch(e.without_url());
        let answer = self.client.get(&self.url).send().await.map_err(failed)?;
        let answer = answer.error_for_status().map_err(failed)?;
        let bytes = outgoing::body(answer, MAX_BYTES).await.map_err(failed)?;
        parse(&bytes.ok_or(JwksError::TooLarge)?)
    }

    /// Reads the set now and then every few minutes until stopped.
    pub async fn watch(&self, stop: CancellationToken) {
        loop {
            let refresh = async { self.refresh(&mut *self.asked.lock().await).await };
            if stop.run_until_cancelled(refresh).await.is_none()
                || stop
                    .run_until_cancelled(tokio::time::sleep(REFRESH_EVERY))
                    .await
                    .is_none()
            {
                return;
            }
        }
    }
}

/// The keys of a set that can check RS256 or ES256 signatures. Others, symmetric ones above all, are passed over;
/// one that is not understood does not spoil the rest.
pub fn parse(bytes: &[u8]) -> Result<Keys, JwksError> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(bytes).map_err(JwksError::Parse)?;
    let keys: Keys = set
        .keys
        .into_iter()
        .take(MAX_KEYS)
        .filter_map(|value| {
            let jwk: Jwk = serde_json::from_value(value).ok()?;
            let algorithm = algorithm(&jwk)?;
            let key = DecodingKey::from_jwk(&jwk).ok()?;
            let id = jwk.common.key_id.unwrap_or_default();
            Some((id, Arc::new(PublicKey { algorithm, key })))
        })
        .collect();
    if keys.is_empty() {
        return Err(JwksError::NoKey);
    }
    Ok(keys)
}

/// The one algorithm that a key may be used with.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let named = jwk.common.key_algorithm;
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) if matches!(named, None | Some(KeyAlgorithm::RS256)) => {
            Some(Algorithm::RS256)
        }
        AlgorithmParameters::EllipticCurve(parameters)
            if parameters.curve == EllipticCurve::P256
                && matches!(named, None | Some(KeyAlgorithm::ES256)) =>
        {
            Some(Algorithm::ES256)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use axum::Router;
    use axum::extract::State;
    use axum::routing::get;
    use http::StatusCode;
    use jsonwebtoken::EncodingKey;
    use jsonwebtoken::jwk::JwkSet;
    use proptest::prelude::*;

    use super::*;

    const RSA: &[u8] = include_bytes!("../../tests/data/rsa.der");

    fn rsa(id: &str) -> Jwk {
        let key = EncodingKey::from_rsa_der(RSA);
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap();
        jwk.common.key_id = Some(id.into());
        jwk
    }

    fn set(keys: Vec<Jwk>) -> String {
        serde_json::to_string(&JwkSet { keys }).unwrap()
    }

    #[test]
    fn a_key_that_is_no_public_key_for_our_algorithms_is_passed_over() {
        let symmetric = r#"{"kty":"oct","k":"c2VjcmV0","alg":"HS256","kid":"h"}"#;
        let other_use = serde_json::to_string(&rsa("e"))
            .unwrap()
            .replacen('{', "{\"use\":\"enc\",", 1);
        let other_algorithm = serde_json::to_string(&rsa("p"))
            .unwrap()
            .replace("RS256", "PS256");
        let good = serde_json::to_string(&rsa("a")).unwrap();
        let text =
            format!(r#"{{"keys":[{symmetric},{other_use},{other_algorithm},{{"kty":"new"}},{good}]}}"#);
        let keys = parse(text.as_bytes()).unwrap();
        assert_eq!(keys.keys().collect::<Vec<_>>(), ["a"]);
        let none = format!(r#"{{"keys":[{symmetric}]}}"#);
        assert!(matches!(parse(none.as_bytes()), Err(JwksError::NoKey)));
        assert!(matches!(parse(b"[]"), Err(JwksError::Parse(_))));
    }

    type Answer = Arc<StdMutex<(StatusCode, String, usize)>>;

    /// An address whose answer the test chooses, and that counts how often it was asked.
    async fn served() -> (String, Answer) {
        let answer: Answer = Arc::new(StdMutex::new((StatusCode::OK, set(vec![rsa("a")]), 0)));
        let route = get(|State(answer): State<Answer>| async move {
            let mut answer = answer.lock().unwrap();
            answer.2 += 1;
            (answer.0, answer.1.clone())
        });
        let router = Router::new()
            .route("/keys", route)
            .with_state(Arc::clone(&answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (url, answer)
    }

    fn jwks(url: &str, min_interval: Duration) -> Jwks {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Jwks::new(url).unwrap().with_min_interval(min_interval)
    }

    #[tokio::test]
    async fn an_unknown_key_id_reads_the_set_again_but_not_at_every_request() {
        let (url, answer) = served().await;
        let keys = jwks(&url, Duration::from_millis(300));
        assert!(keys.key(Some("a")).await.is_some());
        answer.lock().unwrap().1 = set(vec![rsa("b")]);
        for _ in 0..20 {
            assert!(keys.key(Some("b")).await.is_none(), "too early to ask again");
        }
        assert_eq!(answer.lock().unwrap().2, 1);
        tokio::time::sleep(Duration::from_millis(350)).await;
        assert!(keys.key(Some("b")).await.is_some());
        assert!(
            keys.key(Some("a")).await.is_none(),
            "a key that was withdrawn is not accepted"
        );
        assert!(keys.key(None).await.is_some(), "a set of one needs no id");
    }

    #[tokio::test]
    async fn while_the_address_fails_the_last_good_keys_stay() {
        let (url, answer) = served().await;
        let keys = jwks(&url, Duration::ZERO);
        assert!(keys.key(Some("a")).await.is_some());
        for (status, text) in [
            (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
            (StatusCode::OK, "nonsense".into()),
            (StatusCode::OK, "x".repeat(MAX_BYTES + 1)),
        ] {
            *answer.lock().unwrap() = (status, text, 0);
            assert!(keys.key(Some("other")).await.is_none());
            assert_eq!(answer.lock().unwrap().2, 1);
            assert!(keys.key(Some("a")).await.is_some());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), n in "[ -~]{0,40}") {
            let _ = parse(&bytes);
            let _ = parse(format!(r#"{{"keys":[{{"kty":"RSA","n":{n:?},"e":"AQAB"}}]}}"#).as_bytes());
        }
    }
}
