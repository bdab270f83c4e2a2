//! Conditional answers (RFC 9110, section 13): an answer has a validator over what it says, and a client that has it
//! already is spared the body.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::problem::Problem;

/// May be kept by the client that asked, and must be asked for again each time: the next click changes it.
pub const PERSONAL: &str = "private, no-cache";
/// The same for everybody, and a few seconds old is good enough.
pub const SHARED: &str = "public, max-age=5";

/// Validators of answers that a client has: `If-None-Match`.
#[derive(Debug, Default)]
pub struct Validators(Vec<HeaderValue>);

impl Validators {
    fn of(headers: &HeaderMap) -> Self {
        Self(headers.get_all(header::IF_NONE_MATCH).iter().cloned().collect())
    }

    fn has(&self, tag: &str) -> bool {
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        self.0
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|known| known.trim() == "*" || opaque(known) == opaque(tag))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Validators {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

/// An answer with validator; 304 without body where the client has it.
pub fn json<T: Serialize>(known: &Validators, cache: &'static str, body: &T) -> Result<Response, Problem> {
    let bytes = to_bytes(body)?;
    Ok(bytes_with(known, cache, &tag(&bytes), bytes))
}

/// An answer as JSON.
pub fn to_bytes<T: Serialize>(body: &T) -> Result<Vec<u8>, Problem> {
    // Most answers take some two kilobytes: growing up to there would copy as much again.
    let mut bytes = Vec::with_capacity(2_048);
    serde_json::to_writer(&mut bytes, body).map_err(|e| {
        tracing::error!(error = %e, "an answer cannot be written");
        Problem::internal()
    })?;
    Ok(bytes)
}

/// [`json`] for an answer that is JSON already, and whose validator is known.
pub fn bytes_with(known: &Validators, cache: &'static str, tag: &HeaderValue, bytes: Vec<u8>) -> Response {
    let mut response = if tag.to_str().is_ok_and(|tag| known.has(tag)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let json = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, json)], bytes).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    // Who asks decides what is answered, or whether.
    headers.insert(
        header::VARY,
        HeaderValue::from_static("authorization, x-publishable-key, accept-encoding"),
    );
    response
}

/// Whether `If-None-Match` names this validator.
pub fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    Validators::of(headers).has(tag)
}

/// The validator of what an answer says: the same on every replica and machine. Weak, for compressed or not it says
/// the same.
pub fn tag(said: &[u8]) -> HeaderValue {
    HeaderValue::from_str(&format!("W/\"{:016x}\"", xxh3_64(said)))
        .expect("a validator is hexadecimal digits in quotes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_validator_follows_what_is_said() {
        assert_eq!(tag(b"[1,2]"), tag(b"[1,2]"));
        assert_ne!(tag(b"[1,2]"), tag(b"[2,1]"));
        // Another one would make every client fetch again what it has, once per version of the program.
        assert_eq!(tag(b""), "W/\"2d06800538d394c2\"");
    }

    #[test]
    fn a_client_that_has_the_answer_is_spared_it() {
        let tag = tag(b"[1]").to_str().unwrap().to_owned();
        for (known, status) in [
            (tag.clone(), 304),
            (format!("\"other\", {}", tag.trim_start_matches("W/")), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
        ] {
            let known = Validators(vec![known.parse().unwrap()]);
            let response = json(&known, SHARED, &[1]).unwrap();
            assert_eq!(response.status(), status, "{known:?}");
            assert_eq!(response.headers()[header::CACHE_CONTROL], SHARED);
        }
        let response = json(&Validators::default(), SHARED, &[1]).unwrap();
        assert_eq!(response.status(), 200);
    }
}
