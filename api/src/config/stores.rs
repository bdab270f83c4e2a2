//! Where state is kept besides the log: Redis and the snapshot store.

use serde::{Deserialize, Serialize};

use crate::duration::HumanDuration;

/// Redis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://host:port[/db]`, without password.
    pub url: String,
    /// File below the secrets folder that holds the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
    /// How long a cached answer may live.
    pub ttl: HumanDuration,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            password_file: None,
            ttl: HumanDuration::from_secs(30),
        }
    }
}

/// Snapshots of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotsConfig {
    /// Where (`s3://bucket/prefix`, `gs://…`, `az://…`, `file:///…`).
    pub url: String,
    /// How often.
    pub interval: HumanDuration,
    /// Folder below the secrets folder with the store's credentials, one file a setting, named as the store's
    /// environment variables are (`AWS_ACCESS_KEY_ID`, `aws_secret_access_key`, …).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_dir: Option<String>,
}

impl Default for SnapshotsConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            interval: HumanDuration::from_secs(600),
            credentials_dir: None,
        }
    }
}

/// The tables of the default ksqlDB statements, which figures are read from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KsqldbConfig {
    /// Address of the server.
    pub url: String,
    /// Events by type.
    pub funnel: String,
    /// Events and purchases by product and hour.
    pub popularity: String,
}
