//! What every Kafka client of ours starts from: where the cluster is, TLS, and who we are.
//!
//! Secrets are handed to librdkafka as text: the image has no file system to speak of, and an error must name
//! the configuration's field, which librdkafka does not know.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rdkafka::ClientConfig;
use recommendation_api::config::{KafkaAuthenticationConfig, KafkaConfig, KafkaTlsConfig};
use recommendation_api::pipeline::kafka::KafkaAuthenticationType;
use secrecy::{ExposeSecret as _, SecretString};

use crate::secrets::{self, SecretError};

/// Why a configuration makes no Kafka client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No brokers are named.
    #[error("kafka.bootstrapServers is empty")]
    NoServers,
    /// A field that the mechanism needs is absent.
    #[error("kafka.authentication: {kind:?} needs {field}")]
    Missing {
        /// The mechanism.
        kind: KafkaAuthenticationType,
        /// The field to add.
        field: &'static str,
    },
    /// A client certificate without TLS.
    #[error("kafka.authentication: Mtls needs kafka.tls (an empty object trusts the public authorities)")]
    MtlsWithoutTls,
    /// A file cannot be used.
    #[error("{field}: {source}")]
    Secret {
        /// The field that names it.
        field: &'static str,
        /// Why.
        source: SecretError,
    },
}

/// The settings that all clients of the configured cluster share.
pub fn client(kafka: &KafkaConfig, secrets_dir: &Path, client_id: &str) -> Result<ClientConfig, ClientError> {
    if kafka.bootstrap_servers.is_empty() {
        return Err(ClientError::NoServers);
    }
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka.bootstrap_servers.join(","))
        .set("client.id", client_id)
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "4000")
        .set("log.connection.close", "false");
    let secret = |name: &str, field: &'static str| -> Result<SecretString, ClientError> {
        let read = secrets::below(secrets_dir, name).and_then(|path| secrets::read(&path));
        read.map_err(|source| ClientError::Secret { field, source })
    };
    if let Some(KafkaTlsConfig { ca_file }) = &kafka.tls {
        let authorities = match ca_file {
            Some(name) => secret(name, "kafka.tls.caFile")?.expose_secret().to_owned(),
            None => public_authorities(),
        };
        config.set("ssl.ca.pem", authorities);
    }
    let none = KafkaAuthenticationConfig::default();
    let authentication = kafka.authentication.as_ref().unwrap_or(&none);
    let kind = authentication.kind;
    let required = |name: &Option<String>, field: &'static str, path: &'static str| match name {
        Some(name) => secret(name, path),
        None => Err(ClientError::Missing { kind, field }),
    };
    let sasl = match kind {
        KafkaAuthenticationType::None | KafkaAuthenticationType::Mtls => None,
        KafkaAuthenticationType::Plain => Some("PLAIN"),
        KafkaAuthenticationType::ScramSha256 => Some("SCRAM-SHA-256"),
        KafkaAuthenticationType::ScramSha512 => Some("SCRAM-SHA-512"),
    };
    if let Some(mechanism) = sasl {
        if authentication.username.is_empty() {
            let field = "username";
            return Err(ClientError::Missing { kind, field });
        }
        let password = required(
            &authentication.password_file,
            "passwordFile",
            "kafka.authentication.passwordFile",
        )?;
        config
            .set("sasl.mechanism", mechanism)
            .set("sasl.username", &authentication.username)
            .set("sasl.password", password.expose_secret());
    }
    if kind == KafkaAuthenticationType::Mtls {
        if kafka.tls.is_none() {
            return Err(ClientError::MtlsWithoutTls);
        }
        let certificate = required(
            &authentication.certificate_file,
            "certificateFile",
            "kafka.authentication.certificateFile",
        )?;
        let key = required(
            &authentication.key_file,
            "keyFile",
            "kafka.authentication.keyFile",
        )?;
        config
            .set("ssl.certificate.pem", certificate.expose_secret())
            .set("ssl.key.pem", key.expose_secret());
    }
    let protocol = match (kafka.tls.is_some(), sasl.is_some()) {
        (false, false) => "plaintext",
        (false, true) => "sasl_plaintext",
        (true, false) => "ssl",
        (true, true) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    Ok(config)
}

/// The authorities that browsers trust, compiled in: in the image there is no system whose store could be asked.
fn public_authorities() -> String {
    let mut pem = String::new();
    for der in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = STANDARD.encode(der);
        for line in text.as_bytes().chunks(64) {
            pem.extend(line.iter().map(|byte| char::from(*byte)));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}

#[cfg(test)]
mod tests {
    use rdkafka::producer::BaseProducer;

    use super::*;

    fn kafka(json: serde_json::Value) -> KafkaConfig {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn every_mechanism_becomes_settings_that_librdkafka_takes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("password"), "hunter2\n").unwrap();
        for (kind, mechanism) in [
            ("Plain", "PLAIN"),
            ("ScramSha256", "SCRAM-SHA-256"),
            ("ScramSha512", "SCRAM-SHA-512"),
        ] {
            for tls in [None, Some(serde_json::json!({}))] {
                let protocol = if tls.is_some() {
                    "sasl_ssl"
                } else {
                    "sasl_plaintext"
                };
                let config = kafka(serde_json::json!({
                    "bootstrapServers": ["k:9093"],
                    "tls": tls,
                    "authentication": {"type": kind, "username": "shop", "passwordFile": "password"},
                }));
                let client = client(&config, dir.path(), "test").unwrap();
                assert_eq!(client.get("security.protocol"), Some(protocol));
                assert_eq!(client.get("sasl.mechanism"), Some(mechanism));
                assert_eq!(client.get("sasl.password"), Some("hunter2"));
                client.create::<BaseProducer>().unwrap();
            }
        }
    }

    #[test]
    fn the_public_authorities_are_understood_by_librdkafka() {
        let config = kafka(serde_json::json!({"bootstrapServers": ["k:9093"], "tls": {}}));
        let client = client(&config, Path::new("/"), "test").unwrap();
        assert_eq!(client.get("security.protocol"), Some("ssl"));
        client.create::<BaseProducer>().unwrap();
    }

    #[test]
    fn what_is_missing_is_named_and_no_secret_stands_in_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("password"), "hunter2").unwrap();
        for (authentication, tls, name) in [
            (
                serde_json::json!({"type": "Plain", "passwordFile": "password"}),
                None,
                "username",
            ),
            (
                serde_json::json!({"type": "ScramSha512", "username": "u"}),
                None,
                "passwordFile",
            ),
            (
                serde_json::json!({"type": "Plain", "username": "u", "passwordFile": "absent"}),
                None,
                "kafka.authentication.passwordFile",
            ),
            (serde_json::json!({"type": "Mtls"}), None, "kafka.tls"),
            (
                serde_json::json!({"type": "Mtls"}),
                Some(serde_json::json!({})),
                "certificateFile",
            ),
        ] {
            let config = kafka(serde_json::json!({
                "bootstrapServers": ["k:9093"], "tls": tls, "authentication": authentication,
            }));
            let error = client(&config, dir.path(), "test").unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains("hunter2"), "{error}");
        }
    }
}
