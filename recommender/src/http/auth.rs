//! Tokens (HS256) and sign-in. Keys are read again when their files change, so that one can be rotated: the
//! previous key stays accepted while tokens signed with it live.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use recommendation_api::config::AuthConfig;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::problem::Problem;
use super::tokens::{AuthError, Claims, TOKEN_LIFETIME, mint, read_key};
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
        Ok(Self {
            key_file,
            previous_key_file,
            users_dir: below(&config.users_dir)?,
            issuer: config.issuer.clone(),
            keys: ArcSwap::from_pointee(keys),
            dummy_hash: hash_password(&SecretString::from(hex::encode(rand::random::<[u8; 16]>())))?,
            checks: Semaphore::new(CHECKS_AT_ONCE),
        })
    }

    /// Reads the keys again; an unreadable moment leaves the old ones in force.
    pub fn reload(&self) {
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

    /// Checks a token.
    pub fn verify(&self, token: &str) -> Result<Claims, Problem> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.validate_nbf = true;
        if !self.issuer.is_empty() {
            validation.set_issuer(&[&self.issuer]);
            validation.set_required_spec_claims(&["exp", "iss"]);
        }
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
        let checked = tokio::task::spawn_blocking(move || {
            let hash = PasswordHash::new(&hash).ok()?;
            Argon2::default()
                .verify_password(password.expose_secret().as_bytes(), &hash)
                .ok()
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
        assert_eq!(auth.verify(&token(KEY, "", 60)).unwrap().user_id, "17850");
        assert_eq!(
            detail(
                &auth
                    .verify(&token("another key of good length", "", 60))
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
        assert_eq!(detail(&auth.verify(&old).unwrap_err()), "Token expired");
    }

    #[test]
    fn a_token_without_signature_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let auth = auth(dir.path(), &AuthConfig::default());
        let good = token(KEY, "", 60);
        let body = good.split('.').nth(1).unwrap();
        // {"alg":"none"}
        assert!(auth.verify(&format!("eyJhbGciOiJub25lIn0.{body}.")).is_err());
        assert!(auth.verify(&good[..good.len() - 2]).is_err());
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
        assert!(auth.verify(&token(KEY, "shop", 60)).is_ok());
        assert!(auth.verify(&token(KEY, "other", 60)).is_err());
        assert!(auth.verify(&token(KEY, "", 60)).is_err());
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
            auth.verify(&token("the previous key of good length", "", 60))
                .is_ok()
        );
        std::fs::write(dir.path().join("previous"), KEY).unwrap();
        std::fs::write(dir.path().join("key"), "a new key that is long enough").unwrap();
        auth.reload();
        assert!(
            auth.verify(&token("a new key that is long enough", "", 60))
                .is_ok()
        );
        assert!(auth.verify(&token(KEY, "", 60)).is_ok());
        assert!(
            auth.verify(&token("the previous key of good length", "", 60))
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
        let claims = auth.verify(&token).unwrap();
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
        fn no_text_is_a_valid_token(text in "\\PC{0,120}") {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("key"), KEY).unwrap();
            let keys = read_keys(&dir.path().join("key"), None).unwrap();
            let accepted = jsonwebtoken::decode::<Claims>(&text, &keys.accepted[0], &Validation::new(Algorithm::HS256));
            prop_assert!(accepted.is_err());
        }
    }
}
