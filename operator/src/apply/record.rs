//! What the operator applied outside Kubernetes: ConfigMap `<name>-applied`, which survives a lost status.

use std::collections::BTreeMap;

use recommendation_api::pipeline::status::TopicOrigin;
use recommendation_api::pipeline::{KsqldbSpec, SecretKeyRef};
use serde::{Deserialize, Serialize};

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AppliedRecord {
    /// How the operator came to each topic.
    pub topics: BTreeMap<String, TopicOrigin>,
    /// Statements by the stream or table that they make, or by `INSERT INTO`'s query.
    pub statements: BTreeMap<String, StatementRecord>,
    /// Where they run: what has to be dropped may outlive `spec.ksqldb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<KsqldbServer>,
}

/// How to reach a ksqlDB server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KsqldbServer {
    /// `http://host:port`.
    pub endpoint: String,
    /// Secret with `username` and `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_secret: Option<String>,
    /// The authority to trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretKeyRef>,
}

impl KsqldbServer {
    /// The server of a spec.
    pub fn of(spec: &KsqldbSpec) -> Self {
        Self {
            endpoint: spec.endpoint.clone(),
            user_secret: spec.authentication.as_ref().map(|a| a.secret_ref.name.clone()),
            ca: spec.tls.as_ref().and_then(|tls| tls.ca_secret_ref.clone()),
        }
    }
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
    /// That topic was not there before: ksqlDB made it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub made_topic: bool,
    /// It is only a view of a topic (`CREATE SOURCE …`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// It is a query (`INSERT INTO`), no stream or table.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insert: bool,
    /// Its place among the statements: what comes later may need it, and is dropped first.
    pub position: u32,
    /// The server took it and had not executed it when it was last asked: its command's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The server's command sequence number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
}
