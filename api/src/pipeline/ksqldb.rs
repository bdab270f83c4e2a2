//! `spec.ksqldb`.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::common::{ConfigMapRef, SecretRef, TlsSpec};

/// A ksqlDB server and the statements that should run there.
#[skip_serializing_none]
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KsqldbSpec {
    /// `http://host:port` of the server.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://[^\\s]+$"))]
    pub endpoint: String,
    /// TLS to the server.
    pub tls: Option<TlsSpec>,
    /// Basic authentication (keys `username`, `password`).
    pub authentication: Option<KsqldbAuthentication>,
    /// Where new queries start to read. Default Earliest.
    pub start_from: Option<StartFrom>,
    /// How a changed statement is upgraded. Default InPlace.
    pub upgrade_policy: Option<UpgradePolicy>,
    /// Statements in order. Absent, and no `statementsFrom`: the default ones.
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub statements: Option<Vec<StatementSpec>>,
    /// ConfigMaps whose keys are statements, in the keys' order.
    #[schemars(length(max = 16))]
    pub statements_from: Option<Vec<StatementsFrom>>,
    /// Variables for `${name}` in statements.
    #[schemars(extend("maxProperties" = 64), inner(length(max = 1024)))]
    pub variables: Option<BTreeMap<String, String>>,
}

/// Basic authentication to ksqlDB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KsqldbAuthentication {
    /// Secret with the keys `username` and `password`.
    pub secret_ref: SecretRef,
}

/// Where new queries start to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StartFrom {
    /// At the oldest record.
    #[default]
    Earliest,
    /// At the next record.
    Latest,
}

/// How a changed statement is upgraded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpgradePolicy {
    /// `CREATE OR REPLACE`; what the server cannot do so is reported.
    #[default]
    InPlace,
    /// Drop and create again; offsets are lost.
    Recreate,
}

/// One statement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatementSpec {
    /// Name in status and messages.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// One ksqlDB statement.
    #[schemars(length(min = 1, max = 16_384))]
    pub sql: String,
}

/// Where further statements are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatementsFrom {
    /// A ConfigMap in the pipeline's namespace.
    pub config_map_ref: ConfigMapRef,
}
