//! `/webhook` and `/gmail-webhook`. Their success bodies are exactly as written: shops compare them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{Extension, State};
use axum::routing::post;
use hmac::{Hmac, Mac as _};
use http::HeaderMap;
use recommendation_api::Event;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sha2::Sha256;

use super::events::{append, with_id};
use crate::http::App;
use crate::http::input::Body;
use crate::http::problem::Problem;
use crate::http::remote::Peer;

/// `sha256=<hex of HMAC-SHA256 over the body>`, as GitHub and others sign.
const SIGNATURE_HEADERS: [&str; 2] = ["x-webhook-signature", "x-hub-signature-256"];
/// Longest address (RFC 5321).
const MAX_ADDRESS: usize = 254;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/webhook", post(webhook))
        .route("/gmail-webhook", post(gmail))
}

/// Signed where a key is configured; rate-limited and warned of (once) otherwise.
fn admit(app: &App, peer: Option<Extension<Peer>>, headers: &HeaderMap, body: &Body) -> Result<(), Problem> {
    if let Some(key) = &app.webhook_key {
        return if is_signed(key, headers, &body.0) {
            Ok(())
        } else {
            Err(Problem::unauthorized(
                "the webhook's signature is missing or wrong",
            ))
        };
    }
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !WARNED.swap(true, Ordering::Relaxed) {
        tracing::warn!("unsigned webhooks are accepted: set webhooks.hmacSecretRef");
    }
    let admitted = peer.is_none_or(|Extension(peer)| app.limiter.webhook(app.trusted.caller(peer, headers)));
    if admitted {
        return Ok(());
    }
    app.metrics.rate_limited.with_label_values(&["webhook"]).inc();
    Err(Problem::too_many_requests(1))
}

fn is_signed(key: &SecretString, headers: &HeaderMap, body: &[u8]) -> bool {
    let Some(value) = SIGNATURE_HEADERS.iter().find_map(|name| headers.get(*name)) else {
        return false;
    };
    let Some(Ok(signature)) = value
        .to_str()
        .ok()
        .and_then(|v| v.strip_prefix("sha256="))
        .map(hex::decode)
    else {
        return false;
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(body);
    mac.verify_slice(&signature).is_ok() // in constant time
}

async fn webhook(
    State(app): State<Arc<App>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Result<&'static str, Problem> {
    admit(&app, peer, &headers, &body)?;
    let mut map = body.object()?;
    // What this body calls `event` is the event's type.
    if let Some(event) = map.remove("event") {
        map.insert("event_type".into(), event);
    }
    let event = Event::from_map(map, None).map_err(|e| match e.field() {
        Some("event_type") => Problem::field("event", "event is required and must be a string"),
        _ => Problem::from(e),
    })?;
    let (_, event) = with_id(event);
    append(&app, &event).await?;
    Ok("Event received")
}

#[derive(Deserialize)]
struct Email {
    email: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    message: String,
}

/// No profile carries an address yet, so that every e-mail is one of nobody known: counted, never stored.
async fn gmail(
    State(app): State<Arc<App>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Result<&'static str, Problem> {
    admit(&app, peer, &headers, &body)?;
    let email: Email = body.json()?;
    let address = email.email.trim();
    let plausible = address.len() <= MAX_ADDRESS
        && !address.chars().any(|c| c.is_control() || c.is_whitespace())
        && address
            .split_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
    if !plausible {
        return Err(Problem::field("email", "email must be an e-mail address"));
    }
    app.metrics.emails_unmatched.inc();
    tracing::debug!(
        subject_bytes = email.subject.len(),
        message_bytes = email.message.len(),
        "e-mail of nobody known"
    );
    Ok("Email processed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_signature_over_the_right_body_passes() {
        let key = SecretString::from("key");
        let mut mac = Hmac::<Sha256>::new_from_slice(b"key").unwrap();
        mac.update(b"body");
        let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        for header in SIGNATURE_HEADERS {
            let mut headers = HeaderMap::new();
            headers.insert(header, signature.parse().unwrap());
            assert!(is_signed(&key, &headers, b"body"));
            assert!(!is_signed(&key, &headers, b"other"));
            assert!(!is_signed(&SecretString::from("wrong"), &headers, b"body"));
        }
        assert!(!is_signed(&key, &HeaderMap::new(), b"body"));
    }
}
