//! Grafana's dashboard as a ConfigMap that its sidecar picks up. The dashboard is one file for people and for this; only
//! its title, its id and the pipeline that it opens with are the pipeline's own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use recommendation_api::names::Children;
use serde_json::{Value, json};

use super::{metadata, short_hash};
use crate::validate::ValidatedPipeline;

/// The dashboard as it can be imported by hand.
const DASHBOARD: &str = include_str!("../../../manifests/grafana/recommender.json");
/// Where the sidecar puts the dashboard.
const FOLDER: &str = "grafana_folder";

pub(super) fn build(pipeline: &ValidatedPipeline) -> Option<ConfigMap> {
    let id = &pipeline.id;
    let settings = pipeline.dashboard.as_ref()?;
    let mut metadata = metadata(id, Children(&id.name).dashboard());
    metadata
        .labels
        .get_or_insert_default()
        .extend(settings.labels.clone());
    metadata.annotations = Some(BTreeMap::from([(FOLDER.to_owned(), settings.folder.clone())]));
    let file = format!("{}-{}.json", id.namespace, id.name);
    Some(ConfigMap {
        metadata,
        data: Some(BTreeMap::from([(file, render(&id.namespace, &id.name))])),
        ..ConfigMap::default()
    })
}

/// The dashboard of one pipeline, as text.
fn render(namespace: &str, name: &str) -> String {
    let mut dashboard: Value =
        serde_json::from_str(DASHBOARD).expect("the compiled-in dashboard is JSON, as a test says");
    dashboard["title"] = json!(format!("Recommendations: {namespace}/{name}"));
    dashboard["uid"] = json!(format!(
        "recpipe-{}",
        short_hash(format!("{namespace}/{name}").as_bytes())
    ));
    for variable in dashboard["templating"]["list"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        let value = match variable["name"].as_str() {
            Some("namespace") => namespace,
            Some("pipeline") => name,
            _ => continue,
        };
        variable["current"] = json!({"text": value, "value": value});
    }
    dashboard.to_string()
}
