//! The PodDisruptionBudget: drains take one pod at a time.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use recommendation_api::names::Children;

use super::{metadata, selector};
use crate::validate::ValidatedPipeline;

pub(super) fn build(pipeline: &ValidatedPipeline) -> PodDisruptionBudget {
    let id = &pipeline.id;
    PodDisruptionBudget {
        metadata: metadata(id, Children(&id.name).workload()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(pipeline.workload.max_unavailable)),
            selector: Some(selector(&id.name)),
            // A pod that is still reading the log protects nothing: it may always go.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
