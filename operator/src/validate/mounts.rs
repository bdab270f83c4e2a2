//! The Secrets that the recommender's pods mount: a folder each, which the configuration names.

use std::collections::BTreeMap;

use recommendation_api::names::Children;
use recommendation_api::pipeline::{RecommenderSpec, SecretKeyRef, SecretRef};

use super::References;

/// A Secret in the recommender's pods: a folder of its own below the secrets folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMount {
    /// The field that names it.
    pub path: String,
    /// Folder below the secrets folder.
    pub folder: String,
    /// Name of the Secret.
    pub secret: String,
    /// The one key that is mounted, and the file that it becomes; `None`: every key under its own name.
    pub item: Option<(String, String)>,
    /// Keys that must be there beside `item`'s.
    pub required: &'static [&'static str],
    /// The operator makes this Secret itself.
    pub made_by_operator: bool,
}

/// Folder of the publishable key at this place in the list; its name may be no name of a volume.
pub(super) fn publishable(index: usize) -> String {
    format!("publishable-{index}")
}

/// Folders whose files are read at the start only: who connects with them stays connected. Keys of tokens, users,
/// publishable keys and certificates are read again while running.
const AT_START: [&str; 5] = ["kafka-ca", "kafka-user", "onnx", "redis", "snapshots"];

/// What is in the Secrets that are read at the start only.
pub(super) fn restart(mounts: &[SecretMount], found: &References) -> BTreeMap<String, String> {
    let mounts = mounts
        .iter()
        .filter(|mount| AT_START.contains(&mount.folder.as_str()));
    mounts
        .filter_map(|mount| Some((mount.folder.clone(), found.contents.get(&mount.secret)?.clone())))
        .collect()
}

/// The Secrets that the pods mount, and whether the operator makes the token key itself.
pub(super) fn mounts(name: &str, recommender: &RecommenderSpec) -> (Vec<SecretMount>, bool) {
    let children = Children(name);
    let auth = recommender.auth.clone().unwrap_or_default();
    let key = |path: &str, folder: &str, reference: &SecretKeyRef, file: &str| SecretMount {
        path: path.to_owned(),
        folder: folder.to_owned(),
        secret: reference.name.clone(),
        item: Some((
            reference.key.clone().unwrap_or_else(|| file.to_owned()),
            file.to_owned(),
        )),
        required: &[],
        made_by_operator: false,
    };
    let made = |folder: &str, secret: String| SecretMount {
        path: String::new(),
        folder: folder.to_owned(),
        secret,
        item: Some(("secret".to_owned(), "secret".to_owned())),
        required: &[],
        made_by_operator: true,
    };
    let folder = |path: &str, folder: &str, reference: &SecretRef, required| SecretMount {
        path: path.to_owned(),
        folder: folder.to_owned(),
        secret: reference.name.clone(),
        item: None,
        required,
        made_by_operator: false,
    };
    let mut mounts = vec![match &auth.jwt_secret_ref {
        Some(reference) => key("spec.recommender.auth.jwtSecretRef", "jwt", reference, "secret"),
        None => made("jwt", children.jwt_secret()),
    }];
    mounts.push(made("privacy", children.privacy_secret()));
    if let Some(reference) = &auth.previous_jwt_secret_ref {
        mounts.push(key(
            "spec.recommender.auth.previousJwtSecretRef",
            "jwt-previous",
            reference,
            "secret",
        ));
    }
    if let Some(reference) = &auth.users_secret_ref {
        mounts.push(folder(
            "spec.recommender.auth.usersSecretRef",
            "users",
            reference,
            &[],
        ));
    }
    for (index, publishable_key) in auth.publishable_keys.iter().flatten().enumerate() {
        let path = format!("spec.recommender.auth.publishableKeys[{index}].secretRef");
        mounts.push(key(
            &path,
            &publishable(index),
            &publishable_key.secret_ref,
            "key",
        ));
    }
    let http = recommender.http.as_ref();
    if let Some(reference) = http.and_then(|h| h.tls_secret_ref.as_ref()) {
        let keys = &["tls.crt", "tls.key"];
        mounts.push(folder(
            "spec.recommender.http.tlsSecretRef",
            "tls",
            reference,
            keys,
        ));
    }
    let model = recommender.model.as_ref();
    if let Some(reference) = model.and_then(|m| m.onnx.as_ref()?.secret_ref.as_ref()) {
        mounts.push(folder(
            "spec.recommender.model.onnx.secretRef",
            "onnx",
            reference,
            &[],
        ));
    }
    let snapshots = recommender.snapshots.as_ref();
    if let Some(reference) = snapshots.and_then(|s| s.secret_ref.as_ref()) {
        mounts.push(folder(
            "spec.recommender.snapshots.secretRef",
            "snapshots",
            reference,
            &[],
        ));
    }
    if let Some(reference) = recommender
        .webhooks
        .as_ref()
        .and_then(|w| w.hmac_secret_ref.as_ref())
    {
        mounts.push(key(
            "spec.recommender.webhooks.hmacSecretRef",
            "webhook",
            reference,
            "secret",
        ));
    }
    let gmail = recommender.webhooks.as_ref().and_then(|w| w.gmail.as_ref());
    if let Some(reference) = gmail.and_then(|gmail| gmail.credentials_secret_ref.as_ref()) {
        mounts.push(folder(
            "spec.recommender.webhooks.gmail.credentialsSecretRef",
            "gmail",
            reference,
            &["clientId", "clientSecret", "refreshToken"],
        ));
    }
    if let Some(reference) = recommender
        .cache
        .as_ref()
        .and_then(|c| c.redis.secret_ref.as_ref())
    {
        mounts.push(key(
            "spec.recommender.cache.redis.secretRef",
            "redis",
            reference,
            "password",
        ));
    }
    (mounts, auth.jwt_secret_ref.is_none())
}
