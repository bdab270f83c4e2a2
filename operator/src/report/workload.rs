//! The Deployment's part of status.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use recommendation_api::conditions::reasons;
use recommendation_api::pipeline::status::WorkloadStatus;

use super::Finding;
use crate::build::selector_text;

pub(super) fn available(deployment: &Result<Deployment, String>) -> Finding {
    let deployment = match deployment {
        Ok(deployment) => deployment,
        Err(message) => return Finding::no(reasons::APPLY_FAILED, message.clone()),
    };
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let condition = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
    let message = |c: &DeploymentCondition| c.message.clone().unwrap_or_default();
    if let Some(failure) = condition("ReplicaFailure").filter(|c| c.status == "True") {
        let text = message(failure);
        return if text.contains("exceeded quota") {
            Finding::no(
                reasons::QUOTA_EXCEEDED,
                "a ResourceQuota of the namespace forbids more pods",
            )
        } else {
            Finding::no(reasons::MINIMUM_REPLICAS_UNAVAILABLE, text)
        };
    }
    if condition("Progressing").is_some_and(|c| c.reason.as_deref() == Some("ProgressDeadlineExceeded")) {
        return Finding::no(
            reasons::MINIMUM_REPLICAS_UNAVAILABLE,
            "the rollout does not get on: look at the pods' events and logs",
        );
    }
    let seen = status.observed_generation >= deployment.metadata.generation;
    let updated = status.updated_replicas.unwrap_or_default();
    let all = status.replicas.unwrap_or_default();
    if !seen || updated < wanted || all > updated {
        return Finding::no(
            reasons::ROLLOUT_IN_PROGRESS,
            "pods of the newest revision are being started",
        );
    }
    let available = status.available_replicas.unwrap_or_default();
    if available >= wanted {
        return Finding::yes(reasons::AVAILABLE, "every replica is available");
    }
    // With maxUnavailable 0 the Available condition turns False as soon as one replica of an old rollout is lost.
    if condition("Available").is_some_and(|c| c.status == "True") || available == 0 {
        return Finding::no(reasons::ROLLOUT_IN_PROGRESS, "replicas are not ready yet");
    }
    Finding::no(reasons::ROLLOUT_IN_PROGRESS, "some replicas are not ready")
}

pub(super) fn status(name: &str, deployment: &Deployment) -> WorkloadStatus {
    let status = deployment.status.clone().unwrap_or_default();
    WorkloadStatus {
        replicas: status.replicas.unwrap_or_default(),
        ready_replicas: status.ready_replicas.unwrap_or_default(),
        updated_replicas: status.updated_replicas.unwrap_or_default(),
        selector: selector_text(name),
    }
}
