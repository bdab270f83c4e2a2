//! Conditional answers (RFC 9110, section 13): an answer has a validator over what it says, and a client that has it
//! already is spared the body.

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;

use super::problem::Problem;

/// How the body begins where every answer has an id of its own; the id is no part of what the answer says.
const ID_PREFIX: &str = "{\"recommendation_id\":\"";
const ID_LENGTH: usize = 36;

/// May be kept by the client that asked, and must be asked for again each time: the next click changes it.
pub const PERSONAL: &str = "private, no-cache";
/// The same for everybody, and a few seconds old is good enough.
pub const SHARED: &str = "public, max-age=5";

/// An answer with validator; 304 without body where `If-None-Match` names it.
pub fn json<T: Serialize>(headers: &HeaderMap, cache: &'static str, body: &T) -> Result<Response, Problem> {
    Ok(bytes(headers, cache, to_bytes(body)?))
}

/// An answer as JSON.
pub fn to_bytes<T: Serialize>(body: &T) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(body).map_err(|e| {
        tracing::error!(error = %e, "an answer cannot be written");
        Problem::internal()
    })
}

/// [`json`] for an answer that is JSON already.
pub fn bytes(headers: &HeaderMap, cache: &'static str, bytes: Vec<u8>) -> Response {
    let said = if bytes.starts_with(ID_PREFIX.as_bytes()) {
        bytes.get(ID_PREFIX.len() + ID_LENGTH..).unwrap_or(&bytes)
    } else {
        &bytes
    };
    // Weak: compressed or not, it says the same.
    let tag = format!("W/\"{:016x}\"", fnv1a(said));
    let mut response = if is_known(headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let json = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, json)], bytes).into_response()
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    // Who asks decides what is answered, or whether.
    headers.insert(
        header::VARY,
        HeaderValue::from_static("authorization, accept-encoding"),
    );
    response
}

/// Whether `If-None-Match` names this validator.
pub fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == "*" || opaque(known) == opaque(tag))
}

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>): the same on every replica and machine.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Answer {
        recommendation_id: String,
        items: Vec<u8>,
    }

    fn tag(items: &[u8]) -> String {
        let answer = Answer {
            recommendation_id: uuid::Uuid::now_v7().to_string(),
            items: items.to_vec(),
        };
        let response = json(&HeaderMap::new(), PERSONAL, &answer).unwrap();
        response.headers()[header::ETAG].to_str().unwrap().to_owned()
    }

    #[test]
    fn the_validator_follows_what_is_said_and_not_the_answers_id() {
        assert_eq!(tag(&[1, 2]), tag(&[1, 2]));
        assert_ne!(tag(&[1, 2]), tag(&[2, 1]));
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_client_that_has_the_answer_is_spared_it() {
        let tag = tag(&[1]);
        let answer = Answer {
            recommendation_id: uuid::Uuid::now_v7().to_string(),
            items: vec![1],
        };
        for (known, status) in [
            (tag.clone(), 304),
            (format!("\"other\", {}", tag.trim_start_matches("W/")), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, known.parse().unwrap());
            let response = json(&headers, SHARED, &answer).unwrap();
            assert_eq!(response.status(), status, "{known}");
            assert_eq!(response.headers()[header::CACHE_CONTROL], SHARED);
        }
    }
}
