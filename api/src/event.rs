//! The record on `customer_behavior`: one thing that one customer did.
//!
//! Reading is tolerant where shops differ (synonyms of event types, upper-case field names and null keys
//! as plain ksqlDB statements write them, numbers where text is declared) and strict where a guess would
//! be wrong: a record without its required fields is malformed and goes to the dead-letter topic.

mod borrowed;
mod check;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::borrowed::EventRef;
use self::borrowed::{Fields, Raw};

/// Longest accepted id (customer, product, session, event), in bytes.
pub const MAX_ID_BYTES: usize = 256;
/// How far ahead of the clock an event's time may be before it is clamped, in milliseconds.
pub const MAX_AHEAD_MS: i64 = 5 * 60 * 1000;

/// What the customer did. Synonyms are folded by [`EventType::from_name`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventType {
    /// Looked at a product page.
    View,
    /// Clicked a product.
    Click,
    /// Put a product into the basket.
    Cart,
    /// Bought a product.
    Purchase,
    /// Took a purchase back.
    Return,
    /// Wrote or received an e-mail; carries no product.
    Email,
    /// A type that this version does not know: kept and counted, weight 0.
    Other(String),
}

impl EventType {
    /// Folds the names that shops use into our types; unknown names are kept as [`EventType::Other`].
    pub fn from_name(name: &str) -> Self {
        let name = name.trim();
        // Most are written as they are kept: a copy in lower case is made of the others only.
        Self::known(name)
            .or_else(|| Self::known(&name.to_ascii_lowercase()))
            .unwrap_or_else(|| Self::Other(name.to_owned()))
    }

    fn known(name: &str) -> Option<Self> {
        Some(match name {
            "view" | "product_view" => Self::View,
            "click" | "product_click" => Self::Click,
            "cart" | "add_to_cart" => Self::Cart,
            "purchase" | "order" => Self::Purchase,
            "return" => Self::Return,
            "email" => Self::Email,
            _ => return None,
        })
    }

    /// The name written to topics, metrics and configuration.
    pub fn name(&self) -> &str {
        match self {
            Self::View => "view",
            Self::Click => "click",
            Self::Cart => "cart",
            Self::Purchase => "purchase",
            Self::Return => "return",
            Self::Email => "email",
            Self::Other(name) => name,
        }
    }

    /// As [`EventType::name`], with every unknown type folded into `other` (bounded metric labels).
    pub fn label(&self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Click => "click",
            Self::Cart => "cart",
            Self::Purchase => "purchase",
            Self::Return => "return",
            Self::Email => "email",
            Self::Other(_) => "other",
        }
    }
}

/// A valid event. `timestamp_ms` is epoch milliseconds; `product_id` is absent for `email` only.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// For deduplication; absent: the source's position (topic/partition/offset) identifies it.
    pub event_id: Option<String>,
    /// Who.
    pub customer_id: String,
    /// Which product; `None` only for [`EventType::Email`].
    pub product_id: Option<String>,
    /// What happened.
    pub event_type: EventType,
    /// When, in epoch milliseconds; `None` means the record's own time.
    pub timestamp_ms: Option<i64>,
    /// How many (a purchase of six), at least 0.
    pub quantity: Option<f64>,
    /// Unit price in the shop's currency.
    pub price: Option<f64>,
    /// The visit that it belongs to.
    pub session_id: Option<String>,
    /// The recommendation that led to it.
    pub recommendation_id: Option<String>,
    /// Whatever else the shop sent; kept, never interpreted.
    pub properties: Option<Map<String, Value>>,
}

/// Why a record is malformed. The name of the variant is the dead-letter reason.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum EventError {
    /// The bytes are not a JSON object.
    #[error("not a JSON object: {0}")]
    NotJson(String),
    /// A required field is absent, null or empty.
    #[error("{0} is required and must not be empty")]
    MissingField(&'static str),
    /// A field has a value that cannot be understood.
    #[error("{field} {problem}")]
    InvalidField {
        /// The field at fault.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl EventError {
    /// Stable name for headers and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "NotJson",
            Self::MissingField(_) => "MissingField",
            Self::InvalidField { .. } => "InvalidField",
        }
    }

    /// The field at fault, if one is.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::NotJson(_) => None,
            Self::MissingField(field) | Self::InvalidField { field, .. } => Some(field),
        }
    }
}

impl Event {
    /// Parses a record's value. `default_type` is used where the record has no `event_type`
    /// (ksqlDB's `customer_purchases` carries none: everything there is a purchase).
    pub fn parse(bytes: &[u8], default_type: Option<EventType>) -> Result<Self, EventError> {
        let value: Value = serde_json::from_slice(bytes).map_err(|e| EventError::NotJson(e.to_string()))?;
        match value {
            Value::Object(map) => Self::from_map(map, default_type),
            other => Err(EventError::NotJson(format!("found {}", Raw::from(other).kind()))),
        }
    }

    /// As [`Event::parse`], from an object that is parsed already (an HTTP body).
    pub fn from_map(map: Map<String, Value>, default_type: Option<EventType>) -> Result<Self, EventError> {
        let (fields, properties) = Fields::of(map);
        let event = fields.event(default_type.as_ref())?;
        let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
        Ok(Self {
            event_id: owned(event.event_id),
            customer_id: event.customer_id.into_owned(),
            product_id: owned(event.product_id),
            event_type: event.event_type,
            timestamp_ms: event.timestamp_ms,
            quantity: event.quantity,
            price: event.price,
            session_id: owned(event.session_id),
            recommendation_id: owned(event.recommendation_id),
            properties,
        })
    }

    /// The same without a copy.
    pub fn borrowed(&self) -> EventRef<'_> {
        fn text(text: &Option<String>) -> Option<Cow<'_, str>> {
            text.as_deref().map(Cow::Borrowed)
        }
        EventRef {
            event_id: text(&self.event_id),
            customer_id: Cow::Borrowed(&self.customer_id),
            product_id: text(&self.product_id),
            event_type: self.event_type.clone(),
            timestamp_ms: self.timestamp_ms,
            quantity: self.quantity,
            price: self.price,
            session_id: text(&self.session_id),
            recommendation_id: text(&self.recommendation_id),
        }
    }

    /// The record's value as written to Kafka and the embedded log.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Wire<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            event_id: Option<&'a str>,
            customer_id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            product_id: Option<&'a str>,
            event_type: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            timestamp: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            quantity: Option<f64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            price: Option<f64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            session_id: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            recommendation_id: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            properties: Option<&'a Map<String, Value>>,
        }
        serde_json::to_vec(&Wire {
            event_id: self.event_id.as_deref(),
            customer_id: &self.customer_id,
            product_id: self.product_id.as_deref(),
            event_type: self.event_type.name(),
            timestamp: self.timestamp_ms.map(rfc3339),
            quantity: self.quantity,
            price: self.price,
            session_id: self.session_id.as_deref(),
            recommendation_id: self.recommendation_id.as_deref(),
            properties: self.properties.as_ref(),
        })
        .expect("strings, finite numbers and JSON values always serialise")
    }

    /// The time to learn with: the event's own, else the record's; clamped to [`MAX_AHEAD_MS`] past `now_ms`.
    pub fn time_ms(&self, record_ms: i64, now_ms: i64) -> i64 {
        learning_time(self.timestamp_ms, record_ms, now_ms)
    }
}

fn learning_time(timestamp_ms: Option<i64>, record_ms: i64, now_ms: i64) -> i64 {
    timestamp_ms
        .unwrap_or(record_ms)
        .min(now_ms.saturating_add(MAX_AHEAD_MS))
}

/// Epoch milliseconds as RFC 3339 in UTC (`2026-01-31T12:00:00Z`, with milliseconds only where there are any).
pub fn rfc3339(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(t) => t.to_string(),
        Err(_) => ms.to_string(),
    }
}

/// The body of `POST /webhook`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WebhookBody {
    /// The event's type, by any of its names.
    pub event: String,
    /// Who.
    pub customer_id: String,
    /// Which product.
    pub product_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(s: &str) -> Result<Event, EventError> {
        Event::parse(s.as_bytes(), None)
    }

    #[test]
    fn a_full_event_survives_a_round_trip() {
        let e = parse(
            r#"{"customer_id":"17850","product_id":"85123A","event_type":"purchase","event_id":"e1",
            "timestamp":"2010-12-01T08:26:00Z","session_id":"536365","quantity":6,"price":2.55,
            "properties":{"country":"United Kingdom"}}"#,
        )
        .unwrap();
        assert_eq!(e.timestamp_ms, Some(1_291_191_960_000));
        assert_eq!(Event::parse(&e.to_json(), None).unwrap(), e);
    }

    #[test]
    fn synonyms_fold_and_unknown_types_are_kept() {
        for (name, kind) in [
            ("product_view", EventType::View),
            ("product_click", EventType::Click),
            ("add_to_cart", EventType::Cart),
            ("order", EventType::Purchase),
            ("PURCHASE", EventType::Purchase),
            ("wishlist", EventType::Other("wishlist".into())),
        ] {
            assert_eq!(EventType::from_name(name), kind);
        }
    }

    #[test]
    fn records_of_plain_ksqldb_statements_are_understood() {
        let e = Event::parse(
            br#"{"CUSTOMER_ID":"1","PRODUCT_ID":"2"}"#,
            Some(EventType::Purchase),
        )
        .unwrap();
        assert_eq!(
            (e.customer_id.as_str(), e.product_id.as_deref()),
            ("1", Some("2"))
        );
        assert_eq!(e.event_type, EventType::Purchase);
    }

    #[test]
    fn malformed_records_say_which_field_is_at_fault() {
        for (body, field) in [
            (r#"{"product_id":"p","event_type":"click"}"#, "customer_id"),
            (
                r#"{"customer_id":"","product_id":"p","event_type":"click"}"#,
                "customer_id",
            ),
            (r#"{"customer_id":"c","event_type":"click"}"#, "product_id"),
            (r#"{"customer_id":"c","product_id":"p"}"#, "event_type"),
            (
                r#"{"customer_id":"c","product_id":"p","event_type":"click","timestamp":"soon"}"#,
                "timestamp",
            ),
            (
                r#"{"customer_id":"c","product_id":"p","event_type":"click","quantity":-1}"#,
                "quantity",
            ),
            (
                r#"{"customer_id":"c","product_id":"p","event_type":"purchase","price":1e308}"#,
                "price",
            ),
            (
                r#"{"customer_id":["c"],"product_id":"p","event_type":"click"}"#,
                "customer_id",
            ),
        ] {
            assert_eq!(parse(body).unwrap_err().field(), Some(field), "{body}");
        }
        assert_eq!(parse("not json").unwrap_err().reason(), "NotJson");
        assert_eq!(parse("[1]").unwrap_err().reason(), "NotJson");
    }

    #[test]
    fn only_email_needs_no_product() {
        assert!(parse(r#"{"customer_id":"c","event_type":"email"}"#).is_ok());
    }

    #[test]
    fn a_time_ahead_of_the_clock_is_clamped() {
        let e = parse(r#"{"customer_id":"c","product_id":"p","event_type":"click","timestamp":9000000}"#)
            .unwrap();
        assert_eq!(e.time_ms(5, 1_000_000), 1_000_000 + MAX_AHEAD_MS);
        assert_eq!(e.time_ms(5, 9_000_000), 9_000_000);
    }
}
