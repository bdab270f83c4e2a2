//! An answer as it is kept: its bytes, ready to be sent but for the id, and how long it may live.

use axum::body::Bytes;
use http::HeaderValue;
use uuid::Uuid;

use crate::http::conditional;

/// Stands in an answer where its own `recommendation_id` goes: every answer that is sent has another.
pub const NO_ID: &str = "00000000-0000-0000-0000-000000000000";
/// What comes before the id. In a JSON text it cannot be part of a string: the quotes would be escaped.
const BEFORE_ID: &[u8] = b"\"recommendation_id\":\"";
/// First byte of what is written to Redis; another one says that another version wrote it.
const FORMAT: u8 = 1;
/// Bytes before the body: format, end of life, cost.
const HEAD: usize = 1 + 8 + 4;

/// The bytes given are no answer with a place for its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an answer without a place for its recommendation_id")]
pub struct NotAnAnswer;

/// An answer's JSON with [`NO_ID`] in the place of its id, and its validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    json: Bytes,
    id_at: usize,
    tag: HeaderValue,
}

impl Body {
    /// Finds the place of the id.
    pub fn new(json: Vec<u8>) -> Result<Self, NotAnAnswer> {
        Self::from_bytes(json.into())
    }

    fn from_bytes(json: Bytes) -> Result<Self, NotAnAnswer> {
        let found = json.windows(BEFORE_ID.len()).position(|part| part == BEFORE_ID);
        let id_at = found.ok_or(NotAnAnswer)? + BEFORE_ID.len();
        if json.get(id_at..id_at + NO_ID.len()) != Some(NO_ID.as_bytes()) {
            return Err(NotAnAnswer);
        }
        let tag = conditional::tag(&json);
        Ok(Self { json, id_at, tag })
    }

    /// Length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "it has at least an id")]
    pub fn len(&self) -> usize {
        self.json.len()
    }

    /// Validator of what the answer says, whatever its id; worked out once, for it reads the whole answer.
    pub fn tag(&self) -> &HeaderValue {
        &self.tag
    }

    /// The JSON with this id, ready to be sent.
    pub fn with_id(&self, id: &Uuid) -> Vec<u8> {
        self.put(id, self.json.to_vec())
    }

    /// The same, without a copy where nobody else has the answer.
    pub fn into_bytes(mut self, id: &Uuid) -> Vec<u8> {
        let json = std::mem::take(&mut self.json);
        self.put(id, json.into())
    }

    fn put(&self, id: &Uuid, mut json: Vec<u8>) -> Vec<u8> {
        id.hyphenated()
            .encode_lower(&mut json[self.id_at..self.id_at + NO_ID.len()]);
        json
    }
}

/// An answer that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The answer.
    pub body: Body,
    /// When it is too old, milliseconds since 1970.
    pub expires_ms: i64,
    /// What it cost to compute, microseconds.
    pub cost_us: u32,
}

impl Stored {
    /// Whether to compute it anew at `now_ms`, for a request with this luck (even in 0..=1): certainly past its
    /// time, and before it the likelier the nearer the end is and the more it costs. With luck 1 exactly at its time.
    pub fn is_due(&self, now_ms: i64, luck: f64) -> bool {
        let early_ms = -luck.ln() * f64::from(self.cost_us) / 1000.0;
        now_ms as f64 + early_ms >= self.expires_ms as f64
    }

    /// As written to Redis.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.body.len());
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.expires_ms.to_le_bytes());
        bytes.extend_from_slice(&self.cost_us.to_le_bytes());
        bytes.extend_from_slice(&self.body.json);
        bytes
    }

    /// From what was read; `None` for anything that was not written by [`Self::to_bytes`] of this version.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let bytes = Bytes::from(bytes);
        let expires = bytes.get(1..9)?.try_into().ok()?;
        let cost = bytes.get(9..HEAD)?.try_into().ok()?;
        (bytes[0] == FORMAT).then_some(())?;
        Some(Self {
            body: Body::from_bytes(bytes.slice(HEAD..)).ok()?,
            expires_ms: i64::from_le_bytes(expires),
            cost_us: u32::from_le_bytes(cost),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(expires_ms: i64, cost_us: u32) -> Stored {
        // A customer's id that tries to look like the place.
        let id = r#"x\"recommendation_id\":\"y"#;
        let json = format!(r#"{{"customer_id":"{id}","recommendation_id":"{NO_ID}","items":[]}}"#);
        Stored {
            body: Body::new(json.into_bytes()).unwrap(),
            expires_ms,
            cost_us,
        }
    }

    #[test]
    fn the_id_is_put_into_its_place_and_nothing_else_changes() {
        let (stored, id) = (stored(0, 0), crate::ids::new());
        let json: serde_json::Value = serde_json::from_slice(&stored.body.with_id(&id)).unwrap();
        assert_eq!(json["recommendation_id"], id.to_string());
        assert_eq!(json["customer_id"], r#"x"recommendation_id":"y"#);
        assert_eq!(stored.body.with_id(&id), stored.body.clone().into_bytes(&id));
        assert_eq!(Body::new(b"{}".to_vec()), Err(NotAnAnswer));
    }

    #[test]
    fn the_validator_follows_what_is_said() {
        let body = |items: &str| {
            Body::new(format!(r#"{{"recommendation_id":"{NO_ID}","items":[{items}]}}"#).into()).unwrap()
        };
        assert_eq!(body("1,2").tag(), body("1,2").tag());
        assert_ne!(body("1,2").tag(), body("2,1").tag());
    }

    #[test]
    fn an_answer_is_renewed_early_only_near_its_end_and_only_by_the_unlucky() {
        let stored = stored(10_000, 5_000);
        assert!(stored.is_due(10_000, 1.0) && stored.is_due(10_001, 0.5));
        assert!(!stored.is_due(9_000, 0.001));
        assert!(!stored.is_due(9_990, 0.5) && stored.is_due(9_990, 0.1));
    }

    #[test]
    fn what_was_written_is_read_back() {
        let stored = stored(1_700_000_000_000, 321);
        assert_eq!(Stored::from_bytes(stored.to_bytes()), Some(stored));
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_no_answer(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(Stored::from_bytes(bytes), None);
        }
    }
}
