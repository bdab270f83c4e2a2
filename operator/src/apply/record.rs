//! What the operator applied outside Kubernetes: ConfigMap `<name>-applied`, which survives a lost status.

use std::collections::BTreeMap;

use recommendation_api::pipeline::status::TopicOrigin;
use serde::{Deserialize, Serialize};

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AppliedRecord {
    /// How the operator came to each topic.
    pub topics: BTreeMap<String, TopicOrigin>,
    /// Statements by the stream or table that they make.
    pub statements: BTreeMap<String, StatementRecord>,
}

/// A statement that was sent, or is about to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StatementRecord {
    /// Name in the spec.
    pub statement: String,
    /// Hash of its text.
    pub hash: String,
    /// The server executed it; `false`: it was about to be sent.
    pub applied: bool,
    /// The Kafka topic of what it makes, as the server lists it: ksqlDB chooses one where the statement names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The server took it and had not executed it when it was last asked: its command's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The server's command sequence number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
}
