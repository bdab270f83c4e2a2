//! The recommender's configuration, and the record of what was applied outside Kubernetes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use recommendation_api::names::{CONFIG_FILE, Children};

use super::{metadata, stamped};
use crate::apply::record::AppliedRecord;
use crate::validate::{Identity, ValidatedPipeline};

/// Key of the record's ConfigMap.
pub const APPLIED_KEY: &str = "applied.json";

pub(super) fn build(pipeline: &ValidatedPipeline) -> ConfigMap {
    let id = &pipeline.id;
    // Map keys are ordered and floats finite: the same configuration is always the same text.
    let text = serde_json::to_string_pretty(&pipeline.config).unwrap_or_default();
    ConfigMap {
        metadata: metadata(id, Children(&id.name).config()),
        data: Some(BTreeMap::from([(CONFIG_FILE.to_owned(), text)])),
        ..ConfigMap::default()
    }
}

/// The record, which survives a lost status.
pub fn applied(id: &Identity, record: &AppliedRecord) -> ConfigMap {
    let text = serde_json::to_string_pretty(record).unwrap_or_default();
    stamped(ConfigMap {
        metadata: metadata(id, Children(&id.name).applied()),
        data: Some(BTreeMap::from([(APPLIED_KEY.to_owned(), text)])),
        ..ConfigMap::default()
    })
}
