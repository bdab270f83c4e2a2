//! What the engine is told once ([`EngineConfig`]) and what may change while it runs ([`Tuning`]).

use serde::{Deserialize, Serialize};

use crate::{
    blend::Blend,
    event::EventKind,
    knowledge::KnowledgeRule,
    models::session_knn::SessionParams,
    similarity::{Bm25, Similarity},
};

/// The models that can be asked for by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// Picks among the online models by prequential hit rate.
    Auto,
    /// A blend of the others' calibrated scores, what is trending among them.
    #[default]
    Hybrid,
    /// Item-to-item cosine over weighted events.
    ItemKnn,
    /// Random walk of three steps with a popularity penalty.
    Rp3Beta,
    /// Nearest sessions.
    SessionKnn,
    /// EASE^R, a linear autoencoder in closed form; fitted.
    Ease,
    /// Implicit alternating least squares; fitted.
    ImplicitAls,
    /// Popularity with exponential decay.
    Popularity,
    /// TF-IDF over title, category and tags.
    Content,
    /// Declared rules that match customer attributes with product attributes.
    Knowledge,
    /// A model brought by the user.
    Onnx,
}

impl Algorithm {
    /// Every algorithm, in the order of the resource's enum.
    pub const ALL: [Algorithm; 11] = [
        Algorithm::Auto,
        Algorithm::Hybrid,
        Algorithm::ItemKnn,
        Algorithm::Rp3Beta,
        Algorithm::SessionKnn,
        Algorithm::Ease,
        Algorithm::ImplicitAls,
        Algorithm::Popularity,
        Algorithm::Content,
        Algorithm::Knowledge,
        Algorithm::Onnx,
    ];

    /// The name as the resource and the HTTP API spell it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Auto => "Auto",
            Algorithm::Hybrid => "Hybrid",
            Algorithm::ItemKnn => "ItemKnn",
            Algorithm::Rp3Beta => "Rp3Beta",
            Algorithm::SessionKnn => "SessionKnn",
            Algorithm::Ease => "Ease",
            Algorithm::ImplicitAls => "ImplicitAls",
            Algorithm::Popularity => "Popularity",
            Algorithm::Content => "Content",
            Algorithm::Knowledge => "Knowledge",
            Algorithm::Onnx => "Onnx",
        }
    }

    /// The algorithm of this name, compared without regard to case.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// Whether an engine can answer with this algorithm; `Ease` and `ImplicitAls` once they are fitted, `Onnx` once
    /// a model is installed, and until then `Hybrid` answers for them.
    pub fn is_served(self) -> bool {
        cfg!(feature = "onnx") || self != Algorithm::Onnx
    }
}

/// What one event of each kind says about a customer's interest; 0 means that nothing is learned from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EventWeights {
    /// A product page seen.
    pub view: f32,
    /// A product clicked in a list.
    pub click: f32,
    /// A product put into the cart.
    pub cart: f32,
    /// A product bought; a `return` takes exactly this back.
    pub purchase: f32,
    /// An e-mail that names the product.
    pub email: f32,
}

impl Default for EventWeights {
    fn default() -> Self {
        EventWeights {
            view: 1.0,
            click: 1.0,
            cart: 3.0,
            purchase: 5.0,
            email: 0.0,
        }
    }
}

impl EventWeights {
    /// The weight of one event of this kind; negative for a return.
    pub fn of(&self, kind: EventKind) -> f32 {
        match kind {
            EventKind::View => self.view,
            EventKind::Click => self.click,
            EventKind::Cart => self.cart,
            EventKind::Purchase => self.purchase,
            EventKind::Return => -self.purchase,
            EventKind::Email => self.email,
            EventKind::Other => 0.0,
        }
    }
}

/// How repeated events on one product by one customer add up to that customer's interest in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Repeats {
    /// Logarithm of the summed weights: the tenth view says less than the first.
    #[default]
    Log,
    /// Seen or not seen: the classic item-to-item baseline.
    Binary,
}

/// Bounds on memory. See the crate documentation for the formula that they enter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Limits {
    /// Products beyond this many are not taken up (counted in [`crate::Stats::refused_products`]).
    pub max_products: usize,
    /// When a new customer would exceed this many, the one idle for longest is forgotten (see
    /// [`EngineConfig::recalls`]).
    pub max_customers: usize,
    /// Distinct products remembered of one customer, for popularity, fitted models and what was bought.
    pub learn_history: usize,
    /// The newest of them that are counted together in pairs: the cost of an event that comes alone is in proportion to
    /// it, that of a basket to its square at most.
    /// A product that falls out of this window is taken back out of the counts.
    pub pair_history: usize,
    /// Products counted together with one product; the weakest half is dropped when it overflows. 0 counts none, for a
    /// shop of visits alone: `ItemKnn`, `Rp3Beta` and [`crate::Reader::similar`] then know no neighbours.
    pub row_capacity: usize,
    /// Finished visits that `SessionKnn` looks at.
    pub max_sessions: usize,
    /// Visits of one product that are looked at.
    pub postings: usize,
    /// Event ids remembered for deduplication; 0 turns it off.
    pub dedup_ids: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_products: 1_000_000,
            max_customers: 10_000_000,
            learn_history: 256,
            pair_history: 50,
            row_capacity: 4_096,
            max_sessions: 500_000,
            postings: 1_000,
            dedup_ids: 1_000_000,
        }
    }
}

/// Whether products that a customer has bought may be recommended to them again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PurchasedPolicy {
    /// Bought products are left out.
    #[default]
    Exclude,
    /// Bought products may come again (groceries, consumables).
    Include,
}

/// Business rules applied after scoring, in this order: exclude, filter, pin, cap per category.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rules {
    /// What happens to products that the customer has bought.
    pub purchased: PurchasedPolicy,
    /// Products that are never recommended.
    pub exclude_products: Vec<String>,
    /// Products that stand first, in this order, where they pass the filters.
    pub pin: Vec<String>,
    /// At most this many products of one category in an answer; 0 means no cap.
    pub max_per_category: usize,
}

/// The part of the configuration that is swapped in while the engine runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Tuning {
    /// The model that answers when the query names none.
    pub algorithm: Algorithm,
    /// Weights of events that arrive from now on; what is learned already keeps its weight.
    pub event_weights: EventWeights,
    /// The most recent products of a customer that an answer is computed from.
    pub history_length: usize,
    /// Business rules.
    pub rules: Rules,
    /// 0 = most alike, 1 = most varied.
    pub diversity: f32,
    /// Share of the slots given to products off the beaten track, between 0 and 1.
    pub exploration: f32,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            algorithm: Algorithm::Hybrid,
            event_weights: EventWeights::default(),
            history_length: 50,
            rules: Rules::default(),
            diversity: 0.2,
            exploration: 0.05,
        }
    }
}

/// Everything the engine is told at its start. Changing anything outside `tuning` needs a new engine fed
/// from the log (or from its histories).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EngineConfig {
    /// What may change while running.
    pub tuning: Tuning,
    /// Neighbours kept per product (the k of k nearest neighbours).
    pub neighbors: usize,
    /// Time after which an event counts half, in milliseconds.
    pub half_life_ms: i64,
    /// Time after which popularity counts half, in milliseconds.
    pub trend_half_life_ms: i64,
    /// How repeated events add up.
    pub repeats: Repeats,
    /// Whether customers with many products count less per pair (as in a random walk, by powers of two).
    /// On for `Rp3Beta` and `Hybrid`; off makes `ItemKnn` the classic cosine.
    pub damping: bool,
    /// What `ItemKnn` takes likeness to be.
    pub similarity: Similarity,
    /// Parameters of [`Similarity::Bm25`].
    pub bm25: Bm25,
    /// Damps pairs seen together rarely, in customers: added to the cosine's denominator; BM25 is multiplied by
    /// `common / (common + shrinkage)`.
    pub shrinkage: f32,
    /// `Rp3Beta`: how much a frequent product of the history is held back.
    pub walk_alpha: f32,
    /// `Rp3Beta`: how much frequent candidates are held back.
    pub walk_beta: f32,
    /// Events of one customer within one minute beyond this many are not learned; 0 turns it off.
    pub max_events_per_minute: u32,
    /// Customers with this many events beyond that rate are excluded: what they did is taken back, and nothing
    /// more is learned of them; 0 turns it off.
    pub exclude_after_damped: u32,
    /// Categories and tags by which the catalogue says that an entry is not a product, compared without regard
    /// to case; treated like `non_products` from then on.
    pub non_product_labels: Vec<String>,
    /// Ids that are not products (postage, manual lines): neither learned nor recommended, but counted.
    pub non_products: Vec<String>,
    /// What each member of `Hybrid` counts; see [`crate::Writer::set_blend`].
    pub blend: Blend,
    /// How `SessionKnn` answers.
    pub session: SessionParams,
    /// Rules between attributes of customers and products; see [`crate::Writer::set_knowledge`].
    pub knowledge: Vec<KnowledgeRule>,
    /// Neighbours read for an answer, shared out among the products of the history (each at least twenty):
    /// what bounds its time.
    pub answer_budget: usize,
    /// Whether histories are kept elsewhere. Customers for whom there is no room any more are then not forgotten, but let go
    /// of by [`crate::Writer::let_go`]: what was counted stays, and [`crate::Writer::recall`] brings a history back.
    pub recalls: bool,
    /// Bounds on memory.
    pub limits: Limits,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            tuning: Tuning::default(),
            neighbors: 100,
            half_life_ms: 30 * 24 * 3_600_000,
            trend_half_life_ms: 7 * 24 * 3_600_000,
            repeats: Repeats::Log,
            damping: true,
            similarity: Similarity::Cosine,
            bm25: Bm25::default(),
            shrinkage: 1.0,
            walk_alpha: 0.8,
            walk_beta: 0.2,
            max_events_per_minute: 0,
            exclude_after_damped: 5_000,
            non_product_labels: vec!["not-a-product".into()],
            non_products: Vec::new(),
            blend: Blend::default(),
            session: SessionParams::default(),
            knowledge: Vec::new(),
            answer_budget: 1_000,
            recalls: false,
            limits: Limits::default(),
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A value outside its range.
    #[error("{field} must be {expected}")]
    OutOfRange {
        /// The field at fault, spelled as in the resource.
        field: &'static str,
        /// What would be accepted.
        expected: &'static str,
    },
    /// The algorithm exists by name but this engine cannot answer with it.
    #[error("algorithm {0} is not served by this engine yet; choose Hybrid, which blends those that are")]
    UnsupportedAlgorithm(&'static str),
}

impl Tuning {
    /// Checks ranges.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let out = |field, expected| Err(ConfigError::OutOfRange { field, expected });
        if !self.algorithm.is_served() {
            return Err(ConfigError::UnsupportedAlgorithm(self.algorithm.name()));
        }
        let weights = &self.event_weights;
        for weight in [
            weights.view,
            weights.click,
            weights.cart,
            weights.purchase,
            weights.email,
        ] {
            if !(0.0..=1_000.0).contains(&weight) {
                return out("eventWeights", "between 0 and 1000");
            }
        }
        if !(1..=10_000).contains(&self.history_length) {
            return out("historyLength", "between 1 and 10000");
        }
        if !(0.0..=1.0).contains(&self.diversity) {
            return out("diversity", "between 0 and 1");
        }
        if !(0.0..=1.0).contains(&self.exploration) {
            return out("exploration", "between 0 and 1");
        }
        Ok(())
    }
}

impl EngineConfig {
    /// Checks ranges, those of the tuning included.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let out = |field, expected| Err(ConfigError::OutOfRange { field, expected });
        self.tuning.validate()?;
        if !(1..=10_000).contains(&self.neighbors) {
            return out("neighbors", "between 1 and 10000");
        }
        if self.half_life_ms < 60_000 {
            return out("halfLife", "at least one minute");
        }
        if self.trend_half_life_ms < 60_000 {
            return out("trendHalfLife", "at least one minute");
        }
        if !(0.0..=2.0).contains(&self.walk_alpha) || !(0.0..=2.0).contains(&self.walk_beta) {
            return out("walkAlpha and walkBeta", "between 0 and 2");
        }
        let Bm25 { k1, b } = self.bm25;
        if !(k1.is_finite() && k1 >= 0.0 && (0.0..=1.0).contains(&b)) {
            return out("bm25", "k1 of 0 or more, and b between 0 and 1");
        }
        if !(self.shrinkage.is_finite() && self.shrinkage >= 0.0) {
            return out("shrinkage", "a finite number, 0 or more");
        }
        if !(1..=u32::MAX as usize / 2).contains(&self.limits.max_products) {
            return out("limits.maxProducts", "between 1 and 2147483647");
        }
        if self.limits.max_customers == 0 {
            return out("limits.maxCustomers", "at least 1");
        }
        if self.limits.learn_history < 2 {
            return out("limits.learnHistory", "at least 2");
        }
        if self.limits.pair_history < 2 {
            return out("limits.pairHistory", "at least 2");
        }
        if self.limits.row_capacity != 0 && self.limits.row_capacity < self.neighbors.max(2) {
            return out("limits.rowCapacity", "0, or at least as large as neighbors");
        }
        Ok(())
    }
}
