//! Third step, pure: the child objects as they should be, one file per kind, and the plans for what lies outside
//! Kubernetes.

mod autoscaler;
pub mod configmap;
mod dashboard;
mod deployment;
pub mod http_route;
mod ingress;
mod network_policy;
mod pdb;
pub mod rules;
pub mod secrets;
mod service;
pub mod service_monitor;
mod serviceaccount;
pub mod statement_plan;
pub mod topic_plan;
pub mod trainer;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::core::DynamicObject;
use recommendation_api::names::{APPLIED_HASH, FIELD_MANAGER};
use recommendation_api::pipeline::monitoring::InstallPolicy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::validate::{Identity, ValidatedPipeline};

/// Label that every child carries; the operator's caches hold only objects with it.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", FIELD_MANAGER);
/// User and group of the recommender's image.
const RUN_AS: i64 = 65_532;

/// The child objects that are applied on every change. Secrets are made once, see [`secrets`].
#[derive(Clone, Debug)]
pub struct ChildObjects {
    /// Absent when the user names one of their own.
    pub service_account: Option<ServiceAccount>,
    /// The recommender's configuration.
    pub config: ConfigMap,
    /// The public Service, then the headless one of the internal port.
    pub services: [Service; 2],
    /// The disruption budget.
    pub pdb: PodDisruptionBudget,
    /// The pods.
    pub deployment: Deployment,
    /// Absent without `autoscaling`.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    /// Absent where no model is fitted.
    pub trainer: Option<CronJob>,
    /// Absent when disabled.
    pub network_policy: Option<NetworkPolicy>,
    /// Absent without `ingress`.
    pub ingress: Option<Ingress>,
    /// Absent without `httpRoute`; applied only where its CRD exists.
    pub http_route: Option<DynamicObject>,
    /// Absent when disabled; applied only where its CRD exists.
    pub service_monitor: Option<DynamicObject>,
    /// Absent when disabled; applied only where its CRD exists.
    pub rules: Option<DynamicObject>,
    /// Absent when disabled.
    pub dashboard: Option<ConfigMap>,
}

impl ChildObjects {
    /// All of them as they are written, for those who only show them.
    pub fn objects(&self) -> Vec<serde_json::Value> {
        fn value(object: &impl Serialize) -> Option<serde_json::Value> {
            serde_json::to_value(object).ok()
        }
        let mut all = vec![value(&self.config), value(&self.pdb), value(&self.deployment)];
        all.extend(self.services.iter().map(value));
        all.push(self.service_account.as_ref().and_then(value));
        all.push(self.autoscaler.as_ref().and_then(value));
        all.push(self.network_policy.as_ref().and_then(value));
        all.push(self.ingress.as_ref().and_then(value));
        all.push(self.dashboard.as_ref().and_then(value));
        for object in [&self.http_route, &self.service_monitor, &self.rules] {
            all.push(object.as_ref().and_then(value));
        }
        all.into_iter().flatten().collect()
    }
}

/// Renders every child object.
pub fn children(pipeline: &ValidatedPipeline) -> ChildObjects {
    let monitored = pipeline.service_monitor.policy != InstallPolicy::Disabled;
    let alerted = pipeline.rules.policy != InstallPolicy::Disabled;
    ChildObjects {
        service_account: serviceaccount::build(pipeline).map(stamped),
        config: stamped(configmap::build(pipeline)),
        services: service::build(pipeline).map(stamped),
        pdb: stamped(pdb::build(pipeline)),
        deployment: stamped(deployment::build(pipeline)),
        autoscaler: autoscaler::build(pipeline).map(stamped),
        trainer: trainer::build(pipeline).map(stamped),
        network_policy: network_policy::build(pipeline).map(stamped),
        ingress: ingress::build(pipeline).map(stamped),
        http_route: http_route::build(pipeline).map(stamped),
        rules: alerted.then(|| stamped(rules::build(pipeline))),
        dashboard: dashboard::build(pipeline).map(stamped),
        service_monitor: monitored.then(|| stamped(service_monitor::build(pipeline))),
    }
}

/// Labels of every child.
pub fn labels(id: &Identity) -> BTreeMap<String, String> {
    let mut labels = selector_labels(&id.name);
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    labels.insert(
        "app.kubernetes.io/part-of".to_owned(),
        "recommendation".to_owned(),
    );
    labels
}

/// Labels that select a pipeline's pods; they never change, because a Deployment's selector cannot.
pub fn selector_labels(name: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "recommender"),
        ("app.kubernetes.io/instance", name),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// The same as the text that the scale subresource wants.
pub fn selector_text(name: &str) -> String {
    let pairs: Vec<String> = selector_labels(name)
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

fn selector(name: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(selector_labels(name)),
        ..LabelSelector::default()
    }
}

/// Metadata of a child.
pub fn metadata(id: &Identity, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(id.namespace.clone()),
        labels: Some(labels(id)),
        owner_references: Some(vec![id.owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// The first 16 hex digits of a SHA-256.
pub fn short_hash(bytes: &[u8]) -> String {
    let mut hex = hex::encode(Sha256::digest(bytes));
    hex.truncate(16);
    hex
}

/// Adds the hash of the whole object to its annotations. What is there is compared with what is wanted field by
/// field, which cannot see a field that is no longer wanted: the hash can.
fn stamped<K: Serialize + DeserializeOwned + kube::Resource>(mut object: K) -> K {
    let text = serde_json::to_vec(&object).unwrap_or_default();
    let annotations = object.meta_mut().annotations.get_or_insert_default();
    annotations.insert(APPLIED_HASH.to_owned(), short_hash(&text));
    object
}

#[cfg(test)]
mod tests;
