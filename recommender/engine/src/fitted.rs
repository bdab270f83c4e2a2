//! Fitted models: made from a copy of the histories, written, read back, and swapped in as a whole.

use std::sync::Arc;

use ahash::AHashMap;
use serde::{Deserialize, Serialize};

use crate::{
    blend::Blend,
    config::Algorithm,
    lists::Word,
    matrix::Sparse,
    models::{
        als::{Als, AlsParams},
        ease::{self, EaseError, EaseParams},
    },
    reader::Reader,
    shared::{NONE, Neighbor, Shared},
    writer::Writer,
};

/// What models are fitted to: who is interested in what. Rows and columns are in the order of names, so
/// that replicas with the same histories fit the same model (on processors of one kind: the kernels of `faer` sum in
/// an order that depends on it).
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingData {
    /// Names of the columns.
    pub products: Vec<Arc<str>>,
    /// Customers by products; an interest counts 1 now and less the older it is.
    pub interactions: Sparse,
}

/// A fitted model with the names of its products.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// Given by who fitted it; named in answers.
    pub version: String,
    /// When it was fitted, milliseconds since 1970.
    pub trained_ms: i64,
    products: Vec<Arc<str>>,
    model: FittedModel,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum FittedModel {
    Ease(Sparse),
    ImplicitAls(Als),
    Weights(Blend),
}

/// Why bytes are not an artefact.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Something else, or written by a version that this one does not understand.
    #[error("not a model artefact of this version")]
    Format,
    /// Damaged on the way.
    #[error("the model artefact is damaged: its checksum differs")]
    Checksum,
    /// The parts do not fit together.
    #[error("the model artefact cannot be decoded: {0}")]
    Decode(#[from] postcard::Error),
}

const MAGIC: &[u8; 8] = b"RECMODL1";

impl Artifact {
    /// Fits EASE. Fails when there are too many products.
    pub fn ease(
        data: &TrainingData,
        params: &EaseParams,
        version: &str,
        now_ms: i64,
    ) -> Result<Artifact, EaseError> {
        let model = FittedModel::Ease(ease::fit(&data.interactions, params)?);
        Ok(Artifact {
            version: version.into(),
            trained_ms: now_ms,
            products: data.products.clone(),
            model,
        })
    }

    /// Fits iALS on this many threads; the result does not depend on their number.
    pub fn implicit_als(
        data: &TrainingData,
        params: &AlsParams,
        threads: usize,
        version: &str,
        now_ms: i64,
    ) -> Artifact {
        let model = FittedModel::ImplicitAls(Als::fit(&data.interactions, params, threads));
        Artifact {
            version: version.into(),
            trained_ms: now_ms,
            products: data.products.clone(),
            model,
        }
    }

    /// Weights of the blend, such as [`crate::eval::fit_blend_weights`] finds.
    pub fn blend_weights(blend: Blend, version: &str, now_ms: i64) -> Artifact {
        Artifact {
            version: version.into(),
            trained_ms: now_ms,
            products: Vec::new(),
            model: FittedModel::Weights(blend),
        }
    }

    /// The algorithm that it is a model of; of weights that is `Hybrid`.
    pub fn algorithm(&self) -> Algorithm {
        match self.model {
            FittedModel::Weights(_) => Algorithm::Hybrid,
            FittedModel::Ease(_) => Algorithm::Ease,
            FittedModel::ImplicitAls(_) => Algorithm::ImplicitAls,
        }
    }

    /// How many products it knows.
    pub fn products(&self) -> usize {
        self.products.len()
    }

    /// For storing: a magic word, a checksum, and the model.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ArtifactError> {
        let body = postcard::to_allocvec(self)?;
        let mut bytes = Vec::with_capacity(body.len() + 16);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&checksum(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// The reverse of [`Artifact::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Artifact, ArtifactError> {
        let rest = bytes
            .strip_prefix(MAGIC.as_slice())
            .ok_or(ArtifactError::Format)?;
        let (sum, body) = rest.split_first_chunk::<8>().ok_or(ArtifactError::Format)?;
        if checksum(body) != u64::from_le_bytes(*sum) {
            return Err(ArtifactError::Checksum);
        }
        let artifact = match postcard::from_bytes::<Artifact>(body) {
            // Weights of before `Blend::popular`, the last number of all: it was nothing.
            Err(e @ postcard::Error::DeserializeUnexpectedEnd) => {
                match postcard::from_bytes::<Artifact>(&[body, &0.0f32.to_le_bytes()].concat())? {
                    weights if matches!(weights.model, FittedModel::Weights(_)) => weights,
                    _ => return Err(e.into()),
                }
            }
            read => read?,
        };
        let products = artifact.products.len();
        let fits = match &artifact.model {
            FittedModel::Ease(weights) => weights.is_consistent() && weights.rows() == products,
            FittedModel::ImplicitAls(als) => als.is_consistent() && als.products() == products,
            FittedModel::Weights(blend) => blend.is_sound(),
        };
        if fits {
            Ok(artifact)
        } else {
            Err(ArtifactError::Format)
        }
    }
}

/// FNV-1a: against accidents, not against attackers (the store is trusted).
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3)
    })
}

/// Fitted models as readers use them, by live product ids.
#[derive(Default)]
pub(crate) struct Fitted {
    pub ease: Option<Arc<EaseLists>>,
    pub als: Option<Arc<LiveAls>>,
    /// Weights of the blend in place of the configured ones, with their version.
    pub weights: Option<Arc<(String, Blend)>>,
}

/// Lists by live product id; products that came later have none.
pub(crate) struct EaseLists {
    pub version: String,
    pub lists: Vec<Vec<Word>>,
}

/// Vectors with the way from live ids to their rows and back.
pub(crate) struct LiveAls {
    pub version: String,
    pub model: Als,
    pub row_of: Vec<u32>,
    pub product_of: Vec<u32>,
}

impl Writer {
    /// Swaps a fitted model in; readers use it from their next answer on. Products that this engine does
    /// not know are taken up.
    pub fn install(&mut self, artifact: &Artifact) {
        let product_of: Vec<u32> = artifact
            .products
            .iter()
            .map(|name| self.intern(name).unwrap_or(NONE))
            .collect();
        let known = self.shared.products.count();
        let current = self.shared.fitted.load_full();
        let fitted = match &artifact.model {
            FittedModel::Ease(weights) => {
                let mut lists: Vec<Vec<Word>> = (0..known).map(|_| Vec::new()).collect();
                for (row, &product) in product_of
                    .iter()
                    .enumerate()
                    .filter(|(_, product)| **product != NONE)
                {
                    let entries = weights.iter_row(row).map(|(column, similarity)| Neighbor {
                        product: product_of[column as usize],
                        similarity,
                    });
                    let entries = entries.filter(|entry| entry.product != NONE);
                    lists[product as usize] = entries.map(Word::new).collect();
                }
                let ease = EaseLists {
                    version: artifact.version.clone(),
                    lists,
                };
                Fitted {
                    ease: Some(Arc::new(ease)),
                    als: current.als.clone(),
                    weights: current.weights.clone(),
                }
            }
            FittedModel::ImplicitAls(model) => {
                let mut row_of = vec![NONE; known];
                for (row, &product) in product_of
                    .iter()
                    .enumerate()
                    .filter(|(_, product)| **product != NONE)
                {
                    row_of[product as usize] = row as u32;
                }
                let (version, model) = (artifact.version.clone(), model.clone());
                let als = LiveAls {
                    version,
                    model,
                    row_of,
                    product_of,
                };
                Fitted {
                    ease: current.ease.clone(),
                    als: Some(Arc::new(als)),
                    weights: current.weights.clone(),
                }
            }
            FittedModel::Weights(blend) => Fitted {
                ease: current.ease.clone(),
                als: current.als.clone(),
                weights: Some(Arc::new((artifact.version.clone(), blend.clone()))),
            },
        };
        self.shared.fitted.store(Arc::new(fitted));
    }

    /// Takes a fitted model out again; Hybrid goes on with what is left.
    pub fn uninstall(&mut self, algorithm: Algorithm) {
        let current = self.shared.fitted.load_full();
        let mut fitted = Fitted {
            ease: current.ease.clone(),
            als: current.als.clone(),
            weights: current.weights.clone(),
        };
        match algorithm {
            Algorithm::Hybrid => fitted.weights = None,
            Algorithm::Ease => fitted.ease = None,
            Algorithm::ImplicitAls => fitted.als = None,
            _ => return,
        }
        self.shared.fitted.store(Arc::new(fitted));
    }
}

type Interests = Vec<(u32, f32)>;

impl Reader {
    /// A copy of who is interested in what, for fitting on any thread while the writer goes on. An
    /// interest halves every `half_life_ms`, counted from `now_ms`.
    pub fn training_data(&self, now_ms: i64, half_life_ms: i64) -> TrainingData {
        let shared: &Shared = self.shared();
        let mut rows: Vec<(Arc<str>, Interests)> = Vec::new();
        for (name, slot) in shared.customers.pin().iter() {
            let history = slot.history.load();
            let weight = |time_ms: i64| {
                let age = (now_ms - time_ms).max(0) as f64 / half_life_ms.max(1) as f64;
                (-age).exp2() as f32
            };
            let interesting = history.entries.iter().filter(|entry| entry.interest > 0);
            let row: Interests = interesting
                .map(|entry| (entry.product, weight(entry.last_ms)))
                .collect();
            if !row.is_empty() {
                rows.push((Arc::clone(name), row));
            }
        }
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut live: Vec<u32> = rows
            .iter()
            .flat_map(|(_, row)| row.iter().map(|(product, _)| *product))
            .collect();
        live.sort_unstable();
        live.dedup();
        live.sort_unstable_by(|a, b| shared.product(*a).name.cmp(&shared.product(*b).name));
        let column: AHashMap<u32, u32> = live.iter().enumerate().map(|(at, id)| (*id, at as u32)).collect();
        let products = live
            .iter()
            .map(|id| Arc::clone(&shared.product(*id).name))
            .collect();
        let mut interactions = Sparse::new(live.len());
        for (_, row) in &mut rows {
            for (product, _) in row.iter_mut() {
                *product = column[product];
            }
            interactions.push_row(row);
        }
        TrainingData {
            products,
            interactions,
        }
    }

    /// The fitted models that answer now, with their versions.
    pub fn fitted(&self) -> Vec<(Algorithm, String)> {
        let fitted = self.shared().fitted.load();
        let ease = fitted
            .ease
            .as_ref()
            .map(|ease| (Algorithm::Ease, ease.version.clone()));
        let als = fitted
            .als
            .as_ref()
            .map(|als| (Algorithm::ImplicitAls, als.version.clone()));
        let onnx = self.shared().onnx.load();
        let onnx = onnx
            .as_ref()
            .map(|live| (Algorithm::Onnx, live.artifact.version().to_owned()));
        let weights = fitted.weights.as_ref();
        let weights = weights.map(|weights| (Algorithm::Hybrid, weights.0.clone()));
        ease.into_iter().chain(als).chain(weights).chain(onnx).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_before_popular_are_read_and_damage_is_not() {
        let blend = Blend {
            popular: 0.0,
            ..Blend::default()
        };
        let artifact = Artifact::blend_weights(blend, "w1", 7);
        let bytes = artifact.to_bytes().unwrap();
        let before = |numbers: usize| {
            let body = &bytes[16..bytes.len() - 4 * numbers];
            [MAGIC.as_slice(), &checksum(body).to_le_bytes(), body].concat()
        };
        assert_eq!(Artifact::from_bytes(&before(1)).unwrap(), artifact);
        assert!(matches!(
            Artifact::from_bytes(&before(2)),
            Err(ArtifactError::Decode(_))
        ));
    }
}
