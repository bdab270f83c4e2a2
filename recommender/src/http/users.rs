//! Users who sign in with a password: one file each, argon2id hashes.

use std::path::PathBuf;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::tokens::AuthError;

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

/// Who has signed in.
pub(super) struct SignedIn {
    /// The customer's id, or the user's name where it is no customer.
    pub id: String,
    /// What else is allowed.
    pub scopes: Vec<String>,
}

/// Checks names and passwords.
pub(super) struct Users {
    dir: Option<PathBuf>,
    /// Checked in the place of an unknown user's, so that the answer takes as long.
    dummy_hash: String,
    checks: Semaphore,
}

impl Users {
    /// Users' files lie in `dir`; without one nobody can sign in.
    pub fn new(dir: Option<PathBuf>) -> Result<Self, AuthError> {
        Ok(Self {
            dir,
            dummy_hash: hash_password(&SecretString::from(hex::encode(rand::random::<[u8; 16]>())))?,
            checks: Semaphore::new(CHECKS_AT_ONCE),
        })
    }

    /// Whom name and password belong to; `None` for a wrong one, whichever it is, and after the same time.
    pub async fn check(&self, username: &str, password: SecretString) -> Option<SignedIn> {
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
            return None;
        };
        let id = if user.customer_id.is_empty() {
            username.to_owned()
        } else {
            user.customer_id
        };
        Some(SignedIn {
            id,
            scopes: user.scopes,
        })
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
        let path = self.dir.as_ref()?.join(username);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn users_sign_in_with_their_password_only() {
        let dir = tempfile::tempdir().unwrap();
        let hash = hash_password(&SecretString::from("s3cret")).unwrap();
        let user =
            serde_json::json!({"passwordHash": hash, "customerId": "17850", "scopes": ["events:write"]});
        std::fs::write(dir.path().join("ann"), user.to_string()).unwrap();
        let users = Users::new(Some(dir.path().to_owned())).unwrap();
        let ann = users.check("ann", SecretString::from("s3cret")).await.unwrap();
        assert_eq!(
            (ann.id.as_str(), ann.scopes),
            ("17850", vec!["events:write".to_owned()])
        );
        for (name, password) in [
            ("ann", "wrong"),
            ("bob", "s3cret"),
            ("../ann", "s3cret"),
            ("", ""),
            ("..data", "x"),
        ] {
            let found = users.check(name, SecretString::from(password)).await;
            assert!(found.is_none(), "{name}");
        }
    }
}
