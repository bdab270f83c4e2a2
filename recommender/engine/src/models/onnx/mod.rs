//! A ranker or a two-tower model that the user brings as an ONNX file. What a file must look like is said in
//! `docs/bring-your-own-model.md` and checked by [`OnnxModel::read`], so that a model that does not fit is
//! refused when it comes and not when it is asked.

mod features;
#[cfg(feature = "onnx")]
mod plan;
#[cfg(not(feature = "onnx"))]
#[path = "without.rs"]
mod plan;
mod serve;

use std::{collections::BTreeMap, sync::Arc};

pub(crate) use features::Feature;
use plan::{Input, Opened, Plan, Port};
pub(crate) use serve::{LiveOnnx, answer};

/// Candidates that a ranker with an open number of rows is given.
pub(crate) const ROWS: usize = 128;
/// More rows than this are no ranking.
const MAX_ROWS: usize = 10_000;
/// Products of the history that a tower with an open length is given.
const LENGTH: usize = 50;
const MAX_LENGTH: usize = 10_000;

/// Why a file is not a model for this engine.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OnnxError {
    /// Built without the feature `onnx`.
    #[error("this program was built without ONNX models; build it with the feature `onnx`")]
    NotBuilt,
    /// Too large.
    #[error("the model has {bytes} bytes, more than the {limit} that are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// Something else.
    #[error("not an ONNX file")]
    Format,
    /// Weights in another file.
    #[error("the weights {0:?} are in another file; save the model with its weights inside")]
    External(String),
    /// No input that says what kind of model it is, or more than one input.
    #[error(
        "the model's inputs are {found:?}; it must have exactly one, called \"features\" (a ranker), \"history\" or \
         \"history_embeddings\" (a two-tower model)"
    )]
    Inputs {
        /// The names of its inputs.
        found: Vec<String>,
    },
    /// No output of the right name.
    #[error("the model's outputs are {found:?}; one must be called {expected}")]
    Outputs {
        /// The names of its outputs.
        found: Vec<String>,
        /// What is looked for.
        expected: &'static str,
    },
    /// An input of another type or shape.
    #[error("input {name:?} is {found}; it must be {expected}")]
    Shape {
        /// The name of the input.
        name: String,
        /// Its type and shape.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// An output of another size.
    #[error("output {name:?} has {found} numbers where {expected} are expected")]
    Size {
        /// The name of the output.
        name: String,
        /// How many came out of a trial.
        found: usize,
        /// How many were expected.
        expected: String,
    },
    /// A feature that does not exist.
    #[error("metadata property \"features\" names {name:?}, which is none of: {known}")]
    Feature {
        /// The name.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// The list of products is missing or cannot be read.
    #[error(
        "the products are missing: give their ids, in the order of the model's indices, as a JSON array of strings \
         in the metadata property \"products\" or beside the model"
    )]
    Products,
    /// The library cannot run it.
    #[error("the model cannot be run: {0}")]
    Model(String),
    /// The library panicked on it.
    #[error("the model cannot be run: it makes the ONNX runtime panic")]
    Panicked,
    /// A number that is none.
    #[error("the model answered with a number that is not finite")]
    NotFinite,
}

/// A checked and compiled model.
pub struct OnnxModel {
    version: String,
    plan: Plan,
    pub(crate) kind: Kind,
}

/// What a model is asked and answers.
pub(crate) enum Kind {
    /// Features of candidates in, a score each out.
    Ranker { features: Vec<Feature>, rows: usize },
    /// A history in, scores of products or a place among the catalogue's embeddings out.
    Tower {
        history: History,
        length: usize,
        answer: Answer,
    },
}

/// How a tower is told of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum History {
    /// One plus the index of each product; 0 fills up.
    Indices,
    /// The catalogue's embedding of each product, of this length; zeros fill up.
    Embeddings(usize),
}

/// What a tower answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A score for each product; `padded`: and one for index 0 in front.
    Scores { padded: bool },
    /// A vector, to be compared with the catalogue's embeddings, of this length.
    Embedding(usize),
}

impl std::fmt::Debug for OnnxModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OnnxModel({})", self.version)
    }
}

/// With its list of products, if it is about indices.
pub(crate) type Checked = (OnnxModel, Vec<Arc<str>>);

impl OnnxModel {
    /// Reads and checks a file, and runs it once on zeros. `products` are the ids of the products in the order of
    /// the model's indices, in place of those in its metadata; a ranker needs none. `version` is named in
    /// answers.
    pub fn read(
        bytes: &[u8],
        products: Option<Vec<String>>,
        version: &str,
    ) -> Result<OnnxArtifact, OnnxError> {
        let opened = Opened::read(bytes)?;
        let names = |ports: &[Port]| ports.iter().map(|port| port.name.clone()).collect::<Vec<_>>();
        let [input] = opened.inputs.as_slice() else {
            return Err(OnnxError::Inputs {
                found: names(&opened.inputs),
            });
        };
        let output = |wanted: &[&str], expected| {
            let at = opened
                .outputs
                .iter()
                .position(|port| wanted.contains(&port.name.as_str()));
            at.ok_or(OnnxError::Outputs {
                found: names(&opened.outputs),
                expected,
            })
        };
        let (model, products) = match input.name.as_str() {
            "features" => (
                ranker(&opened, input, output(&["scores"], "\"scores\"")?, version)?,
                Vec::new(),
            ),
            "history" | "history_embeddings" => {
                let at = output(&["scores", "embedding"], "\"scores\" or \"embedding\"")?;
                tower(&opened, input, at, products, version)?
            }
            _ => {
                return Err(OnnxError::Inputs {
                    found: names(&opened.inputs),
                });
            }
        };
        Ok(OnnxArtifact {
            model: Arc::new(model),
            products,
        })
    }
}

/// A model that was read, to be handed to [`crate::Writer::install_onnx`].
#[derive(Clone, Debug)]
pub struct OnnxArtifact {
    pub(crate) model: Arc<OnnxModel>,
    /// The products of the model's indices.
    pub(crate) products: Vec<Arc<str>>,
}

impl OnnxArtifact {
    /// What it was called when it was read.
    pub fn version(&self) -> &str {
        &self.model.version
    }
}

fn wrong(port: &Port, expected: impl Into<String>) -> OnnxError {
    let sizes = port
        .shape
        .iter()
        .map(|size| size.map_or("?".into(), |size| size.to_string()));
    OnnxError::Shape {
        name: port.name.clone(),
        found: format!("{} [{}]", port.element, sizes.collect::<Vec<String>>().join(", ")),
        expected: expected.into(),
    }
}

fn ranker(opened: &Opened, input: &Port, output: usize, version: &str) -> Result<OnnxModel, OnnxError> {
    let features = features::chosen(opened.metadata.get("features"))?;
    let expected = || {
        format!(
            "float [n, {}]: one row a candidate, one column for each of the features {}",
            features.len(),
            features::names(&features),
        )
    };
    let rows = match input.shape.as_slice() {
        [rows, columns] if input.is_float && columns.is_none_or(|columns| columns == features.len()) => {
            rows.unwrap_or(ROWS)
        }
        _ => return Err(wrong(input, expected())),
    };
    if rows > MAX_ROWS {
        return Err(wrong(input, format!("of at most {MAX_ROWS} rows")));
    }
    let plan = opened.compile(&[rows, features.len()], output)?;
    let tried = plan.run(Input::Floats(&vec![0.0; rows * features.len()]))?;
    if tried.len() != rows {
        return Err(OnnxError::Size {
            name: opened.outputs[output].name.clone(),
            found: tried.len(),
            expected: format!("{rows} (one a candidate)"),
        });
    }
    Ok(OnnxModel {
        version: version.into(),
        plan,
        kind: Kind::Ranker { features, rows },
    })
}

fn tower(
    opened: &Opened,
    input: &Port,
    output: usize,
    products: Option<Vec<String>>,
    version: &str,
) -> Result<Checked, OnnxError> {
    let one = |size: &Option<usize>| size.is_none_or(|size| size == 1);
    let indices = input.name == "history";
    let (length, history) = match input.shape.as_slice() {
        [batch, length] if indices && input.is_int64 && one(batch) => (length, History::Indices),
        [batch, length, Some(size)] if !indices && input.is_float && one(batch) => {
            (length, History::Embeddings(*size))
        }
        _ if indices => {
            return Err(wrong(
                input,
                "int64 [1, L]: for each of the last L products one plus its index, 0 in front of a shorter history",
            ));
        }
        _ => {
            return Err(wrong(
                input,
                "float [1, L, E]: the catalogue's embedding, of length E, of each of the last L products",
            ));
        }
    };
    let length = length.unwrap_or(LENGTH);
    if length > MAX_LENGTH {
        return Err(wrong(input, format!("of at most {MAX_LENGTH} products")));
    }
    let name = &opened.outputs[output].name;
    let products = if indices || name == "scores" {
        listed(products, &opened.metadata)?
    } else {
        Vec::new()
    };
    let plan = match history {
        History::Indices => opened.compile(&[1, length], output)?,
        History::Embeddings(size) => opened.compile(&[1, length, size], output)?,
    };
    let tried = match history {
        History::Indices => plan.run(Input::Integers(&vec![0; length]))?.len(),
        History::Embeddings(size) => plan.run(Input::Floats(&vec![0.0; length * size]))?.len(),
    };
    let known = products.len();
    let answer = match name.as_str() {
        "scores" if tried == known => Answer::Scores { padded: false },
        "scores" if tried == known + 1 => Answer::Scores { padded: true },
        "embedding" if tried > 0 => Answer::Embedding(tried),
        _ => {
            return Err(OnnxError::Size {
                name: name.clone(),
                found: tried,
                expected: format!(
                    "{known} (one a product) or {} (one more in front for index 0)",
                    known + 1
                ),
            });
        }
    };
    let model = OnnxModel {
        version: version.into(),
        plan,
        kind: Kind::Tower {
            history,
            length,
            answer,
        },
    };
    Ok((model, products))
}

fn listed(
    given: Option<Vec<String>>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<Arc<str>>, OnnxError> {
    let inside = || serde_json::from_str::<Vec<String>>(metadata.get("products")?).ok();
    let products = given.or_else(inside).ok_or(OnnxError::Products)?;
    if products.is_empty() {
        return Err(OnnxError::Products);
    }
    Ok(products.into_iter().map(Arc::from).collect())
}
