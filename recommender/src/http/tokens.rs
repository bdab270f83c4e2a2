//! Tokens: HS256, claim `user_id`, an hour.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::jwks::JwksError;
use crate::clock::now_ms;
use crate::secrets::{self, SecretError};

/// Lifetime of a token.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// Shortest HS256 key, in bytes: a shorter one can be guessed from any token.
pub const MIN_KEY_BYTES: usize = 16;
/// Longest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A key cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A key can be guessed.
    #[error("the key in {0} has fewer than {MIN_KEY_BYTES} bytes")]
    WeakKey(PathBuf),
    /// A token cannot be made.
    #[error("cannot sign a token: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
    /// The identity provider's keys cannot be asked for.
    #[error(transparent)]
    Jwks(#[from] JwksError),
    /// A password cannot be hashed.
    #[error("cannot hash a password: {0}")]
    Hash(argon2::password_hash::Error),
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// Who: the customer's id, or the user's name where it is no customer.
    pub user_id: String,
    /// What else is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Who issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// When it was issued, seconds since 1970.
    #[serde(default)]
    pub iat: i64,
    /// When it ends, seconds since 1970.
    pub exp: i64,
}

/// What a token of an identity provider says: who it is stands in `user_id`, else in `sub`; scopes stand in
/// `scopes` (a list, as ours) or in `scope` (separated by spaces, RFC 9068).
#[derive(Debug, Deserialize)]
pub(super) struct ForeignClaims {
    #[serde(default)]
    user_id: String,
    #[serde(default)]
    sub: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    scope: String,
    iss: Option<String>,
    exp: i64,
}

impl ForeignClaims {
    /// As ours; nothing where it does not say who.
    pub(super) fn into_claims(self) -> Option<Claims> {
        let user_id = [self.user_id, self.sub].into_iter().find(|id| !id.is_empty())?;
        let scopes = if self.scopes.is_empty() {
            self.scope.split_whitespace().map(str::to_owned).collect()
        } else {
            self.scopes
        };
        Some(Claims {
            user_id,
            scopes,
            iss: self.iss,
            iat: 0,
            exp: self.exp,
        })
    }
}

/// Makes a token that lives for `lifetime`.
pub fn mint(
    key: &SecretString,
    user_id: &str,
    scopes: &[String],
    issuer: &str,
    lifetime: Duration,
) -> Result<String, AuthError> {
    let iat = now_ms() / 1000;
    let claims = Claims {
        user_id: user_id.to_owned(),
        scopes: scopes.to_vec(),
        iss: (!issuer.is_empty()).then(|| issuer.to_owned()),
        iat,
        exp: iat.saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX)),
    };
    let key = EncodingKey::from_secret(key.expose_secret().as_bytes());
    Ok(jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims,
        &key,
    )?)
}

/// Reads a key and refuses one that can be guessed.
pub fn read_key(path: &Path) -> Result<SecretString, AuthError> {
    let key = secrets::read(path)?;
    if key.expose_secret().len() < MIN_KEY_BYTES {
        return Err(AuthError::WeakKey(path.to_owned()));
    }
    Ok(key)
}
