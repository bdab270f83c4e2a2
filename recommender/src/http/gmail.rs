//! Gmail's push notifications, as Cloud Pub/Sub delivers them: an envelope whose message names a mailbox and how far
//! its history is, and a bearer token (OpenID Connect, RS256) that shows who pushed it. The e-mail itself is not in
//! it: it is fetched where OAuth credentials are configured. Otherwise there is nothing to learn from, and the push is
//! acknowledged all the same, or Pub/Sub would send it again for days.
//! <https://developers.google.com/workspace/gmail/api/guides/push>,
//! <https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions>

pub mod fetch;
mod message;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use jsonwebtoken::{Algorithm, Validation};
use recommendation_api::config::GmailConfig;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use self::fetch::{MailboxError, Mailboxes};
use super::jwks::{Jwks, JwksError};
use super::problem::Problem;
use super::tokens::MAX_TOKEN_BYTES;

/// A Pub/Sub push.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    message: Message,
    #[serde(default)]
    #[expect(dead_code, reason = "named so that its type is checked")]
    subscription: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    data: String,
    #[serde(default, alias = "message_id")]
    #[expect(dead_code, reason = "named so that its type is checked")]
    message_id: String,
}

/// What the message says.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// The mailbox that changed.
    pub email_address: String,
    /// How far its history is: a number, which some libraries write as text.
    pub history_id: serde_json::Value,
}

impl Envelope {
    /// What its message says.
    pub fn notification(&self) -> Result<Notification, Problem> {
        let wrong = || {
            Problem::field(
                "message.data",
                "message.data must be base64 of a JSON object with emailAddress and historyId",
            )
        };
        let data = self.message.data.as_str();
        let bytes = STANDARD
            .decode(data)
            .or_else(|_| URL_SAFE.decode(data))
            .map_err(|_| wrong())?;
        let notification: Notification = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        if notification.history().is_none() || !crate::profile::is_address(&notification.email_address) {
            return Err(wrong());
        }
        Ok(notification)
    }
}

impl Notification {
    /// How far the mailbox's history is; `None` for what is no number.
    pub fn history(&self) -> Option<u64> {
        let id = &self.history_id;
        id.as_u64().or_else(|| id.as_str()?.parse().ok())
    }
}

/// Checks who pushed.
pub struct PushTokens {
    config: GmailConfig,
    jwks: Jwks,
    /// Reads what a push is about, where it may.
    pub mailboxes: Option<Mailboxes>,
}

/// Why pushes cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum GmailError {
    /// Their tokens cannot be checked.
    #[error(transparent)]
    Jwks(#[from] JwksError),
    /// Their e-mails cannot be read.
    #[error("webhooks.gmail.credentialsSecretRef: {0}")]
    Mailbox(#[from] MailboxError),
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    email: String,
    #[serde(default)]
    email_verified: bool,
}

impl PushTokens {
    /// Nothing where no audience is configured: pushes are refused then, for anyone could have made them.
    pub fn new(config: Option<&GmailConfig>, secrets_dir: &Path) -> Result<Option<Self>, GmailError> {
        let Some(config) = config.filter(|config| !config.audience.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            jwks: Jwks::new(&config.jwks_url)?,
            mailboxes: Mailboxes::new(config, secrets_dir)?,
            config: config.clone(),
        }))
    }

    /// Keeps the issuer's keys fresh until stopped.
    pub async fn watch(&self, stop: CancellationToken) {
        self.jwks.watch(stop).await;
    }

    /// Refuses what the issuer did not sign for our subscription.
    pub async fn check(&self, token: &str) -> Result<(), Problem> {
        let invalid = || Problem::unauthorized("Invalid token");
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid());
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| invalid())?;
        let key = self.jwks.key(header.kid.as_deref()).await.ok_or_else(invalid)?;
        if key.algorithm != Algorithm::RS256 {
            return Err(invalid());
        }
        let mut validation = Validation::new(Algorithm::RS256);
        // Google writes its issuer with and without the scheme.
        let bare = self.config.issuer.trim_start_matches("https://");
        validation.set_issuer(&[self.config.issuer.as_str(), bare]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let claims = jsonwebtoken::decode::<Claims>(token, &key.key, &validation)
            .map_err(|_| invalid())?
            .claims;
        let account = &self.config.service_account;
        if account.is_empty() || (claims.email_verified && claims.email == *account) {
            return Ok(());
        }
        Err(Problem::forbidden(
            "the token is of another service account than webhooks.gmail.serviceAccount",
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn envelope(data: &str) -> Result<Notification, Problem> {
        let text = json!({"message": {"data": data, "messageId": "1"}, "subscription": "projects/p/subscriptions/s"});
        serde_json::from_value::<Envelope>(text).unwrap().notification()
    }

    #[test]
    fn a_notification_is_read_from_its_envelope() {
        let data = STANDARD.encode(r#"{"emailAddress":"shop@example.com","historyId":9876543210}"#);
        assert_eq!(envelope(&data).unwrap().email_address, "shop@example.com");
        for bad in [
            "",
            "%%",
            &STANDARD.encode("[]"),
            &STANDARD.encode(r#"{"emailAddress":"x","historyId":1}"#),
            &STANDARD.encode(r#"{"emailAddress":"shop@example.com","historyId":"one"}"#),
        ] {
            assert!(envelope(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_data_makes_it_panic(data in "\\PC{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = envelope(&data);
            let _ = envelope(&STANDARD.encode(bytes));
        }
    }
}
