//! Tokens. Our own are signed with HS256; keys are read again when their files change, so that one can be rotated:
//! the previous key stays accepted while tokens signed with it live. Tokens of an identity provider are signed with
//! RS256 or ES256 and checked with the public keys of its key set.
//!
//! Which kind of key checks a token follows from the algorithm in its header, and each kind knows its own algorithm
//! only: a public key is never taken for an HMAC secret.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use recommendation_api::config::{AuthConfig, PublishableKeyConfig};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

use super::jwks::Jwks;
use super::keys::PublishableKeys;
use super::problem::Problem;
use super::tokens::{AuthError, Claims, ForeignClaims, MAX_TOKEN_BYTES, TOKEN_LIFETIME, mint, read_key};
use super::users::Users;
use super::verified::Verified;
use crate::clock::now_ms;
use crate::secrets;

/// Checks tokens and signs users in.
pub struct Auth {
    key_file: PathBuf,
    previous_key_file: Option<PathBuf>,
    users: Users,
    issuer: String,
    keys: ArcSwap<Keys>,
    /// How often our keys have changed.
    changes: AtomicU64,
    /// Keys of the identity provider, if there is one.
    jwks: Option<Jwks>,
    verified: Verified,
    publishable_config: Vec<PublishableKeyConfig>,
    publishable: ArcSwap<PublishableKeys>,
    secrets_dir: PathBuf,
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
            users: Users::new(below(&config.users_dir)?)?,
            issuer: config.issuer.clone(),
            keys: ArcSwap::from_pointee(keys),
            changes: AtomicU64::new(0),
            jwks,
            verified: Verified::new(),
            publishable_config: config.publishable_keys.clone(),
            publishable: ArcSwap::from_pointee(publishable),
            secrets_dir: secrets_dir.to_owned(),
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
            // After the keys: whoever sees the change checks with the new ones.
            self.changes.fetch_add(1, Ordering::Release);
            self.verified.clear();
            tracing::info!("signing keys were changed");
        }
    }

    /// Names the keys that are in force: it grows whenever ours or the provider's are others. Both parts only grow,
    /// so that their sum never comes back to what it was.
    fn reading(&self) -> u64 {
        let of_provider = self.jwks.as_ref().map_or(0, Jwks::readings);
        self.changes.load(Ordering::Acquire) + of_provider
    }

    /// Checks a token: ours, or the identity provider's where there is one. One that was checked lately is not
    /// checked again while it lives and the keys are the same.
    pub async fn verify(&self, token: &str) -> Result<Arc<Claims>, Problem> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Problem::unauthorized("Invalid token"));
        }
        let reading = self.reading();
        if let Some(claims) = self.verified.get(token, reading, now_ms() / 1000) {
            return Ok(claims);
        }
        let claims = Arc::new(self.check(token).await?);
        self.verified.put(token, reading, Arc::clone(&claims));
        Ok(claims)
    }

    async fn check(&self, token: &str) -> Result<Claims, Problem> {
        let invalid = || Problem::unauthorized("Invalid token");
        let header = jsonwebtoken::decode_header(token).map_err(|_| invalid())?;
        let jwks = match header.alg {
            Algorithm::HS256 => return self.check_own(token),
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
    fn check_own(&self, token: &str) -> Result<Claims, Problem> {
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
        let Some(user) = self.users.check(username, password).await else {
            return Ok(None);
        };
        let signing = &self.keys.load().signing;
        mint(signing, &user.id, &user.scopes, &self.issuer, TOKEN_LIFETIME).map(Some)
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
mod tests;
