//! The record on `recommendation_impressions` (key `customer_id`): what was shown to whom, and why that.

use serde::{Deserialize, Serialize};

use crate::event::{EventError, rfc3339};

/// One answer that was sent to one customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Impression {
    /// The answer's id: events that it leads to may carry it.
    pub recommendation_id: String,
    /// Who asked, as events name them.
    pub customer_id: String,
    /// When, milliseconds since 1970; RFC 3339 in the record.
    #[serde(rename = "timestamp", with = "time")]
    pub time_ms: i64,
    /// The experiment that the customer takes part in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<String>,
    /// The arm; without an experiment the algorithm that was asked.
    pub arm: String,
    /// Where in the shop, as the request named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// The algorithm that answered.
    pub algorithm: String,
    /// The model's version.
    pub model_version: String,
    /// What the answer rests on: personal, session, popular.
    pub fallback: String,
    /// The share of customers whose answers were recorded at that time, 0..=1.
    pub sampled: f64,
    /// What was shown, best first: the index is the position.
    pub items: Vec<ShownItem>,
}

/// One product of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShownItem {
    /// The product.
    pub product_id: String,
    /// Whether exploration put it there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub explored: bool,
    /// The probability with which it stands in this place, given the ranking: what off-policy estimates divide by.
    #[serde(default = "certain", skip_serializing_if = "is_certain")]
    pub probability: f64,
}

fn certain() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
fn is_certain(probability: &f64) -> bool {
    *probability >= 1.0
}

impl Impression {
    /// Parses a record's value.
    pub fn parse(bytes: &[u8]) -> Result<Self, EventError> {
        serde_json::from_slice(bytes).map_err(|e| EventError::NotJson(e.to_string()))
    }

    /// The record's value.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and lists of them always serialise")
    }
}

mod time {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::rfc3339(*ms))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let time: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
        Ok(time.as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impression_survives_a_round_trip_and_says_only_what_there_is_to_say() {
        let shown = |product: &str, probability| ShownItem {
            product_id: product.into(),
            explored: probability < 1.0,
            probability,
        };
        let impression = Impression {
            recommendation_id: "r".into(),
            customer_id: "c".into(),
            time_ms: 1_700_000_000_123,
            experiment: None,
            arm: "Hybrid".into(),
            placement: Some("home".into()),
            algorithm: "Hybrid".into(),
            model_version: "1".into(),
            fallback: "personal".into(),
            sampled: 1.0,
            items: vec![shown("p", 1.0), shown("q", 0.25)],
        };
        let json = impression.to_json();
        assert_eq!(Impression::parse(&json).unwrap(), impression);
        let text = String::from_utf8(json).unwrap();
        assert!(
            text.contains("2023-11-14T22:13:20.123Z") && text.contains(r#"{"product_id":"p"}"#),
            "{text}"
        );
        assert!(!text.contains("experiment"), "{text}");
        assert!(Impression::parse(br#"{"customer_id":"c"}"#).is_err());
    }
}
