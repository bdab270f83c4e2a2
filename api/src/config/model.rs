//! The model's part of the configuration.

use serde::{Deserialize, Serialize};

use crate::duration::HumanDuration;
use crate::model::{Algorithm, EventWeights, ModelSource, default_event_weights};
use crate::pipeline::recommender::{KnowledgeRule, Switch};

/// The model. `eventWeights`, `diversity`, `exploration`, `onnx` and `knowledge` are taken up while running; the
/// others need the log to be read again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelConfig {
    /// Which model answers.
    pub algorithm: Algorithm,
    /// What it learns from.
    pub source: ModelSource,
    /// Neighbours kept per product.
    pub neighbors: u32,
    /// Weight of an event by its type; others 0.
    pub event_weights: EventWeights,
    /// Events kept per customer.
    pub history_length: u32,
    /// After this long an event counts half.
    pub half_life: HumanDuration,
    /// 0 = most alike, 1 = most varied.
    pub diversity: f64,
    /// Share of slots given to exploration, 0..=1.
    pub exploration: f64,
    /// When fitted models are fitted again.
    pub retrain: RetrainConfig,
    /// A model that the user brings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onnx: Option<OnnxConfig>,
    /// Rules between customers' and products' attributes, as in the resource.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub knowledge: Vec<KnowledgeRule>,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            source: ModelSource::default(),
            neighbors: 100,
            event_weights: default_event_weights(),
            history_length: 50,
            half_life: HumanDuration::from_days(30),
            diversity: 0.2,
            exploration: 0.05,
            retrain: RetrainConfig::default(),
            onnx: None,
            knowledge: Vec::new(),
        }
    }
}

/// When fitted models (Ease, ImplicitAls, blend weights) are fitted again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RetrainConfig {
    /// Cron schedule of five fields, in UTC.
    pub schedule: String,
    /// Whether drift starts a fit.
    pub on_drift: Switch,
}

impl Default for RetrainConfig {
    fn default() -> Self {
        Self {
            schedule: "0 3 * * *".into(),
            on_drift: Switch::Enabled,
        }
    }
}

/// A model that the user brings as an ONNX file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct OnnxConfig {
    /// Where the file is (`s3://…`, `file:///…`).
    pub url: String,
    /// Folder below the secrets folder with the store's credentials, one file a setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_dir: Option<String>,
}
