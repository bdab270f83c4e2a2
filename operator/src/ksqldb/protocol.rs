//! Wire types: only the fields that are acted on.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Streams, tables and persistent queries of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// By name, as the server writes it (upper case unless it was quoted).
    pub sources: BTreeMap<String, Source>,
    /// Persistent queries.
    pub queries: Vec<Query>,
}

impl Listing {
    /// The persistent query that writes `source`, if there is one: its own before those of `INSERT INTO`.
    pub fn writer(&self, source: &str) -> Option<&Query> {
        let mut writers = self
            .queries
            .iter()
            .filter(|query| query.sinks.iter().any(|sink| sink == source));
        let first = writers.next();
        let own = |query: &&Query| query.id.starts_with("CSAS_") || query.id.starts_with("CTAS_");
        first.filter(own).or_else(|| writers.find(own)).or(first)
    }

    /// The persistent query of this id.
    pub fn query(&self, id: &str) -> Option<&Query> {
        self.queries.iter().find(|query| query.id == id)
    }
}

/// Stream or table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SourceKind {
    /// A stream.
    Stream,
    /// A table.
    Table,
}

/// A stream or a table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Source {
    /// Stream or table.
    #[serde(rename = "type")]
    pub kind: SourceKind,
    /// Its name.
    pub name: String,
    /// Its Kafka topic.
    pub topic: String,
}

/// A query as `LIST QUERIES` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Query {
    /// Its id; made from an offset, never to be predicted.
    pub id: String,
    /// The sources that it writes.
    #[serde(default)]
    pub sinks: Vec<String>,
    /// `PERSISTENT`, `PUSH`.
    pub query_type: String,
    /// `RUNNING`, `ERROR`, `UNRESPONSIVE`; a paused query says `RUNNING` here.
    #[serde(default)]
    pub state: Option<String>,
    /// Queries by state over all servers; the only place where `PAUSED` is seen.
    #[serde(default)]
    pub status_count: BTreeMap<String, u32>,
}

impl Query {
    /// The state to report: the first that is not `RUNNING`, if any server says so.
    pub fn effective_state(&self) -> &str {
        self.status_count
            .keys()
            .map(String::as_str)
            .find(|state| *state != "RUNNING")
            .or(self.state.as_deref())
            .unwrap_or("UNKNOWN")
    }
}

/// What became of an accepted statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The query that it started.
    pub query_id: Option<String>,
    /// Its place in the command topic: sent with later requests, a server that is behind waits for it.
    pub sequence: Option<i64>,
    /// The server did nothing because the name exists (`IF NOT EXISTS` compares nothing).
    pub already_existed: bool,
}

/// One entity of an answer of `POST /ksql`.
#[derive(Debug, Deserialize)]
#[serde(tag = "@type")]
pub(super) enum Entity {
    #[serde(rename = "currentStatus", rename_all = "camelCase")]
    CurrentStatus {
        command_id: String,
        command_status: CommandStatus,
        command_sequence_number: i64,
    },
    #[serde(rename = "warning_entity")]
    Warning {},
    #[serde(rename = "streams")]
    Streams { streams: Vec<Source> },
    #[serde(rename = "tables")]
    Tables { tables: Vec<Source> },
    #[serde(rename = "queries")]
    Queries { queries: Vec<Query> },
    #[serde(other)]
    Other,
}

/// `status` is one of QUEUED PARSING EXECUTING RUNNING TERMINATED SUCCESS ERROR.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CommandStatus {
    pub status: String,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub query_id: Option<String>,
}

/// `generic_error` and `statement_error`.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorBody {
    pub error_code: u32,
    pub message: String,
}
