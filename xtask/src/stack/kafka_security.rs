//! Kafka behind TLS and logins: three more listeners of the same broker, for clients that must prove that they can
//! speak them. Certificates and users are thrown away with the run.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::certs;
use super::kafka_nodes::Node;
use super::run::Run;
use crate::paths::{remove_all, write};

/// A user of SCRAM-SHA-256 and SCRAM-SHA-512, and the password.
pub const SCRAM_USER: (&str, &str) = ("operator", "op-secret");
/// A user of PLAIN, and the password.
pub const PLAIN_USER: (&str, &str) = ("plainuser", "plain-secret");

/// The listeners, in the order of their ports: a login over TLS, TLS alone, TLS with a client certificate.
const LISTENERS: [(&str, &str); 3] = [("SASL", "SASL_SSL"), ("TLS", "SSL"), ("MTLS", "SSL")];

/// How clients reach the listeners.
#[derive(Clone, Debug)]
pub struct Secured {
    /// `host:port` of the login over TLS.
    pub sasl: String,
    /// `host:port` of TLS alone.
    pub tls: String,
    /// `host:port` of TLS with a client certificate.
    pub mtls: String,
    /// The folder with `ca.crt`, `client.crt`, `client.key` and `stranger.crt`, an authority that signed nothing.
    pub certificates: PathBuf,
}

/// The listeners of a run that has them.
#[must_use]
pub fn of(run: &Run) -> Option<Secured> {
    let first = run.settings().ports.kafka_secured;
    let address = |i: u16| format!("127.0.0.1:{}", first + i);
    run.settings().kafka_secured.then(|| Secured {
        sasl: address(0),
        tls: address(1),
        mtls: address(2),
        certificates: folder(run),
    })
}

/// Every port that the listeners of the first node take.
pub(super) fn ports(run: &Run) -> Vec<u16> {
    let first = run.settings().ports.kafka_secured;
    if run.settings().kafka_secured {
        (first..first + 3).collect()
    } else {
        Vec::new()
    }
}

/// The listeners as in `listeners=`, each with a leading comma.
pub(super) fn listeners(node: Node<'_>) -> String {
    ports(node.run())
        .iter()
        .zip(LISTENERS)
        .map(|(port, (name, _))| format!(",{name}://127.0.0.1:{}", node.port(*port)))
        .collect()
}

/// The protocols of the listeners, each with a leading comma.
pub(super) fn protocols(run: &Run) -> String {
    let pairs = LISTENERS.iter().filter(|_| run.settings().kafka_secured);
    pairs
        .map(|(name, protocol)| format!(",{name}:{protocol}"))
        .collect()
}

/// Further lines of the broker's configuration.
pub(super) fn properties(run: &Run) -> Vec<(&'static str, String)> {
    if !run.settings().kafka_secured {
        return Vec::new();
    }
    let file = |name: &str| folder(run).join(name).to_string_lossy().into_owned();
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let (user, password) = PLAIN_USER;
    let plain = format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}=\"{password}\";"
    );
    vec![
        ("ssl.keystore.type", "PEM".to_owned()),
        ("ssl.keystore.location", file("broker.pem")),
        ("ssl.truststore.type", "PEM".to_owned()),
        ("ssl.truststore.location", file("ca.crt")),
        ("listener.name.mtls.ssl.client.auth", "required".to_owned()),
        (
            "sasl.enabled.mechanisms",
            "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN".to_owned(),
        ),
        (
            "listener.name.sasl.scram-sha-512.sasl.jaas.config",
            scram.to_owned(),
        ),
        (
            "listener.name.sasl.scram-sha-256.sasl.jaas.config",
            scram.to_owned(),
        ),
        ("listener.name.sasl.plain.sasl.jaas.config", plain),
    ]
}

/// Arguments of the storage tool that make the SCRAM users; they can be made there only.
pub(super) fn users(run: &Run) -> Vec<String> {
    let (name, password) = SCRAM_USER;
    let mechanisms = ["SCRAM-SHA-256", "SCRAM-SHA-512"];
    mechanisms
        .iter()
        .filter(|_| run.settings().kafka_secured)
        .flat_map(|mechanism| {
            [
                "--add-scram".to_owned(),
                format!("{mechanism}=[name={name},password={password}]"),
            ]
        })
        .collect()
}

/// Makes the certificates if the run has none yet.
///
/// # Errors
/// When `openssl` fails or the run's folder cannot be written.
pub(super) fn ensure(run: &Run) -> Result<()> {
    let dir = folder(run);
    if !run.settings().kafka_secured || dir.exists() {
        return Ok(());
    }
    let partial = dir.with_extension("partial");
    remove_all(&partial)?;
    fs::create_dir_all(&partial).context("making the folder of Kafka's certificates")?;
    certs::authority(&partial, "ca", "/CN=kafka-ca")?;
    certs::authority(&partial, "stranger", "/CN=stranger")?;
    let leaf = |name, subject: &str, usage, alternative_names: &str| certs::Leaf {
        name,
        subject: subject.to_owned(),
        usage,
        alternative_names: alternative_names.to_owned(),
        authority: "ca",
    };
    let names = "DNS:localhost,IP:127.0.0.1";
    certs::sign(&partial, leaf("broker", "/CN=kafka", "serverAuth", names))?;
    certs::sign(&partial, leaf("client", "/CN=shop", "clientAuth", ""))?;
    let mut keystore = String::new();
    for part in ["broker.key", "broker.crt", "ca.crt"] {
        keystore += &fs::read_to_string(partial.join(part)).with_context(|| format!("reading {part}"))?;
    }
    write(&partial.join("broker.pem"), &keystore)?;
    fs::rename(&partial, &dir).context("moving Kafka's certificates into place")
}

fn folder(run: &Run) -> PathBuf {
    run.dir().join("kafka/tls")
}
