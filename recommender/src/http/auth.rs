//! Tokens and sign-in. Our own tokens are signed with HS256; keys are read again when their files change, so that one
//! can be rotated: the previous key stays accepted while tokens signed with it live. Tokens of an identity provider
//! are signed with RS256 or ES256 and checked with the public keys of its key set.
//!
//! Which kind of key checks a token follows from the algorithm in its header, and each kind knows its own algorithm
//! only: a public key is never taken for an HMAC secret.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use recommendation_api::config::{AuthConfig, PublishableKeyConfig};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::jwks::Jwks;
use super::keys::PublishableKeys;
use super::problem::Problem;
use super::tokens::{AuthError, Claims, ForeignClaims, MAX_TOKEN_BYTES, TOKEN_LIFETIME, mint, read_key};
use crate::secrets;

/// Passwords checked at once: each takes 19 MB and some 20 ms of a core.
const CHECKS_AT_ONCE: usize = 4;

/// A password's argon2id hash, as a user's file carries it.
pub fn hash_password(password: &SecretString) -> Result<String, AuthError> {
    let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>()).map_err(AuthError::Hash)?;
    let hash = Argon2::default().hash_password(password.expose_secret().as_bytes(), &salt);
    Ok(hash.map_err(AuthError::Hash)?.to_string())
}

/// A user's file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    password_hash: String,
    #[serde(default)]
    customer_id: String,
    #[serde(default)]
    scopes: Vec<String>,
}

/// Checks tokens and signs users in.
pub struct Auth {
    key_file: PathBuf,
    previous_key_file: Option<PathBuf>,
    users_dir: Option<PathBuf>,
    issuer: String,
    keys: ArcSwap<Keys>,
    /// Keys of the identity provider, if there is one.
    jwks: Option<Jwks>,
    publishable_config: Vec<PublishableKeyConfig>,
    publishable: ArcSwap<PublishableKeys>,
    secrets_dir: PathBuf,
    /// Checked in the place of an unknown user's, so that the answer takes as long.
    dummy_hash: String,
    checks: Semaphore,
}

struct Keys {
    signing: SecretString,
    accepted: Vec<DecodingKey>,
    texts: Vec<SecretString>,
}

impl Auth {
    /// `key_file` signs; files named in `config` lie below `secrets_dir`.
    pub fn new(config: &AuthConfig, key_file: PathBuf, secrets_dir: &Path) -> Result<Self, AuthError> {
        let below = |name: &Option<String>| name.as_ref().map(|n| secrets::below(secrets_dir, n)).transpose();
        let previous_key_file = below(&config.previous_jwt_secret_file)?;
        let keys = read_keys(&key_file, previous_key_file.as_deref())?;
        let jwks = (!config.jwks_url.is_empty())
            .then(|| Jwks::new(&config.jwks_url))
            .transpose()?;
        if jwks.is_some() && config.issuer.is_empty() {
            tracing::warn!(
                "auth.jwksUrl without auth.issuer: tokens of any issuer are accepted that its keys sign"
            );
        }
        let publishable = PublishableKeys::read(&config.publishable_keys, secrets_dir)?;
        Ok(Self {
            key_file,
            previous_key_file,
            users_dir: below(&config.users_dir)?,
            issuer: config.issuer.clone(),
            keys: ArcSwap::from_pointee(keys),
            jwks,
            publishable_config: config.publishable_keys.clone(),
            publishable: ArcSwap::from_pointee(publishable),
            secrets_dir: secrets_dir.to_owned(),
            dummy_hash: hash_password(&SecretString::from(hex::encode(rand::random::<[u8; 16]>())))?,
            checks: Semaphore::new(CHECKS_AT_ONCE),
        })
    }

    /// The publishable keys.
    pub fn publishable(&self) -> Arc<PublishableKeys> {
        self.publishable.load_full()
    }

    /// Keeps the identity provider's keys fresh until stopped.
    pub async fn watch(&self, stop: CancellationToken) {
        match &self.jwks {
            Some(jwks) => jwks.watch(stop).await,
            None => stop.cancelled().await,
        }
    }

    /// Reads the keys again; an unreadable moment leaves the old ones in force.
    pub fn reload(&self) {
        if let Ok(new) = PublishableKeys::read(&self.publishable_config, &self.secrets_dir)
            && new != *self.publishable.load_full()
        {
            self.publishable.store(Arc::new(new));
            tracing::info!("publishable keys were changed");
        }
        let Ok(keys) = read_keys(&self.key_file, self.previous_key_file.as_deref()) else {
            return;
        };
        let texts = |keys: &Keys| {
            keys.texts
                .iter()
                .map(|t| t.expose_secret().to_owned())
                .collect::<Vec<_>>()
        };
        if texts(&keys) != texts(&self.keys.load()) {
            self.keys.store(Arc::new(keys));
            tracing::info!("signing keys were changed");
        }
    }

    /// Checks a token: ours, or the identity provider's where there is one.
    pub async fn verify(&self, token: &str) -> Result<Claims, Problem> {
        let invalid = || Problem::unauthorized("Invalid token");
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid());
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| invalid())?;
        let jwks = match header.alg {
            Algorithm::HS256 => return self.verify_own(token),
            Algorithm::RS256 | Algorithm::ES256 => self.jwks.as_ref().ok_or_else(invalid)?,
            _ => return Err(invalid()),
        };
        let key = jwks.key(header.kid.as_deref()).await.ok_or_else(invalid)?;
        let mut validation = self.validation(key.algorithm);
        // Whom else the provider's token is for is between the two of them; ours is to check who issued it.
        validation.validate_aud = false;
        match jsonwebtoken::decode::<ForeignClaims>(token, &key.key, &validation) {
            Ok(data) => data.claims.into_claims().ok_or_else(invalid),
            Err(e) if matches!(e.kind(), ErrorKind::ExpiredSignature) => {
                Err(Problem::unauthorized("Token expired"))
            }
            Err(_) => Err(invalid()),
        }
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = 0;
        validation.validate_nbf = true;
        if !self.issuer.is_empty() {
            validation.set_issuer(&[&self.issuer]);
            validation.set_required_spec_claims(&["exp", "iss"]);
        }
        validation
    }

    /// Checks a token of ours.
    fn verify_own(&self, token: &str) -> Result<Claims, Problem> {
        let validation = self.validation(Algorithm::HS256);
        let mut expired = false;
        for key in &self.keys.load().accepted {
            match jsonwebtoken::decode::<Claims>(token, key, &validation) {
                Ok(data) if !data.claims.user_id.is_empty() => return Ok(data.claims),
                Ok(_) => {}
                Err(e) => expired |= matches!(e.kind(), ErrorKind::ExpiredSignature),
            }
        }
        Err(Problem::unauthorized(if expired {
            "Token expired"
        } else {
            "Invalid token"
        }))
    }

    /// Signs a user in; `None` for a wrong name or password, which take the same time.
    pub async fn sign_in(&self, username: &str, password: SecretString) -> Result<Option<String>, AuthError> {
        let user = self.user(username).await;
        let hash = user
            .as_ref()
            .map_or_else(|| self.dummy_hash.clone(), |u| u.password_hash.clone());
        let _permit = self
            .checks
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let dummy = self.dummy_hash.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let check = |hash: &str| {
                let hash = PasswordHash::new(hash).ok()?;
                let password = password.expose_secret().as_bytes();
                Some(Argon2::default().verify_password(password, &hash).is_ok())
            };
            match check(&hash) {
                Some(right) => right.then_some(()),
                None => {
                    // A hash that is none (a mistake in the user's file) takes as long as one that does not fit.
                    tracing::error!("a user's passwordHash is no argon2 hash");
                    check(&dummy);
                    None
                }
            }
        });
        let (Ok(Some(())), Some(user)) = (checked.await, user) else {
            return Ok(None);
        };
        let user_id = if user.customer_id.is_empty() {
            username
        } else {
            &user.customer_id
        };
        mint(
            &self.keys.load().signing,
            user_id,
            &user.scopes,
            &self.issuer,
            TOKEN_LIFETIME,
        )
        .map(Some)
    }

    async fn user(&self, username: &str) -> Option<User> {
        // A file's name and nothing else: no path, no hidden file (Kubernetes keeps `..data` there).
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._@-".contains(&b);
        if username.is_empty()
            || username.len() > 128
            || username.starts_with('.')
            || !username.bytes().all(plain)
        {
            return None;
        }
        let path = self.users_dir.as_ref()?.join(username);
        let bytes = tokio::fs::read(path).await.ok()?;
        // Where, and not what: serde's text may quote the file, and with it a password written there by mistake.
        serde_json::from_slice(&bytes)
            .inspect_err(|e| {
                let (line, column) = (e.line(), e.column());
                tracing::error!(username, line, column, "a user's file is not understood");
            })
            .ok()
    }
}

fn read_keys(key_file: &Path, previous: Option<&Path>) -> Result<Keys, AuthError> {
    let signing = read_key(key_file)?;
    let mut texts = vec![signing.clone()];
    if let Some(path) = previous {
        texts.push(read_key(path)?);
    }
    let accepted = texts
        .iter()
        .map(|t| DecodingKey::from_secret(t.expose_secret().as_bytes()))
        .collect();
    Ok(Keys {
        signing,
        accepted,
        texts,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jsonwebtoken::{EncodingKey, Header};
    use proptest::prelude::*;

    use super::*;
    use crate::clock::now_ms;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn auth(dir: &Path, config: &AuthConfig) -> Auth {
        std::fs::write(dir.join("key"), KEY).unwrap();
        Auth::new(config, dir.join("key"), dir).unwrap()
    }

    fn token(key: &str, issuer: &str, lifetime: u64) -> String {
        mint(
            &SecretString::from(key),
            "17850",
            &[],
            issuer,
            Duration::from_secs(lifetime),
        )
        .unwrap()
    }

    fn detail(problem: &Problem) -> String {
        serde_json::to_value(problem.item()).unwrap()["detail"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn tokens_of_strangers_and_expired_ones_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let auth = auth(dir.path(), &AuthConfig::default());
        assert_eq!(auth.verify_own(&token(KEY, "", 60)).unwrap().user_id, "17850");
        assert_eq!(
            detail(
                &auth
                    .verify_own(&token("another key of good length", "", 60))
                    .unwrap_err()
            ),
            "Invalid token"
        );
        let claims = Claims {
            user_id: "c".into(),
            scopes: vec![],
            iss: None,
            iat: 0,
            exp: now_ms() / 1000 - 1,
        };
        let old = jsonwebtoken::encode(
            &Header::default(),
            &claims,
            &EncodingKey::from_secret(KEY.as_bytes()),
        )
        .unwrap();
        assert_eq!(detail(&auth.verify_own(&old).unwrap_err()), "Token expired");
    }

    #[test]
    fn a_token_without_signature_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let auth = auth(dir.path(), &AuthConfig::default());
        let good = token(KEY, "", 60);
        let body = good.split('.').nth(1).unwrap();
        // {"alg":"none"}
        assert!(auth.verify_own(&format!("eyJhbGciOiJub25lIn0.{body}.")).is_err());
        assert!(auth.verify_own(&good[..good.len() - 2]).is_err());
    }

    #[test]
    fn the_issuer_is_checked_where_one_is_set() {
        let dir = tempfile::tempdir().unwrap();
        let auth = auth(
            dir.path(),
            &AuthConfig {
                issuer: "shop".into(),
                ..AuthConfig::default()
            },
        );
        assert!(auth.verify_own(&token(KEY, "shop", 60)).is_ok());
        assert!(auth.verify_own(&token(KEY, "other", 60)).is_err());
        assert!(auth.verify_own(&token(KEY, "", 60)).is_err());
    }

    #[test]
    fn a_rotated_key_signs_and_the_previous_one_is_still_accepted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("previous"), "the previous key of good length").unwrap();
        let config = AuthConfig {
            previous_jwt_secret_file: Some("previous".into()),
            ..AuthConfig::default()
        };
        let auth = auth(dir.path(), &config);
        assert!(
            auth.verify_own(&token("the previous key of good length", "", 60))
                .is_ok()
        );
        std::fs::write(dir.path().join("previous"), KEY).unwrap();
        std::fs::write(dir.path().join("key"), "a new key that is long enough").unwrap();
        auth.reload();
        assert!(
            auth.verify_own(&token("a new key that is long enough", "", 60))
                .is_ok()
        );
        assert!(auth.verify_own(&token(KEY, "", 60)).is_ok());
        assert!(
            auth.verify_own(&token("the previous key of good length", "", 60))
                .is_err()
        );
    }

    #[tokio::test]
    async fn users_sign_in_with_their_password_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("users")).unwrap();
        let hash = hash_password(&SecretString::from("s3cret")).unwrap();
        let user =
            serde_json::json!({"passwordHash": hash, "customerId": "17850", "scopes": ["events:write"]});
        std::fs::write(dir.path().join("users/ann"), user.to_string()).unwrap();
        let config = AuthConfig {
            users_dir: Some("users".into()),
            ..AuthConfig::default()
        };
        let auth = auth(dir.path(), &config);
        let token = auth
            .sign_in("ann", SecretString::from("s3cret"))
            .await
            .unwrap()
            .unwrap();
        let claims = auth.verify_own(&token).unwrap();
        assert_eq!(
            (claims.user_id.as_str(), claims.scopes),
            ("17850", vec!["events:write".to_owned()])
        );
        for (name, password) in [
            ("ann", "wrong"),
            ("bob", "s3cret"),
            ("../key", "s3cret"),
            ("", ""),
            ("..data", "x"),
        ] {
            assert!(
                auth.sign_in(name, SecretString::from(password))
                    .await
                    .unwrap()
                    .is_none(),
                "{name}"
            );
        }
    }

    #[test]
    fn a_key_that_can_be_guessed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), "secret").unwrap();
        assert!(matches!(
            read_key(&dir.path().join("key")),
            Err(AuthError::WeakKey(_))
        ));
    }

    proptest! {
        #[test]
        fn no_text_is_a_valid_token_or_makes_it_panic(text in "(\\PC{0,120}|[a-zA-Z0-9_-]{0,60}\\.[a-zA-Z0-9_-]{0,60}\\.[a-zA-Z0-9_-]{0,60})") {
            let key = DecodingKey::from_secret(KEY.as_bytes());
            let _ = jsonwebtoken::decode_header(&text);
            prop_assert!(jsonwebtoken::decode::<Claims>(&text, &key, &Validation::new(Algorithm::HS256)).is_err());
        }

        #[test]
        fn no_change_of_a_valid_token_leaves_it_valid_or_makes_it_panic(at in any::<prop::sample::Index>(), byte in b' '..b'~') {
            let key = DecodingKey::from_secret(KEY.as_bytes());
            let good = token(KEY, "", 60);
            let mut bytes = good.clone().into_bytes();
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            let changed = String::from_utf8(bytes).unwrap();
            let _ = jsonwebtoken::decode_header(&changed);
            prop_assert!(jsonwebtoken::decode::<Claims>(&changed, &key, &Validation::new(Algorithm::HS256)).is_err());
        }
    }
}
