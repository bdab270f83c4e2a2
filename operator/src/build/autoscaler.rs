//! The HorizontalPodAutoscaler, by CPU. Lag is no measure to scale by: every replica reads everything, so that more
//! of them answer more requests and none is less behind.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerBehavior,
    HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget, ResourceMetricSource,
};
use recommendation_api::names::Children;

use super::metadata;
use crate::validate::ValidatedPipeline;

/// Seconds over which the highest recommendation counts before pods are taken away: a replica that is started again
/// has the log to read first.
const SCALE_DOWN_WINDOW: i32 = 600;

pub(super) fn build(pipeline: &ValidatedPipeline) -> Option<HorizontalPodAutoscaler> {
    let id = &pipeline.id;
    let settings = pipeline.workload.autoscaling.as_ref()?;
    let cpu = MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: "cpu".to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(settings.target_cpu),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    };
    Some(HorizontalPodAutoscaler {
        metadata: metadata(id, Children(&id.name).workload()),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name: Children(&id.name).workload(),
            },
            min_replicas: Some(settings.min),
            max_replicas: settings.max,
            metrics: Some(vec![cpu]),
            behavior: Some(HorizontalPodAutoscalerBehavior {
                scale_down: Some(HPAScalingRules {
                    stabilization_window_seconds: Some(SCALE_DOWN_WINDOW),
                    ..HPAScalingRules::default()
                }),
                scale_up: None,
            }),
        }),
        status: None,
    })
}
