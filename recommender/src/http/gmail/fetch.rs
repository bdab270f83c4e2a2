//! The e-mails that a push notification is about, read by Gmail's API with an OAuth refresh token of the mailbox.
//! <https://developers.google.com/workspace/gmail/api/guides/sync>,
//! <https://developers.google.com/identity/protocols/oauth2/web-server#offline>
//!
//! A notification tells how far a mailbox's history is, not what is new: that is asked for from where this replica
//! read last. A replica that has not read yet, or not for long, takes what came within a day. Both may read an e-mail
//! twice; the ids of its events are made of its own, so that it counts once.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::header::CONTENT_TYPE;
use recommendation_api::config::GmailConfig;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::message::{Mail, Message};
use crate::http::outgoing;
use crate::secrets::{self, SecretError};

/// Longest one call may take: Pub/Sub waits ten seconds for all of them.
const TIMEOUT: Duration = Duration::from_secs(3);
/// E-mails read for one notification at most; the next delivery goes on.
const MOST: usize = 50;
/// E-mails that are asked for at once.
const AT_ONCE: usize = 8;
/// Largest answer, in bytes: an e-mail may be 25 MB, but nobody asks for products in so many words.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// An access token is renewed so long before it ends.
const EARLY: Duration = Duration::from_secs(60);
/// How a token is asked for.
const FORM: &str = "application/x-www-form-urlencoded";
/// What came to the mailbox by itself.
const INBOX: &str = "INBOX";

/// Why e-mails could not be read. Neither tokens nor contents stand in it.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No answer, or one that says no.
    #[error("{what} does not answer: {source}")]
    Call {
        /// Who was asked.
        what: &'static str,
        /// Why.
        source: reqwest::Error,
    },
    /// The refresh token is not taken.
    #[error("Google refuses the OAuth credentials of webhooks.gmail.credentialsSecretRef: {0}")]
    Refused(String),
    /// The answer is not what Gmail's API describes.
    #[error("{0} answers something else than its API describes")]
    Unexpected(&'static str),
}

/// What a notification led to.
pub struct Fetched {
    /// New e-mails, oldest first.
    pub mails: Vec<Mail>,
    /// Where the mailbox is read from once they have been dealt with.
    pub read_to: u64,
    /// Whether there are more.
    pub more: bool,
}

struct Credentials {
    client_id: SecretString,
    client_secret: SecretString,
    refresh_token: SecretString,
}

#[derive(Default)]
struct Known {
    token: Option<(SecretString, Instant)>,
    /// How far each mailbox was read.
    read: HashMap<String, u64>,
}

/// Reads mailboxes.
pub struct Mailboxes {
    client: reqwest::Client,
    token_url: String,
    messages_url: String,
    history_url: String,
    credentials: Credentials,
    known: Mutex<Known>,
}

impl Mailboxes {
    /// `None` where no credentials are configured.
    pub fn new(config: &GmailConfig, secrets_dir: &Path) -> Result<Option<Self>, MailboxError> {
        let Some(dir) = &config.credentials_dir else {
            return Ok(None);
        };
        let dir = secrets::below(secrets_dir, dir)?;
        let read = |name: &str| secrets::read(&dir.join(name));
        let api = config.api_url.trim_end_matches('/');
        Ok(Some(Self {
            client: outgoing::staying(TIMEOUT).map_err(MailboxError::Client)?,
            token_url: config.token_url.clone(),
            messages_url: format!("{api}/gmail/v1/users/me/messages"),
            history_url: format!("{api}/gmail/v1/users/me/history"),
            credentials: Credentials {
                client_id: read("clientId")?,
                client_secret: read("clientSecret")?,
                refresh_token: read("refreshToken")?,
            },
            known: Mutex::default(),
        }))
    }

    /// What is new in a mailbox whose history is at `history_id`.
    pub async fn fetch(&self, mailbox: &str, history_id: u64) -> Result<Fetched, FetchError> {
        let token = self.token().await?;
        let read = self.known.lock().await.read.get(mailbox).copied();
        let new = match read {
            Some(read) if read >= history_id => Some((Vec::new(), read, false)),
            Some(read) => self.since(&token, read, history_id).await?,
            None => None,
        };
        let (ids, read_to, more) = match new {
            Some(new) => new,
            None => (self.of_a_day(&token).await?, history_id, false),
        };
        let mails = stream::iter(ids)
            .map(|id| self.mail(&token, id))
            .buffered(AT_ONCE)
            .try_filter_map(async |mail| Ok(mail))
            .try_collect()
            .await?;
        Ok(Fetched { mails, read_to, more })
    }

    /// `None` for an e-mail that is gone again, has no sender or is not understood, which another try would not change.
    async fn mail(&self, token: &SecretString, id: String) -> Result<Option<Mail>, FetchError> {
        let url = format!("{}/{id}", self.messages_url);
        match self.get::<Message>(token, &url, &[("format", "full")]).await {
            Ok(message) => Ok(message.and_then(Message::mail)),
            Err(error @ FetchError::Unexpected(_)) => {
                tracing::warn!(%error, "an e-mail is passed over");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The e-mails up to there have been dealt with.
    pub async fn read_to(&self, mailbox: &str, history_id: u64) {
        let mut known = self.known.lock().await;
        let read = known.read.entry(mailbox.to_owned()).or_default();
        *read = history_id.max(*read);
    }

    async fn token(&self) -> Result<SecretString, FetchError> {
        const WHAT: &str = "Google's token endpoint";
        #[derive(Deserialize)]
        struct Granted {
            access_token: SecretString,
            #[serde(default)]
            expires_in: u64,
        }
        #[derive(Deserialize)]
        struct Refusal {
            #[serde(default)]
            error: String,
        }
        // Held while it is asked for: whoever else needs it waits for the same one.
        let mut known = self.known.lock().await;
        if let Some((token, until)) = &known.token
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let Credentials {
            client_id,
            client_secret,
            refresh_token,
        } = &self.credentials;
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", client_id.expose_secret())
            .append_pair("client_secret", client_secret.expose_secret())
            .append_pair("refresh_token", refresh_token.expose_secret())
            .finish();
        let request = self
            .client
            .post(&self.token_url)
            .header(CONTENT_TYPE, FORM)
            .body(form);
        let answer = request.send().await.map_err(failed(WHAT))?;
        if answer.status().is_client_error() {
            let status = answer.status();
            let bytes = bounded(answer, WHAT).await?;
            let refusal = serde_json::from_slice::<Refusal>(&bytes).map(|refusal| refusal.error);
            // One of a few words that RFC 6749 names, or nothing that could be trusted to be one.
            let word = refusal.unwrap_or_default();
            let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            return Err(FetchError::Refused(if is_word {
                word
            } else {
                status.to_string()
            }));
        }
        let bytes = bounded(answer.error_for_status().map_err(failed(WHAT))?, WHAT).await?;
        let granted: Granted = serde_json::from_slice(&bytes).map_err(|_| FetchError::Unexpected(WHAT))?;
        let lasts = Duration::from_secs(granted.expires_in).saturating_sub(EARLY);
        known.token = Some((granted.access_token.clone(), Instant::now() + lasts));
        Ok(granted.access_token)
    }

    /// Of a call of Gmail's API; `None` for what is not there.
    async fn get<T: DeserializeOwned>(
        &self,
        token: &SecretString,
        url: &str,
        query: &[(&str, &str)],
    ) -> Result<Option<T>, FetchError> {
        const WHAT: &str = "Gmail";
        let request = self
            .client
            .get(url)
            .query(query)
            .bearer_auth(token.expose_secret());
        let answer = request.send().await.map_err(failed(WHAT))?;
        match answer.status() {
            http::StatusCode::NOT_FOUND => return Ok(None),
            // Withdrawn before its time: the next delivery gets a new one.
            http::StatusCode::UNAUTHORIZED => self.known.lock().await.token = None,
            _ => {}
        }
        let bytes = bounded(answer.error_for_status().map_err(failed(WHAT))?, WHAT).await?;
        let read = serde_json::from_slice(&bytes).map_err(|_| FetchError::Unexpected(WHAT))?;
        Ok(Some(read))
    }

    /// What came to the inbox since a point of the history, how far that goes and whether there is more; `None` where
    /// the point is no longer known.
    async fn since(
        &self,
        token: &SecretString,
        read: u64,
        history_id: u64,
    ) -> Result<Option<(Vec<String>, u64, bool)>, FetchError> {
        let (mut ids, mut read_to) = (Vec::new(), history_id);
        let start = read.to_string();
        let mut page = String::new();
        loop {
            let mut query = vec![
                ("startHistoryId", &*start),
                ("historyTypes", "messageAdded"),
                ("labelId", INBOX),
            ];
            if !page.is_empty() {
                query.push(("pageToken", &page));
            }
            let Some(found) = self.get::<History>(token, &self.history_url, &query).await? else {
                return Ok(None);
            };
            for record in found.history {
                if ids.len() >= MOST {
                    return Ok(Some((ids, read_to, true)));
                }
                for added in record.messages_added {
                    if is_id(&added.message.id) && !ids.contains(&added.message.id) {
                        ids.push(added.message.id);
                    }
                }
                read_to = record.id.parse().unwrap_or(read_to);
            }
            match found.next_page_token {
                Some(next) if !next.is_empty() => page = next,
                _ => return Ok(Some((ids, history_id, false))),
            }
        }
    }

    /// The newest e-mails of the last day, oldest first.
    async fn of_a_day(&self, token: &SecretString) -> Result<Vec<String>, FetchError> {
        let most = MOST.to_string();
        let query = [
            ("q", "newer_than:1d"),
            ("labelIds", INBOX),
            ("maxResults", &*most),
        ];
        let found = self.get::<Listed>(token, &self.messages_url, &query).await?;
        let listed = found.map(|found| found.messages).unwrap_or_default();
        let newest = listed
            .into_iter()
            .map(|it| it.id)
            .filter(|id| is_id(id))
            .take(MOST);
        let mut ids: Vec<String> = newest.collect();
        ids.reverse();
        Ok(ids)
    }
}

/// It becomes part of an address.
fn is_id(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// What an error of a call is told as.
fn failed(what: &'static str) -> impl Fn(reqwest::Error) -> FetchError {
    move |source| FetchError::Call {
        what,
        source: source.without_url(),
    }
}

async fn bounded(answer: reqwest::Response, what: &'static str) -> Result<Vec<u8>, FetchError> {
    let bytes = outgoing::body(answer, MAX_BYTES).await.map_err(failed(what))?;
    bytes.ok_or(FetchError::Unexpected(what))
}

/// Why mailboxes cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum MailboxError {
    /// A file is missing.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The client cannot be made.
    #[error("cannot make an HTTP client: {0}")]
    Client(reqwest::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct History {
    #[serde(default)]
    history: Vec<HistoryRecord>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HistoryRecord {
    #[serde(default)]
    id: String,
    #[serde(default)]
    messages_added: Vec<Added>,
}

#[derive(Deserialize)]
struct Added {
    message: Id,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    messages: Vec<Id>,
}
