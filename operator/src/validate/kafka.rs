//! `spec.kafka` as the recommender's configuration, and the Secrets that its pods mount for it.

use std::collections::BTreeSet;

use recommendation_api::config::{KafkaAuthenticationConfig, KafkaConfig, KafkaTlsConfig};
use recommendation_api::pipeline::RecommendationPipelineSpec;
use recommendation_api::pipeline::kafka::{KafkaAuthenticationType, KafkaSpec};

use super::{InvalidSpec, References, SecretMount};
use crate::kafka::connection::{CA, PASSWORD, certificate_keys};

/// Folder of the authority below the secrets folder.
const CA_FOLDER: &str = "kafka-ca";
/// Folder of the user.
const USER_FOLDER: &str = "kafka-user";
/// The field that names the user's Secret.
pub const USER_PATH: &str = "spec.kafka.authentication.secretRef";

/// The Secrets that the pods mount to reach Kafka.
pub(super) fn mounts(spec: &RecommendationPipelineSpec) -> Vec<SecretMount> {
    let mut mounts = Vec::new();
    let ca = spec.kafka.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref());
    if let Some(reference) = ca {
        mounts.push(SecretMount {
            path: "spec.kafka.tls.caSecretRef".to_owned(),
            folder: CA_FOLDER.to_owned(),
            secret: reference.name.clone(),
            item: Some((
                reference.key.clone().unwrap_or_else(|| CA.to_owned()),
                CA.to_owned(),
            )),
            required: &[],
            made_by_operator: false,
        });
    }
    if let Some((kind, secret)) = user(&spec.kafka) {
        let password = || (PASSWORD.to_owned(), PASSWORD.to_owned());
        mounts.push(SecretMount {
            path: USER_PATH.to_owned(),
            folder: USER_FOLDER.to_owned(),
            secret: secret.to_owned(),
            item: (kind != KafkaAuthenticationType::Mtls).then(password),
            required: &[],
            made_by_operator: false,
        });
    }
    mounts
}

/// The kind of login and the Secret of the user, where somebody logs in.
pub(crate) fn user(spec: &KafkaSpec) -> Option<(KafkaAuthenticationType, &str)> {
    let authentication = spec.authentication.as_ref()?;
    let secret = authentication.secret_ref.as_ref()?;
    (authentication.kind != KafkaAuthenticationType::None)
        .then_some((authentication.kind, secret.name.as_str()))
}

/// The recommender's part.
pub(super) fn config(spec: &KafkaSpec, found: &References) -> Result<KafkaConfig, InvalidSpec> {
    let tls = spec.tls.as_ref().map(|tls| KafkaTlsConfig {
        ca_file: tls.ca_secret_ref.as_ref().map(|_| format!("{CA_FOLDER}/{CA}")),
    });
    let authentication = user(spec).map(|(kind, secret)| {
        let (certificate, key) = certificate_keys(keys(secret, found).iter().map(String::as_str));
        let file = |name: &str| Some(format!("{USER_FOLDER}/{name}"));
        let mtls = kind == KafkaAuthenticationType::Mtls;
        KafkaAuthenticationConfig {
            kind,
            username: if mtls {
                String::new()
            } else {
                found.kafka_username.clone().unwrap_or_else(|| secret.to_owned())
            },
            password_file: if mtls { None } else { file(PASSWORD) },
            certificate_file: if mtls { file(certificate) } else { None },
            key_file: if mtls { file(key) } else { None },
        }
    });
    let mtls = user(spec).is_some_and(|(kind, _)| kind == KafkaAuthenticationType::Mtls);
    if mtls && tls.is_none() {
        return Err(InvalidSpec::new(
            "spec.kafka.authentication.type",
            "Mtls is a part of TLS: set spec.kafka.tls (`tls: {}` trusts the public authorities), or use a SASL type",
        ));
    }
    Ok(KafkaConfig {
        bootstrap_servers: spec.bootstrap_servers.clone(),
        tls,
        authentication,
    })
}

/// Keys of the client certificate that the user's Secret lacks; the Secret itself is asked for with the mounts.
pub(super) fn missing(spec: &KafkaSpec, found: &References) -> Vec<String> {
    let Some((KafkaAuthenticationType::Mtls, secret)) = user(spec) else {
        return Vec::new();
    };
    let Some(Some(present)) = found.secrets.get(secret) else {
        return Vec::new();
    };
    let (certificate, key) = certificate_keys(present.iter().map(String::as_str));
    [certificate, key]
        .into_iter()
        .filter(|key| !present.contains(*key))
        .map(|key| format!("{USER_PATH}: Secret {secret} has no key {key}"))
        .collect()
}

fn keys(secret: &str, found: &References) -> BTreeSet<String> {
    found.secrets.get(secret).cloned().flatten().unwrap_or_default()
}
