//! The Kafka cluster.

use serde::{Deserialize, Serialize};

use crate::pipeline::kafka::KafkaAuthenticationType;

/// The Kafka cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port` each.
    pub bootstrap_servers: Vec<String>,
    /// TLS to the brokers; absent: plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTlsConfig>,
    /// How to authenticate; absent: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<KafkaAuthenticationConfig>,
}

/// TLS to the brokers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaTlsConfig {
    /// File below the secrets folder: the CA that signed the brokers' certificates (PEM). Absent: the public CAs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
}

/// How to authenticate. SASL needs the user and the password, a client certificate its two files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaAuthenticationConfig {
    /// The mechanism.
    #[serde(rename = "type")]
    pub kind: KafkaAuthenticationType,
    /// The SASL user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// File below the secrets folder: the SASL password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
    /// File below the secrets folder: the client's certificate chain (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<String>,
    /// File below the secrets folder: the client's private key (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
}
