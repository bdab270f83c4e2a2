//! Secrets that the operator makes once and then leaves alone: a new token key would sign everyone out, a new
//! privacy key would make old erasures unreadable.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use recommendation_api::names::Children;

use super::metadata;
use crate::validate::ValidatedPipeline;

/// Key in both Secrets.
const KEY: &str = "secret";

/// Names of the Secrets that the operator makes for this pipeline.
pub fn names(pipeline: &ValidatedPipeline) -> Vec<String> {
    let children = Children(&pipeline.id.name);
    let jwt = pipeline.make_jwt_secret.then(|| children.jwt_secret());
    jwt.into_iter().chain([children.privacy_secret()]).collect()
}

/// A Secret with this key material, as text of 43 characters or more.
pub fn build(pipeline: &ValidatedPipeline, name: String, key: &[u8; 32]) -> Secret {
    let text = URL_SAFE_NO_PAD.encode(key);
    Secret {
        metadata: metadata(&pipeline.id, name),
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from([(KEY.to_owned(), ByteString(text.into_bytes()))])),
        ..Secret::default()
    }
}
