//! What makes one Kafka client differ from another: servers, TLS, who logs in. Secrets as Strimzi writes them are
//! understood, and so are those of cert-manager.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use rdkafka::config::ClientConfig;
use recommendation_api::pipeline::kafka::KafkaAuthenticationType;

/// Key of the password (SASL) in the user's Secret; Strimzi writes it so.
pub const PASSWORD: &str = "password";
/// Key of the user's name. Strimzi writes none: its Secret has the name of the user.
const USERNAME: &str = "username";
/// Key of Strimzi's ready-made JAAS line, which holds the user's name.
const JAAS: &str = "sasl.jaas.config";
/// Keys of a client certificate and its private key: Strimzi's, then those of type `kubernetes.io/tls`.
pub const CERTIFICATES: [(&str, &str); 2] = [("user.crt", "user.key"), ("tls.crt", "tls.key")];
/// Key of a certificate authority.
pub const CA: &str = "ca.crt";

/// How to reach a cluster. Two pipelines with the same connection share one client.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Connection {
    servers: Vec<String>,
    /// `None`: plain text. `Some(None)`: TLS that trusts the public authorities.
    tls: Option<Option<String>>,
    login: Login,
}

/// Who logs in.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Login {
    /// Nobody.
    Anonymous,
    /// SASL.
    Sasl {
        /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`.
        mechanism: &'static str,
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// A client certificate.
    Certificate {
        /// The chain (PEM).
        certificate: String,
        /// The private key (PEM).
        key: String,
    },
}

/// Not the secrets: this ends up in logs.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = match &self.login {
            Login::Anonymous => "anonymous",
            Login::Sasl { mechanism, .. } => mechanism,
            Login::Certificate { .. } => "certificate",
        };
        f.debug_struct("Connection")
            .field("servers", &self.servers)
            .field("tls", &self.tls.is_some())
            .field("login", &login)
            .finish()
    }
}

impl Connection {
    /// Plain text and nobody logged in. `servers`: `host:port` each.
    pub fn plain(servers: &[String]) -> Self {
        Self {
            servers: servers.to_vec(),
            tls: None,
            login: Login::Anonymous,
        }
    }

    /// The same over TLS. `ca`: PEM of the authorities to trust; `None`: the public ones.
    #[must_use]
    pub fn with_tls(self, ca: Option<String>) -> Self {
        Self {
            tls: Some(ca),
            ..self
        }
    }

    /// The same with somebody logged in.
    #[must_use]
    pub fn with_login(self, login: Login) -> Self {
        Self { login, ..self }
    }

    /// The bootstrap servers, comma-separated.
    pub fn servers(&self) -> String {
        self.servers.join(",")
    }

    /// Whether a refusal can have to do with TLS or a login.
    pub(super) fn is_secured(&self) -> bool {
        self.tls.is_some() || self.login != Login::Anonymous
    }

    /// librdkafka's settings.
    pub(super) fn configure(&self, config: &mut ClientConfig) {
        let sasl = matches!(self.login, Login::Sasl { .. });
        let protocol = match (self.tls.is_some(), sasl) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        };
        config
            .set("bootstrap.servers", self.servers())
            .set("security.protocol", protocol);
        if let Some(ca) = &self.tls {
            config.set("ssl.ca.pem", ca.clone().unwrap_or_else(public_authorities));
        }
        match &self.login {
            Login::Anonymous => {}
            Login::Sasl {
                mechanism,
                username,
                password,
            } => {
                config
                    .set("sasl.mechanism", *mechanism)
                    .set("sasl.username", username)
                    .set("sasl.password", password);
            }
            Login::Certificate { certificate, key } => {
                config
                    .set("ssl.certificate.pem", certificate)
                    .set("ssl.key.pem", key);
            }
        }
    }
}

/// The public authorities as PEM, compiled in: the image holds no system's certificates.
fn public_authorities() -> String {
    use base64::Engine as _;
    let mut pem = String::new();
    for der in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        for (i, c) in text.chars().enumerate() {
            if i > 0 && i % 64 == 0 {
                pem.push('\n');
            }
            pem.push(c);
        }
        pem.push_str("\n-----END CERTIFICATE-----\n");
    }
    pem
}

/// SASL's name of a mechanism.
fn mechanism(kind: KafkaAuthenticationType) -> Option<&'static str> {
    match kind {
        KafkaAuthenticationType::Plain => Some("PLAIN"),
        KafkaAuthenticationType::ScramSha256 => Some("SCRAM-SHA-256"),
        KafkaAuthenticationType::ScramSha512 => Some("SCRAM-SHA-512"),
        KafkaAuthenticationType::None | KafkaAuthenticationType::Mtls => None,
    }
}

/// Who logs in with the Secret `name` that holds `data`.
///
/// # Errors
/// The key that is missing or is no text.
pub fn login(
    kind: KafkaAuthenticationType,
    name: &str,
    data: &BTreeMap<String, ByteString>,
) -> Result<Login, String> {
    let text = |key: &str| {
        let bytes = data.get(key).ok_or_else(|| format!("has no key {key}"))?;
        String::from_utf8(bytes.0.clone()).map_err(|_| format!("has no text in key {key}"))
    };
    if let Some(mechanism) = mechanism(kind) {
        return Ok(Login::Sasl {
            mechanism,
            username: username(name, data),
            // An editor's last line break is no part of a password.
            password: text(PASSWORD)?.trim_end_matches(['\r', '\n']).to_owned(),
        });
    }
    if kind == KafkaAuthenticationType::None {
        return Ok(Login::Anonymous);
    }
    let (certificate, key) = certificate_keys(data.keys().map(String::as_str));
    Ok(Login::Certificate {
        certificate: text(certificate)?,
        key: text(key)?,
    })
}

/// The user's name: key `username`, else the one in Strimzi's JAAS line, else the Secret's own name, which is what
/// Strimzi calls it.
pub fn username(name: &str, data: &BTreeMap<String, ByteString>) -> String {
    let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
    text(USERNAME)
        .map(|user| user.trim().to_owned())
        .filter(|user| !user.is_empty())
        .or_else(|| in_jaas(&text(JAAS)?))
        .unwrap_or_else(|| name.to_owned())
}

/// `… required username="shop" password="…";`
fn in_jaas(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("username=\"")?;
    let (user, _) = rest.split_once('"')?;
    (!user.is_empty()).then(|| user.to_owned())
}

/// The pair of keys that holds the client certificate: Strimzi's, unless only the other one is there.
pub fn certificate_keys<'a>(present: impl Iterator<Item = &'a str>) -> (&'static str, &'static str) {
    let present: Vec<&str> = present.collect();
    let [strimzi, other] = CERTIFICATES;
    if present.contains(&other.0) && !present.contains(&strimzi.0) {
        other
    } else {
        strimzi
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(pairs: &[(&str, &str)]) -> BTreeMap<String, ByteString> {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()));
        pairs.iter().map(pair).collect()
    }

    fn settings(connection: &Connection) -> ClientConfig {
        let mut config = ClientConfig::new();
        connection.configure(&mut config);
        config
    }

    #[test]
    fn a_strimzi_users_secret_gives_name_and_password() {
        let jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"shop\" password=\"pw\";";
        let data = secret(&[("password", "pw\n"), ("sasl.jaas.config", jaas)]);
        let found = login(KafkaAuthenticationType::ScramSha512, "other", &data).unwrap();
        let plain = Connection::plain(&["k:1".to_owned()]);
        let config = settings(&plain.clone().with_login(found.clone()));
        assert_eq!(config.get("security.protocol"), Some("sasl_plaintext"));
        assert_eq!(config.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!(
            (config.get("sasl.username"), config.get("sasl.password")),
            (Some("shop"), Some("pw"))
        );
        let text = format!("{:?}", plain.with_login(found));
        assert!(
            !text.contains("\"pw\"") && text.contains("SCRAM-SHA-512"),
            "{text}"
        );
    }

    #[test]
    fn the_users_name_is_its_key_then_jaas_then_the_secrets_own() {
        let jaas = ("sasl.jaas.config", "x required username=\"b\" password=\"c\";");
        assert_eq!(username("s", &secret(&[("username", "a\n"), jaas])), "a");
        assert_eq!(username("s", &secret(&[jaas])), "b");
        assert_eq!(
            username("s", &secret(&[("sasl.jaas.config", "x required;")])),
            "s"
        );
    }

    #[test]
    fn a_client_certificate_is_read_under_strimzis_keys_or_those_of_a_tls_secret() {
        let certificate = |pairs: &[(&str, &str)]| login(KafkaAuthenticationType::Mtls, "s", &secret(pairs));
        let expected = Login::Certificate {
            certificate: "C".to_owned(),
            key: "K".to_owned(),
        };
        // Strimzi's ca.crt there is the authority of clients, not of brokers: it is not used.
        let strimzi = [
            ("ca.crt", "A"),
            ("user.crt", "C"),
            ("user.key", "K"),
            ("user.p12", "P"),
        ];
        assert!(certificate(&strimzi).unwrap() == expected);
        assert!(certificate(&[("tls.crt", "C"), ("tls.key", "K")]).unwrap() == expected);
        let both = [
            ("tls.crt", "X"),
            ("tls.key", "Y"),
            ("user.crt", "C"),
            ("user.key", "K"),
        ];
        assert!(certificate(&both).unwrap() == expected);
        let missing = certificate(&[("user.crt", "C")]).map(|_| ()).unwrap_err();
        assert_eq!(missing, "has no key user.key");
    }

    #[test]
    fn each_kind_of_connection_has_its_protocol_and_the_public_authorities_are_pem() {
        let plain = Connection::plain(&["a:1".to_owned(), "b:2".to_owned()]);
        assert_eq!(settings(&plain).get("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(settings(&plain).get("security.protocol"), Some("plaintext"));
        let tls = settings(&plain.clone().with_tls(Some("CA".to_owned())));
        assert_eq!(
            (tls.get("security.protocol"), tls.get("ssl.ca.pem")),
            (Some("ssl"), Some("CA"))
        );
        let public = plain.with_tls(None);
        let pem = settings(&public).get("ssl.ca.pem").unwrap().to_owned();
        assert!(pem.matches("BEGIN CERTIFICATE").count() > 50);
        assert!(pem.lines().all(|line| line.len() <= 64));
        // librdkafka reads them.
        let mut config = settings(&public);
        config.set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
        let client: Result<rdkafka::producer::BaseProducer, _> = config.create();
        assert!(client.is_ok());
    }
}
