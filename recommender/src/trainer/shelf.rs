//! Fitted versions in the store: `models/<version>.json` tells of one, `models/<version>-<algorithm>` are its
//! models, and `models/current` names the one that answers.

use recommender_engine::{Artifact, ArtifactError, Blend};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::fit::Bundle;
use crate::store::{Store, StoreError};

const FOLDER: &str = "models";
const CURRENT: &str = "models/current";
/// Versions that are kept.
const KEPT: usize = 5;

/// In an entry without it, as it is serialised.
const UNKNOWN_BEFORE: &str = r#","popular":0.0"#;

/// Why the shelf cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The store does not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A version or a part of one is missing.
    #[error("there is no {0}")]
    Missing(String),
    /// What tells of a version cannot be understood.
    #[error("{name} is damaged: {problem}")]
    Damaged {
        /// Which object.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A model cannot be read or written.
    #[error("model of version {version}: {source}")]
    Model {
        /// Which version.
        version: String,
        /// Why.
        source: ArtifactError,
    },
    /// There is nothing to go back to.
    #[error("there is no version before {0}")]
    NoneBefore(String),
}

/// What is told of a version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Entry {
    /// Its name.
    pub version: String,
    /// When it was fitted, milliseconds since 1970.
    pub trained_ms: i64,
    /// The program that fitted it.
    pub program: String,
    /// Names of its models' objects.
    pub models: Vec<String>,
    /// What each member of `Hybrid` counts.
    pub blend: Blend,
    /// Share of held-out questions that it answered.
    pub hit_rate_at_10: f64,
    /// XXH3 of everything above (but `blend.popular`), in hexadecimal, as written.
    pub checksum: String,
}

impl Entry {
    fn sum(&self) -> String {
        // The program before this one knows no `popular`: it reads an entry without it, and so sums it up.
        let blend = Blend {
            popular: 0.0,
            ..self.blend.clone()
        };
        let told = Self {
            checksum: String::new(),
            blend,
            ..self.clone()
        };
        // Numbers and texts always serialise.
        let told = serde_json::to_string(&told).unwrap_or_default();
        format!("{:016x}", xxh3_64(told.replace(UNKNOWN_BEFORE, "").as_bytes()))
    }
}

/// The fitted versions of one pipeline.
#[derive(Clone)]
pub struct Shelf {
    /// Where they lie.
    pub store: Store,
}

impl Shelf {
    /// The version that answers; `None` if none was ever fitted.
    pub async fn current(&self) -> Result<Option<String>, ShelfError> {
        let named = self.store.get(CURRENT).await?;
        Ok(named.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
    }

    /// All versions, newest first.
    pub async fn list(&self) -> Result<Vec<Entry>, ShelfError> {
        let mut entries = Vec::new();
        for (name, _) in self.store.list(FOLDER).await?.into_iter().rev() {
            if let Some(version) = name.strip_suffix(".json") {
                match self.entry(version).await {
                    Ok(entry) => entries.push(entry),
                    Err(e) => tracing::warn!(version, error = %e, "version left out"),
                }
            }
        }
        Ok(entries)
    }

    async fn entry(&self, version: &str) -> Result<Entry, ShelfError> {
        let name = format!("{FOLDER}/{version}.json");
        let bytes = self
            .store
            .get(&name)
            .await?
            .ok_or_else(|| ShelfError::Missing(name.clone()))?;
        let damaged = |problem: String| ShelfError::Damaged {
            name: name.clone(),
            problem,
        };
        let entry: Entry = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if entry.sum() != entry.checksum {
            return Err(damaged("its checksum differs".into()));
        }
        if !entry.blend.is_sound() {
            return Err(damaged("weights of its blend are out of range".into()));
        }
        Ok(entry)
    }

    /// Reads a version.
    pub async fn load(&self, version: &str) -> Result<Bundle, ShelfError> {
        let entry = self.entry(version).await?;
        let mut artifacts = Vec::new();
        for name in &entry.models {
            let path = format!("{FOLDER}/{name}");
            let bytes = self.store.get(&path).await?.ok_or(ShelfError::Missing(path))?;
            let artifact = Artifact::from_bytes(&bytes).map_err(|source| ShelfError::Model {
                version: version.to_owned(),
                source,
            })?;
            artifacts.push(artifact);
        }
        Ok(Bundle {
            version: entry.version,
            trained_ms: entry.trained_ms,
            artifacts,
            blend: entry.blend,
        })
    }

    /// Writes a version and puts it in front: the models first, then what tells of them, then its name. Whoever
    /// looks meanwhile sees the version before.
    pub async fn publish(&self, bundle: &Bundle, hit_rate_at_10: f64) -> Result<(), ShelfError> {
        let version = &bundle.version;
        let mut entry = Entry {
            version: version.clone(),
            trained_ms: bundle.trained_ms,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            blend: bundle.blend.clone(),
            hit_rate_at_10,
            ..Entry::default()
        };
        for artifact in &bundle.artifacts {
            let name = format!("{version}-{}", artifact.algorithm().name());
            let bytes = artifact.to_bytes().map_err(|source| ShelfError::Model {
                version: version.clone(),
                source,
            })?;
            self.store.put(&format!("{FOLDER}/{name}"), bytes).await?;
            entry.models.push(name);
        }
        entry.checksum = entry.sum();
        let told = serde_json::to_vec_pretty(&entry).unwrap_or_default();
        self.store.put(&format!("{FOLDER}/{version}.json"), told).await?;
        self.store.put(CURRENT, version.clone()).await?;
        for old in self.list().await?.into_iter().skip(KEPT) {
            self.store
                .remove(&format!("{FOLDER}/{}.json", old.version))
                .await?;
            for name in &old.models {
                self.store.remove(&format!("{FOLDER}/{name}")).await?;
            }
        }
        Ok(())
    }

    /// Puts the version before the current one in front again; returns both, the old one first.
    pub async fn roll_back(&self) -> Result<(String, String), ShelfError> {
        let current = self
            .current()
            .await?
            .ok_or_else(|| ShelfError::Missing(CURRENT.into()))?;
        let before = self
            .list()
            .await?
            .into_iter()
            .find(|entry| entry.version < current);
        let before = before
            .ok_or_else(|| ShelfError::NoneBefore(current.clone()))?
            .version;
        // Only what can be read is put in front.
        self.load(&before).await?;
        self.store.put(CURRENT, before.clone()).await?;
        Ok((current, before))
    }
}

#[cfg(test)]
mod tests {
    use recommender_engine::EngineConfig;

    use super::*;
    use crate::trainer::fit;

    #[tokio::test]
    async fn versions_are_published_listed_rolled_back_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf {
            store: Store::folder(dir.path()).unwrap(),
        };
        assert!(shelf.current().await.unwrap().is_none());
        assert!(shelf.roll_back().await.is_err());
        let (_writer, reader, now) = fit::tests::shop();
        let fitted = fit::fit(&reader, &EngineConfig::default(), None, now).unwrap();
        let mut bundle = fitted.bundle;
        for n in 1..=7 {
            bundle.version = format!("2026010{n}T000000Z");
            shelf.publish(&bundle, 0.5).await.unwrap();
        }
        let listed: Vec<String> = shelf
            .list()
            .await
            .unwrap()
            .into_iter()
            .map(|entry| entry.version)
            .collect();
        assert_eq!(listed.len(), KEPT);
        assert_eq!(
            (&*listed[0], &*listed[4]),
            ("20260107T000000Z", "20260103T000000Z")
        );
        let back = shelf.load("20260107T000000Z").await.unwrap();
        assert_eq!((back.artifacts.len(), &back.blend), (2, &bundle.blend));
        let (from, to) = shelf.roll_back().await.unwrap();
        assert_eq!((&*from, &*to), ("20260107T000000Z", "20260106T000000Z"));
        assert_eq!(
            shelf.current().await.unwrap().as_deref(),
            Some("20260106T000000Z")
        );
        // What is damaged is never put in front.
        let path = dir.path().join("models/20260105T000000Z-Ease");
        std::fs::write(path, "nothing").unwrap();
        assert!(shelf.roll_back().await.is_err());
        assert_eq!(
            shelf.current().await.unwrap().as_deref(),
            Some("20260106T000000Z")
        );
    }

    #[tokio::test]
    async fn an_entry_is_read_by_the_program_before_this_one_and_theirs_by_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf {
            store: Store::folder(dir.path()).unwrap(),
        };
        let (_writer, reader, now) = fit::tests::shop();
        let mut bundle = fit::fit(&reader, &EngineConfig::default(), None, now)
            .unwrap()
            .bundle;
        // Whichever weights were found best in this small shop.
        bundle.blend = Blend::default();
        assert!(bundle.blend.popular > 0.0);
        shelf.publish(&bundle, 0.5).await.unwrap();
        let path = dir.path().join(format!("models/{}.json", bundle.version));
        let written = std::fs::read_to_string(&path).unwrap();
        // That program reads no `popular`, writes what it has read, without a checksum, and compares the sums.
        let mut known: serde_json::Value = serde_json::from_str(&written).unwrap();
        let checksum = known["checksum"].as_str().unwrap().to_owned();
        let popular = known["blend"].as_object_mut().unwrap().remove("popular");
        assert!(popular.is_some());
        let before = known.to_string();
        known["checksum"] = "".into();
        let told: Before = serde_json::from_value(known).unwrap();
        let sum = xxh3_64(&serde_json::to_vec(&told).unwrap());
        assert_eq!(format!("{sum:016x}"), checksum);
        // What it wrote itself was fitted without.
        std::fs::write(&path, before).unwrap();
        assert_eq!(shelf.load(&bundle.version).await.unwrap().blend.popular, 0.0);
        // It is in no checksum: what cannot be is refused all the same.
        let damaged = written.replace(r#""popular": 0.3"#, r#""popular": -0.3"#);
        assert_ne!(damaged, written);
        std::fs::write(&path, damaged).unwrap();
        let refused = shelf.load(&bundle.version).await.unwrap_err();
        assert!(refused.to_string().contains("out of range"), "{refused}");
    }

    /// An [`Entry`] as the program before this one knows it.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Before {
        version: String,
        trained_ms: i64,
        program: String,
        models: Vec<String>,
        blend: BlendBefore,
        hit_rate_at_10: f64,
        checksum: String,
    }

    #[derive(Serialize, Deserialize)]
    struct BlendBefore {
        walk: f32,
        knn: f32,
        session: f32,
        ease: f32,
        als: f32,
        content: f32,
        trend: f32,
    }
}
