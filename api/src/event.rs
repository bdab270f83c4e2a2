//! The record on `customer_behavior`: one thing that one customer did.
//!
//! Reading is tolerant where shops differ (synonyms of event types, upper-case field names and null keys
//! as plain ksqlDB statements write them, numbers where text is declared) and strict where a guess would
//! be wrong: a record without its required fields is malformed and goes to the dead-letter topic.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
        match name.trim().to_ascii_lowercase().as_str() {
            "view" | "product_view" => Self::View,
            "click" | "product_click" => Self::Click,
            "cart" | "add_to_cart" => Self::Cart,
            "purchase" | "order" => Self::Purchase,
            "return" => Self::Return,
            "email" => Self::Email,
            _ => Self::Other(name.trim().to_owned()),
        }
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
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
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
        let Value::Object(map) = value else {
            return Err(EventError::NotJson(format!("found {}", kind(&value))));
        };
        Self::from_map(map, default_type)
    }

    /// As [`Event::parse`], from an object that is parsed already (an HTTP body).
    pub fn from_map(
        mut map: Map<String, Value>,
        default_type: Option<EventType>,
    ) -> Result<Self, EventError> {
        // Plain ksqlDB statements write upper-case names; ours win where both stand.
        let mut take = |name: &str| match map.remove(name) {
            None | Some(Value::Null) => map.remove(&name.to_ascii_uppercase()).filter(|v| !v.is_null()),
            found => found,
        };
        let event_type = match text("event_type", take("event_type"))? {
            Some(name) => EventType::from_name(&name),
            None => default_type.ok_or(EventError::MissingField("event_type"))?,
        };
        let customer_id =
            text("customer_id", take("customer_id"))?.ok_or(EventError::MissingField("customer_id"))?;
        let product_id = text("product_id", take("product_id"))?;
        if product_id.is_none() && event_type != EventType::Email {
            return Err(EventError::MissingField("product_id"));
        }
        let properties = match take("properties") {
            None => None,
            Some(Value::Object(map)) => Some(map),
            Some(other) => {
                return Err(invalid(
                    "properties",
                    format!("must be an object, found {}", kind(&other)),
                ));
            }
        };
        Ok(Self {
            event_id: text("event_id", take("event_id"))?,
            customer_id,
            product_id,
            event_type,
            timestamp_ms: timestamp(take("timestamp"))?,
            quantity: number("quantity", take("quantity"))?,
            price: number("price", take("price"))?,
            session_id: text("session_id", take("session_id"))?,
            recommendation_id: text("recommendation_id", take("recommendation_id"))?,
            properties,
        })
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
        self.timestamp_ms
            .unwrap_or(record_ms)
            .min(now_ms.saturating_add(MAX_AHEAD_MS))
    }
}

/// Epoch milliseconds as RFC 3339 in UTC (`2026-01-31T12:00:00Z`, with milliseconds only where there are any).
pub fn rfc3339(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(t) => t.to_string(),
        Err(_) => ms.to_string(),
    }
}

fn kind(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn invalid(field: &'static str, problem: impl Into<String>) -> EventError {
    EventError::InvalidField {
        field,
        problem: problem.into(),
    }
}

fn text(field: &'static str, value: Option<Value>) -> Result<Option<String>, EventError> {
    let s = match value {
        None => return Ok(None),
        Some(Value::String(s)) => s,
        // ksqlDB turns a number into text where VARCHAR is declared: so do we.
        Some(Value::Number(n)) => n.to_string(),
        Some(other) => {
            return Err(invalid(
                field,
                format!("must be a string, found {}", kind(&other)),
            ));
        }
    };
    let s = s.trim();
    if s.is_empty() {
        return Ok(None);
    }
    if s.len() > MAX_ID_BYTES {
        return Err(invalid(field, format!("is longer than {MAX_ID_BYTES} bytes")));
    }
    if s.chars().any(char::is_control) {
        return Err(invalid(field, "contains control characters"));
    }
    Ok(Some(s.to_owned()))
}

fn number(field: &'static str, value: Option<Value>) -> Result<Option<f64>, EventError> {
    let n = match value {
        None => return Ok(None),
        Some(Value::Number(n)) => n.as_f64(),
        Some(Value::String(s)) => s.trim().parse().ok(),
        Some(other) => {
            return Err(invalid(
                field,
                format!("must be a number, found {}", kind(&other)),
            ));
        }
    };
    match n {
        Some(n) if n.is_finite() && n >= 0.0 => Ok(Some(n)),
        _ => Err(invalid(field, "must be a number that is at least 0")),
    }
}

/// RFC 3339, or epoch milliseconds as number or digits.
fn timestamp(value: Option<Value>) -> Result<Option<i64>, EventError> {
    let bad = || {
        invalid(
            "timestamp",
            "must be RFC 3339 (2026-01-31T12:00:00Z) or epoch milliseconds",
        )
    };
    let ms = match value {
        None => return Ok(None),
        Some(Value::Number(n)) => n
            .as_i64()
            .or_else(|| n.as_f64().map(|f| f as i64))
            .ok_or_else(bad)?,
        Some(Value::String(s)) => match s.trim().parse::<i64>() {
            Ok(ms) => ms,
            Err(_) => s
                .trim()
                .parse::<jiff::Timestamp>()
                .map_err(|_| bad())?
                .as_millisecond(),
        },
        Some(_) => return Err(bad()),
    };
    // Years 1970 to 9999: anything else is seconds, nanoseconds or rubbish.
    if (0..=253_402_300_799_999).contains(&ms) {
        Ok(Some(ms))
    } else {
        Err(bad())
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
