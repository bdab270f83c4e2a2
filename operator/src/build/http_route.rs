//! The Gateway API's HTTPRoute in front of the public Service, untyped: its CRD may not be installed.

use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use recommendation_api::names::Children;
use serde_json::{Value, json};

use super::metadata;
use crate::validate::ValidatedPipeline;

/// What the API server must know for an HTTPRoute to be applied.
pub fn gvk() -> GroupVersionKind {
    GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute")
}

pub(super) fn build(pipeline: &ValidatedPipeline) -> Option<DynamicObject> {
    let id = &pipeline.id;
    let settings = pipeline.http_route.as_ref()?;
    let parents: Vec<Value> = settings
        .parent_refs
        .iter()
        .map(|parent| {
            let mut reference =
                json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": parent.name});
            if let Some(namespace) = &parent.namespace {
                reference["namespace"] = json!(namespace);
            }
            if let Some(section) = &parent.section_name {
                reference["sectionName"] = json!(section);
            }
            reference
        })
        .collect();
    let backend = json!({
        "group": "", "kind": "Service", "name": Children(&id.name).workload(), "port": pipeline.service.port, "weight": 1,
    });
    let mut spec = json!({
        "parentRefs": parents,
        "rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [backend],
        }],
    });
    if let Some(hostnames) = settings.hostnames.as_ref().filter(|names| !names.is_empty()) {
        spec["hostnames"] = json!(hostnames);
    }
    let mut object = DynamicObject::new(&id.name, &ApiResource::from_gvk(&gvk()));
    object.metadata = metadata(id, Children(&id.name).workload());
    object.data = json!({"spec": spec});
    Some(object)
}
