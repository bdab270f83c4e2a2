//! Files below the secrets folder. Their contents never reach a log line: they live in [`SecretString`]s,
//! whose Debug is redacted, and errors name the file only.

use std::path::{Component, Path, PathBuf};

use secrecy::SecretString;

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The configured name leaves the secrets folder.
    #[error("{0:?} is not a plain path below the secrets folder")]
    Outside(String),
    /// The file cannot be read.
    #[error("cannot read secret {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is empty or holds only white space.
    #[error("secret {0} is empty")]
    Empty(PathBuf),
    /// The file cannot be written (a key made at start).
    #[error("cannot write secret {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// `name` below `dir`; a name that is absolute or climbs out is refused.
pub fn below(dir: &Path, name: &str) -> Result<PathBuf, SecretError> {
    let plain = Path::new(name)
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if name.is_empty() || !plain {
        return Err(SecretError::Outside(name.to_owned()));
    }
    Ok(dir.join(name))
}

/// Reads a secret; one trailing line break is not part of it (files made by `echo`).
pub fn read(path: &Path) -> Result<SecretString, SecretError> {
    let text = std::fs::read_to_string(path).map_err(|source| SecretError::Read {
        path: path.to_owned(),
        source,
    })?;
    let text = text
        .strip_suffix('\n')
        .map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
    if text.trim().is_empty() {
        return Err(SecretError::Empty(path.to_owned()));
    }
    Ok(SecretString::from(text))
}

/// Reads the key at `path`, or makes one that only its owner can read. Returns whether it was made.
pub fn read_or_make(path: &Path) -> Result<(SecretString, bool), SecretError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let key = hex::encode(rand::random::<[u8; 32]>());
    // `create_new`: of two processes that start at once, one makes the key and the other reads it.
    match std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(mut file) => {
            file.write_all(key.as_bytes())
                .and_then(|()| file.sync_all())
                .map_err(|source| SecretError::Write {
                    path: path.to_owned(),
                    source,
                })?;
            Ok((SecretString::from(key), true))
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => read(path).map(|key| (key, false)),
        Err(source) => Err(SecretError::Write {
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn names_cannot_leave_the_secrets_folder() {
        let dir = Path::new("/secrets");
        assert_eq!(below(dir, "jwt/secret").unwrap(), dir.join("jwt/secret"));
        for name in ["", "../etc/passwd", "/etc/passwd", "jwt/../../x"] {
            assert!(below(dir, name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_made_key_is_private_and_stays() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.key");
        let (first, made) = read_or_make(&path).unwrap();
        let (second, again) = read_or_make(&path).unwrap();
        assert!(made && !again);
        assert_eq!(first.expose_secret(), second.expose_secret());
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn an_empty_secret_is_refused_and_no_secret_shows_in_debug() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(read(&path), Err(SecretError::Empty(_))));
        std::fs::write(&path, "hunter2\n").unwrap();
        let secret = read(&path).unwrap();
        assert_eq!(secret.expose_secret(), "hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
