//! What is asked and what is answered.

use std::sync::Arc;

use serde::Serialize;

use crate::{config::Algorithm, event::EventKind};

/// One question. [`Query::default`] asks for the ten most popular products at time 0.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// For whom; an unknown customer is answered from `recent`, else with what is popular.
    pub customer: Option<&'a str>,
    /// Products of an anonymous visit or a basket, oldest first; stronger than the customer's history.
    pub recent: &'a [&'a str],
    /// Instead of the configured algorithm; one that is not served is replaced by the configured one.
    pub algorithm: Option<Algorithm>,
    /// How many products at most.
    pub limit: usize,
    /// Only products of this category.
    pub category: Option<&'a str>,
    /// Products to leave out.
    pub exclude: &'a [&'a str],
    /// Instead of the rules' policy on purchased products.
    pub exclude_purchased: Option<bool>,
    /// Whether the products of `recent` are left out (a basket) or may come again (a visit).
    pub exclude_recent: bool,
    /// Instead of the configured diversity.
    pub diversity: Option<f32>,
    /// Instead of the configured exploration.
    pub exploration: Option<f32>,
    /// Whether it is told why products are there; without, each says [`Reason::Untold`], which is cheaper.
    pub reasons: bool,
    /// Now, milliseconds since 1970.
    pub now_ms: i64,
}

impl Default for Query<'_> {
    fn default() -> Self {
        Query {
            customer: None,
            recent: &[],
            algorithm: None,
            limit: 10,
            category: None,
            exclude: &[],
            exclude_purchased: None,
            exclude_recent: true,
            diversity: None,
            exploration: None,
            reasons: true,
            now_ms: 0,
        }
    }
}

/// Why a product stands in an answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Reason {
    /// The customer did something with these products, strongest contribution first.
    BecauseOf {
        /// One to three products.
        products: Vec<Arc<str>>,
        /// What was done with each of them.
        kind: EventKind,
    },
    /// Popular now.
    Popular,
    /// Popular now in the category asked for.
    PopularInCategory {
        /// That category.
        category: Arc<str>,
    },
    /// Close to the product asked about.
    SimilarTo {
        /// That product.
        product: Arc<str>,
    },
    /// A declared rule matches the customer's profile.
    SuitsProfile {
        /// The rule's attribute of the customer.
        customer_attribute: Arc<str>,
        /// The rule's attribute of the product.
        product_attribute: Arc<str>,
        /// The value that both have.
        value: Arc<str>,
    },
    /// Put there by a rule.
    Pinned,
    /// It was not asked.
    Untold,
}

/// One product of an answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    /// The product's id.
    pub product: Arc<str>,
    /// Its title, where the catalogue has one.
    pub title: Option<Arc<str>>,
    /// Finite; comparable within one answer only, highest first (pinned products apart).
    pub score: f32,
    /// Why it stands there.
    pub reason: Reason,
    /// Whether it was put there to be tried out, in place of what the model ranks higher.
    pub explored: bool,
    /// The probability with which exploration lets this product stand in this place, given the ranking: what
    /// experiments divide by. 1 where nothing was left to chance.
    pub probability: f32,
}

/// What an answer rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// The customer's history: no fallback was needed.
    Personal,
    /// The recent products in the query.
    Session,
    /// What is popular: nothing was known of this customer, or nothing close to what is known.
    Popular,
}

impl Fallback {
    /// As it is serialised.
    pub fn name(self) -> &'static str {
        match self {
            Fallback::Personal => "personal",
            Fallback::Session => "session",
            Fallback::Popular => "popular",
        }
    }
}

/// An answer. Filled up with popular products where the model finds fewer than asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recommendations {
    /// Best first, no product twice, at most `limit`.
    pub items: Vec<Scored>,
    /// What it rests on.
    pub fallback: Fallback,
    /// The algorithm that answered.
    pub algorithm: Algorithm,
}

/// Figures about the model, for status and metrics. Counters start at 0 with the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Products known, by events or catalogue.
    pub products: u64,
    /// Products that the catalogue describes.
    pub catalogued: u64,
    /// Customers with a history.
    pub customers: u64,
    /// Events handed in.
    pub events: u64,
    /// Events that changed the model.
    pub learned: u64,
    /// Events without weight.
    pub weightless: u64,
    /// Events whose id was seen before.
    pub duplicates: u64,
    /// Events beyond a customer's rate.
    pub damped: u64,
    /// Customers with at least one such event, since the start.
    pub damped_customers: u64,
    /// Events of customers who are excluded for their rate.
    pub excluded: u64,
    /// Customers who are excluded for their rate.
    pub excluded_customers: u64,
    /// Events on ids that are not products.
    pub non_products: u64,
    /// Catalogue entries that are labelled as no products.
    pub labelled_non_products: u64,
    /// Answers that the user's ONNX model could not give, so that the blend did.
    pub onnx_failures: u64,
    /// Embeddings of the catalogue that are ignored: of another length than most, or without direction.
    pub ignored_embeddings: u64,
    /// Events on products beyond `max_products`.
    pub refused_products: u64,
    /// Events too old for a full history.
    pub too_old: u64,
    /// Events with an empty id.
    pub invalid: u64,
    /// Customers erased on request.
    pub erased_customers: u64,
    /// Customers forgotten because of `max_customers`.
    pub evicted_customers: u64,
    /// Ordered product pairs with a count.
    pub pairs: u64,
    /// Neighbour lists that wait for the next publish.
    pub pending_rows: u64,
    /// Time of the newest event, milliseconds since 1970; 0 before the first.
    pub newest_event_ms: i64,
}
