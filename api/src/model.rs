//! The parts of a model's configuration, as written in `spec.recommender.model` and read by the recommender.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which model answers. One name, one file of the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// Chosen by prequential hit rate.
    Auto,
    /// A weighted blend of the online models (the default).
    #[default]
    Hybrid,
    /// Item-to-item cosine over weighted events.
    ItemKnn,
    /// Random walk with popularity penalty (Paudel et al. 2017).
    Rp3Beta,
    /// VMIS-kNN over sessions (Kersbergen et al. 2022).
    SessionKnn,
    /// Closed-form linear autoencoder (Steck 2019).
    Ease,
    /// Implicit-feedback matrix factorisation (Rendle et al. 2021).
    ImplicitAls,
    /// What most customers like now, with time decay.
    Popularity,
    /// TF-IDF of the catalogue's texts.
    Content,
    /// Declared rules between customer and product attributes.
    Knowledge,
    /// A model that the user brings.
    Onnx,
}

impl Algorithm {
    /// The name in manifests, metrics and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "Auto",
            Self::Hybrid => "Hybrid",
            Self::ItemKnn => "ItemKnn",
            Self::Rp3Beta => "Rp3Beta",
            Self::SessionKnn => "SessionKnn",
            Self::Ease => "Ease",
            Self::ImplicitAls => "ImplicitAls",
            Self::Popularity => "Popularity",
            Self::Content => "Content",
            Self::Knowledge => "Knowledge",
            Self::Onnx => "Onnx",
        }
    }
}

/// What a configuration has that some algorithms cannot answer without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provision {
    /// A place where a fitted model is left.
    pub store: bool,
    /// A model that the user brings.
    pub onnx: bool,
    /// Rules between customer and product attributes.
    pub rules: bool,
    /// Counts of what customers have in common.
    pub pairs: bool,
}

impl Algorithm {
    /// What is missing for it to answer, and which field of the recommender's configuration gives it; `at` is the path
    /// of that configuration, with its last dot. `None`: it can.
    pub fn lacks(self, has: Provision, at: &str) -> Option<String> {
        let lack = match self {
            Self::Ease | Self::ImplicitAls if !has.store => {
                format!("is fitted by a job, which needs a place for it: set {at}snapshots, or use Hybrid")
            }
            Self::Onnx if !has.onnx => {
                format!("answers with a model that you bring: set {at}model.onnx.url")
            }
            Self::Knowledge if !has.rules => format!("needs rules: give some in {at}model.knowledge"),
            Self::ItemKnn | Self::Rp3Beta if !has.pairs => {
                format!("needs what customers have in common counted: set {at}limits.neighbors above 0")
            }
            _ => return None,
        };
        Some(lack)
    }
}

/// What the model learns from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ModelSource {
    /// The events topic.
    #[default]
    Events,
    /// Only ksqlDB's `customer_purchases`.
    Purchases,
}

/// Weights of events by type; a type that is not named here has weight 0.
pub type EventWeights = BTreeMap<String, f64>;

/// The default weights: click 1, view 1, cart 3, purchase 5, email 0.
pub fn default_event_weights() -> EventWeights {
    [
        ("click", 1.0),
        ("view", 1.0),
        ("cart", 3.0),
        ("purchase", 5.0),
        ("email", 0.0),
    ]
    .map(|(k, v)| (k.to_owned(), v))
    .into()
}

/// What happens to products that the customer has bought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PurchasedPolicy {
    /// Never recommended to that customer again.
    #[default]
    Exclude,
    /// May be recommended again (consumables).
    Include,
}
