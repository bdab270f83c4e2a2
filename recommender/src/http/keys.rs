//! Publishable keys: they stand in web pages for everyone to read, so they open only what is not personal, and
//! may be bound to the origins of those pages.

use std::collections::HashMap;
use std::path::Path;

use recommendation_api::config::PublishableKeyConfig;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::tokens::AuthError;
use crate::secrets;

/// Why a key was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No such key.
    Unknown,
    /// Not from this origin.
    Origin,
}

/// All publishable keys, by their digest: the time of a look-up tells nothing about a key.
#[derive(Default, PartialEq)]
pub struct PublishableKeys(HashMap<[u8; 32], Vec<String>>);

impl PublishableKeys {
    /// Reads the keys' files below `secrets_dir`.
    pub fn read(config: &[PublishableKeyConfig], secrets_dir: &Path) -> Result<Self, AuthError> {
        let mut keys = HashMap::new();
        for entry in config {
            let key = secrets::read(&secrets::below(secrets_dir, &entry.key_file)?)?;
            keys.insert(digest(&key), entry.origins.clone());
        }
        Ok(Self(keys))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks a key that was presented by a page of `origin`.
    pub fn check(&self, key: &str, origin: Option<&str>) -> Result<(), Refused> {
        let origins = self
            .0
            .get(&digest(&SecretString::from(key)))
            .ok_or(Refused::Unknown)?;
        let bound = !origins.is_empty() && !origins.iter().any(|o| o == "*");
        if bound && !origin.is_some_and(|origin| origins.iter().any(|o| o.trim_end_matches('/') == origin)) {
            return Err(Refused::Origin);
        }
        Ok(())
    }
}

fn digest(key: &SecretString) -> [u8; 32] {
    Sha256::digest(key.expose_secret().as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_by_their_files_and_bound_to_their_origins() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("web"), "pk_web\n").unwrap();
        std::fs::write(dir.path().join("app"), "pk_app").unwrap();
        let entry = |file: &str, origins: &[&str]| PublishableKeyConfig {
            name: file.into(),
            key_file: file.into(),
            origins: origins.iter().map(|o| (*o).to_owned()).collect(),
        };
        let config = [entry("web", &["https://shop.example/"]), entry("app", &[])];
        let keys = PublishableKeys::read(&config, dir.path()).unwrap();
        assert_eq!(keys.check("pk_app", None), Ok(()));
        assert_eq!(keys.check("pk_web", Some("https://shop.example")), Ok(()));
        assert_eq!(
            keys.check("pk_web", Some("https://evil.example")),
            Err(Refused::Origin)
        );
        assert_eq!(keys.check("pk_web", None), Err(Refused::Origin));
        assert_eq!(keys.check("pk_", None), Err(Refused::Unknown));
        assert!(PublishableKeys::read(&[entry("none", &[])], dir.path()).is_err());
    }
}
