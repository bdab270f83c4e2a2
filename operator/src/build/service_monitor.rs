//! The Prometheus operator's ServiceMonitor, untyped: its CRD may not be installed.

use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use recommendation_api::names::Children;
use serde_json::json;

use super::service::COMPONENT;
use super::{metadata, selector_labels};
use crate::validate::ValidatedPipeline;

/// What the API server must know for a ServiceMonitor to be applied.
pub fn gvk() -> GroupVersionKind {
    GroupVersionKind::gvk("monitoring.coreos.com", "v1", "ServiceMonitor")
}

pub(super) fn build(pipeline: &ValidatedPipeline) -> DynamicObject {
    let id = &pipeline.id;
    let settings = &pipeline.service_monitor;
    let mut labels = selector_labels(&id.name);
    labels.insert(COMPONENT.to_owned(), "internal".to_owned());
    let mut object = DynamicObject::new(&id.name, &ApiResource::from_gvk(&gvk()));
    object.metadata = metadata(id, Children(&id.name).workload());
    object
        .metadata
        .labels
        .get_or_insert_default()
        .extend(settings.labels.clone());
    object.data = json!({"spec": {
        "selector": {"matchLabels": labels},
        "endpoints": [{"port": "internal", "path": "/metrics", "interval": settings.interval}],
    }});
    object
}
