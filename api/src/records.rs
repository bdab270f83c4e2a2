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
    /// Whose this id is: an anonymous visit that turned out to be a customer's. Everything done under this id
    /// counts as theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias_of: Option<String>,
}

/// Ends of partitions by topic: the offset that the next record will get.
pub type Ends = BTreeMap<String, BTreeMap<i32, i64>>;

/// A customer whom the model has to forget: topic `customer_erasures` (compacted, key HMAC-SHA256 of the customer's
/// id in hexadecimal). Records of the log before `ends` are not learned any more; later ones are, for the customer may
/// come back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Erasure {
    /// When it was asked for, milliseconds since 1970. Decides where a topic is not in `ends`.
    pub time_ms: i64,
    /// Where the log ended then.
    pub ends: Ends,
    /// The hash by which visits belong to the customer, in hexadecimal, masked with the key: with it a replica finds
    /// the customer without an HMAC for each that it knows, and nobody else learns anything from it.
    pub owner: String,
    /// What is forgotten.
    pub scope: ErasureScope,
}

/// What an erasure is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErasureScope {
    /// Everything: the customer asked for it.
    #[default]
    Everything,
    /// What was learned. The profile stays: it says that the customer consents no longer, or only now.
    Learned,
}

/// The salt of one customer's pseudonym: topic `customer_salts` (compacted, keyed as an [`Erasure`]). Without it
/// nobody can tell whose the pseudonym was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Salt {
    /// 32 random bytes in hexadecimal.
    pub salt: String,
    /// What the log calls the customer.
    pub pseudonym: String,
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
