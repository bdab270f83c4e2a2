//! The other records on topics: catalogue, profiles, and the headers of dead letters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A product of the catalogue: topic `products` (compacted, key `product_id`), `PUT /v1/products/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Product {
    /// The product's id; on the topic it is the key and may be absent from the value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub product_id: String,
    /// What a customer reads.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// One category; paths are written with `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Free labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Unit price in the shop's currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    /// `false`: out of stock, never recommended. Absent: available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<bool>,
    /// Attributes for rules (`for_skin: [dry]`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Value>,
    /// The shop's own embedding; all products of one length.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub embedding: Vec<f32>,
}

/// A customer's profile: topic `customer_profiles` (compacted, key `customer_id`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomerProfile {
    /// Attributes for rules (`skin_type: dry`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Value>,
    /// Address that `/gmail-webhook` matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Consent to personalisation, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<bool>,
}

/// Headers of a record on the dead-letter topic; its value and key are the original bytes, unless
/// [`TRUNCATED`](dead_letter::TRUNCATED) is there.
pub mod dead_letter {
    /// Why: [`crate::EventError::reason`].
    pub const REASON: &str = "dead-letter-reason";
    /// What is wrong, for people.
    pub const MESSAGE: &str = "dead-letter-message";
    /// The topic that it came from.
    pub const TOPIC: &str = "dead-letter-topic";
    /// The partition that it came from.
    pub const PARTITION: &str = "dead-letter-partition";
    /// The offset that it had there.
    pub const OFFSET: &str = "dead-letter-offset";
    /// Present where the topic did not take the record as a whole: the size that it had, in bytes. The value is
    /// its beginning.
    pub const TRUNCATED: &str = "dead-letter-truncated";
}
