//! The REST client: four calls, each with a deadline, each answer classified into what the operator can do about it.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::error::KsqlError;
use super::protocol::{Applied, CommandStatus, Entity, ErrorBody, Listing};
use crate::apply::record::StatementRecord;
use crate::deadline;

const MEDIA_TYPE: &str = "application/vnd.ksql.v1+json";
/// Longest answer that is read. Thousands of streams are listed in less.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;
/// ksqlDB's code of a server that does not know a command yet.
const BEHIND: u32 = 50301;
/// An accepted statement is polled this often, this many times.
const POLL: (Duration, u32) = (Duration::from_millis(500), 20);

/// Basic authentication.
#[derive(Clone)]
pub struct Credentials {
    /// User.
    pub username: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// A client of one ksqlDB server.
#[derive(Clone, Debug)]
pub struct KsqlClient {
    http: reqwest::Client,
    endpoint: String,
    credentials: Option<Credentials>,
    poll: Duration,
}

impl KsqlClient {
    /// A client of `endpoint` (`http://host:8088`).
    pub fn new(http: reqwest::Client, endpoint: &str, credentials: Option<Credentials>) -> Self {
        Self {
            http,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            credentials,
            poll: POLL.0,
        }
    }

    /// Streams, tables and queries. Answered from the server's memory, also while Kafka is down.
    ///
    /// # Errors
    /// Any [`KsqlError`].
    pub async fn listing(&self) -> Result<Listing, KsqlError> {
        self.listing_after(None).await
    }

    /// The same from a server that has executed everything up to the command `sequence`: of several servers behind one
    /// address, the one that answers may not be the one that took the last statement.
    ///
    /// # Errors
    /// Any [`KsqlError`]; [`KsqlError::Behind`] when the server did not catch up in time.
    pub async fn listing_after(&self, sequence: Option<i64>) -> Result<Listing, KsqlError> {
        let mut listing = Listing::default();
        for (i, statement) in ["SHOW STREAMS;", "LIST TABLES;", "LIST QUERIES;"]
            .into_iter()
            .enumerate()
        {
            let mut body = json!({"ksql": statement, "streamsProperties": {}});
            if let Some(sequence) = sequence.filter(|_| i == 0) {
                body["commandSequenceNumber"] = sequence.into();
            }
            for entity in self.statements(&body, deadline::KSQLDB_LISTING).await? {
                match entity {
                    Entity::Streams { streams: found } | Entity::Tables { tables: found } => {
                        listing
                            .sources
                            .extend(found.into_iter().map(|source| (source.name.clone(), source)));
                    }
                    // Push queries of people and programs come and go.
                    Entity::Queries { queries } => {
                        listing
                            .queries
                            .extend(queries.into_iter().filter(|q| q.query_type == "PERSISTENT"));
                    }
                    _ => {}
                }
            }
        }
        Ok(listing)
    }

    /// The same once the server has executed what `known` says was sent. A server that begins anew never comes so far:
    /// it knows nothing of what was made, and is taken as it is.
    ///
    /// # Errors
    /// Any [`KsqlError`].
    pub async fn listing_for(&self, known: &BTreeMap<String, StatementRecord>) -> Result<Listing, KsqlError> {
        let sequence = known.values().filter_map(|statement| statement.sequence).max();
        let listing = self.listing_after(sequence).await;
        if let Err(KsqlError::Behind { .. }) = listing {
            let now = self.listing().await;
            let anew = |now: &Listing| known.keys().all(|key| !now.sources.contains_key(key));
            if now.as_ref().is_ok_and(anew) {
                return now;
            }
        }
        listing
    }

    /// Runs one statement, and waits until the server has executed it: HTTP 200 means only that it is in the
    /// command topic. `earliest`: a query that it starts reads its sources from their beginning.
    ///
    /// # Errors
    /// Any [`KsqlError`].
    pub async fn execute(&self, sql: &str, earliest: bool) -> Result<Applied, KsqlError> {
        let properties = if earliest {
            json!({"auto.offset.reset": "earliest"})
        } else {
            json!({})
        };
        let mut applied = Applied::default();
        for entity in self
            .statements(
                &json!({"ksql": sql, "streamsProperties": properties}),
                deadline::KSQLDB,
            )
            .await?
        {
            match entity {
                Entity::CurrentStatus {
                    command_id,
                    command_status,
                    command_sequence_number,
                } => {
                    applied.sequence = Some(command_sequence_number);
                    let finished = self.finished(&command_id, command_status).await;
                    applied.query_id = finished
                        .map_err(|error| self.unfinished(error, command_id, command_sequence_number))?
                        .query_id;
                }
                Entity::Warning {} => applied.already_existed = true,
                _ => {}
            }
        }
        Ok(applied)
    }

    /// What became of a statement that was [`KsqlError::Unfinished`]: the query that it started, if any. Sent again
    /// instead, it would be one that exists already, or a replacement that restarts its query once more.
    ///
    /// # Errors
    /// Any [`KsqlError`]; `Rejected` with code 40400 when the server does not know the command.
    pub async fn outcome(&self, command: &str, sequence: i64) -> Result<Option<String>, KsqlError> {
        let status = self.status(command).await?;
        let finished = self.finished(command, status).await;
        finished
            .map(|status| status.query_id)
            .map_err(|error| self.unfinished(error, command.to_owned(), sequence))
    }

    /// A statement that was accepted will be executed, whatever keeps the server from telling so.
    fn unfinished(&self, error: KsqlError, command: String, sequence: i64) -> KsqlError {
        match error {
            KsqlError::Unreachable { endpoint, .. } | KsqlError::Protocol { endpoint, .. } => {
                KsqlError::Unfinished {
                    endpoint,
                    command,
                    sequence,
                }
            }
            other => other,
        }
    }

    async fn finished(&self, command: &str, mut status: CommandStatus) -> Result<CommandStatus, KsqlError> {
        for _ in 0..POLL.1 {
            match status.status.as_str() {
                "SUCCESS" | "RUNNING" => return Ok(status),
                "ERROR" => {
                    return Err(KsqlError::Rejected {
                        code: 40000,
                        message: status.message,
                    });
                }
                _ => {}
            }
            tokio::time::sleep(self.poll).await;
            status = self.status(command).await?;
        }
        Err(self.unreachable(format!("{command} was accepted but is not executed yet")))
    }

    async fn statements(&self, body: &Value, limit: Duration) -> Result<Vec<Entity>, KsqlError> {
        self.answer(Method::POST, "/ksql", Some(body), limit).await
    }

    async fn status(&self, command: &str) -> Result<CommandStatus, KsqlError> {
        let path = status_path(command);
        self.answer(Method::GET, &path, None, deadline::KSQLDB_LISTING)
            .await
    }

    async fn answer<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<T, KsqlError> {
        deadline::leading().map_err(|error| self.unreachable(error.to_string()))?;
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.endpoint))
            .header(reqwest::header::ACCEPT, MEDIA_TYPE)
            .timeout(limit);
        if let Some(body) = body {
            request = request
                .header(reqwest::header::CONTENT_TYPE, MEDIA_TYPE)
                .body(body.to_string());
        }
        if let Some(credentials) = &self.credentials {
            request = request.basic_auth(&credentials.username, Some(&credentials.password));
        }
        let mut response = request
            .send()
            .await
            .map_err(|error| self.unreachable(transport(&error)))?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.unreachable(transport(&error)))?
        {
            if bytes.len() + chunk.len() > LONGEST_ANSWER {
                return Err(self.protocol(format!("the answer is longer than {LONGEST_ANSWER} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| self.protocol(error.to_string()));
        }
        Err(self.refusal(status, &bytes))
    }

    /// Errors by what can be done about them. The code alone does not tell: several user errors are 50000, and so
    /// is a command topic that cannot be written for the moment.
    fn refusal(&self, status: StatusCode, body: &[u8]) -> KsqlError {
        let endpoint = self.endpoint.clone();
        let Ok(error) = serde_json::from_slice::<ErrorBody>(body) else {
            let message = format!("HTTP {status} without an error body");
            return if status.is_server_error() {
                self.unreachable(message)
            } else {
                self.protocol(message)
            };
        };
        let message = error.message;
        match error.error_code {
            40100 | 40300 | 40301 => KsqlError::Unauthorized { endpoint, message },
            BEHIND => KsqlError::Behind { endpoint, message },
            42900 | 50300..=50399 => KsqlError::Unreachable { endpoint, message },
            // "Could not write the statement … into the command topic", "Timeout while initializing transaction to
            // the KSQL command topic": without effect, and it passes.
            50000 if message.contains("command topic") || message.contains("command\n\ttopic") => {
                KsqlError::Unreachable { endpoint, message }
            }
            code => KsqlError::Rejected { code, message },
        }
    }

    fn unreachable(&self, message: String) -> KsqlError {
        KsqlError::Unreachable {
            endpoint: self.endpoint.clone(),
            message,
        }
    }

    fn protocol(&self, message: String) -> KsqlError {
        KsqlError::Protocol {
            endpoint: self.endpoint.clone(),
            message,
        }
    }
}

/// Command ids hold backticks, which must be percent-encoded: stream/`X`/create.
fn status_path(command: &str) -> String {
    format!("/status/{}", command.replace('`', "%60"))
}

/// reqwest's own text repeats the URL; a condition wants the one word that matters.
fn transport(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        "no answer in time".to_owned()
    } else if error.is_connect() && mentions_certificate(error) {
        "its certificate is not trusted: check spec.ksqldb.tls.caSecretRef and the name in the endpoint"
            .to_owned()
    } else if error.is_connect() {
        "it cannot be connected to".to_owned()
    } else {
        "the connection broke".to_owned()
    }
}

fn mentions_certificate(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("certificate") {
            return true;
        }
        cause = error.source();
    }
    false
}
