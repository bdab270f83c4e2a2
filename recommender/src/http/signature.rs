//! Signed webhooks: `X-Signature: sha256=<hex of HMAC-SHA256 over "<X-Timestamp>.<body>">`, with `X-Timestamp` in
//! seconds since 1970. The timestamp bounds how long a signature that somebody overheard is worth anything, and
//! within that time each is taken once.

use hmac::{Hmac, Mac as _};
use http::HeaderMap;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// Carries the signature.
pub const SIGNATURE_HEADER: &str = "x-signature";
/// Carries the time of signing, seconds since 1970.
pub const TIMESTAMP_HEADER: &str = "x-timestamp";
/// How far the timestamp may be from our clock, in either direction.
pub const WINDOW_SECONDS: i64 = 300;

/// Why a signature was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A header is missing or not understood.
    #[error("the webhook needs X-Timestamp (seconds since 1970) and X-Signature (sha256=<hex>)")]
    Missing,
    /// Signed too long ago, or by a clock that is wrong.
    #[error("X-Timestamp is more than {WINDOW_SECONDS} seconds from this service's clock")]
    Stale,
    /// Not the key's signature over this body and timestamp.
    #[error("the webhook's signature is wrong")]
    Wrong,
}

/// The signature of a body at a time, as senders make it.
pub fn sign(key: &SecretString, timestamp: i64, body: &[u8]) -> String {
    format!(
        "sha256={}",
        hex::encode(mac(key, &timestamp.to_string(), body).finalize().into_bytes())
    )
}

fn mac(key: &SecretString, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

/// Checks the signature of a body at `now_s` (seconds since 1970), and returns it in hexadecimal: what is to be
/// remembered so that it is taken once.
pub fn check(
    key: &SecretString,
    headers: &HeaderMap,
    body: &[u8],
    now_s: i64,
) -> Result<String, SignatureError> {
    let header = |name| {
        headers
            .get(name)
            .and_then(|v: &http::HeaderValue| v.to_str().ok())
    };
    let timestamp = header(TIMESTAMP_HEADER).ok_or(SignatureError::Missing)?;
    let at: i64 = timestamp.parse().map_err(|_| SignatureError::Missing)?;
    let signature = header(SIGNATURE_HEADER)
        .and_then(|value| value.strip_prefix("sha256="))
        .and_then(|digits| hex::decode(digits).ok())
        .ok_or(SignatureError::Missing)?;
    // In constant time, and before the clock: who cannot sign learns nothing about it.
    mac(key, timestamp, body)
        .verify_slice(&signature)
        .map_err(|_| SignatureError::Wrong)?;
    if now_s.saturating_sub(at).saturating_abs() > WINDOW_SECONDS {
        return Err(SignatureError::Stale);
    }
    Ok(hex::encode(signature))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn headers(timestamp: &str, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TIMESTAMP_HEADER, timestamp.parse().unwrap());
        headers.insert(SIGNATURE_HEADER, signature.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_right_signature_over_the_right_body_at_the_right_time_passes() {
        let key = SecretString::from("key");
        let good = sign(&key, NOW, b"body");
        let sent = headers(&NOW.to_string(), &good);
        assert!(check(&key, &sent, b"body", NOW + WINDOW_SECONDS).is_ok());
        assert!(check(&key, &sent, b"body", NOW - WINDOW_SECONDS).is_ok());
        let refused = |key: &str, headers: &HeaderMap, body: &[u8], now| {
            check(&SecretString::from(key), headers, body, now).unwrap_err()
        };
        assert_eq!(refused("key", &sent, b"other", NOW), SignatureError::Wrong);
        assert_eq!(refused("wrong", &sent, b"body", NOW), SignatureError::Wrong);
        assert_eq!(
            refused("key", &sent, b"body", NOW + WINDOW_SECONDS + 1),
            SignatureError::Stale
        );
        let later = headers(&(NOW + 1).to_string(), &good);
        assert_eq!(refused("key", &later, b"body", NOW), SignatureError::Wrong);
        assert_eq!(
            refused("key", &HeaderMap::new(), b"body", NOW),
            SignatureError::Missing
        );
        assert_eq!(
            refused("key", &headers("soon", &good), b"body", NOW),
            SignatureError::Missing
        );
        // Without its prefix, and as others sign: over the body alone.
        assert_eq!(
            refused("key", &headers("1", "00"), b"body", NOW),
            SignatureError::Missing
        );
    }

    proptest! {
        #[test]
        fn no_header_passes_or_makes_it_panic(timestamp in "[ -~]{0,30}", signature in "(sha256=)?[0-9a-fA-F ]{0,70}") {
            let key = SecretString::from("key");
            prop_assert!(check(&key, &headers(timestamp.trim(), signature.trim()), b"body", NOW).is_err());
        }
    }
}
