//! Parts of `spec.recommender` about its place in the cluster: Service, Ingress, route, policy, pod fields.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::recommender::Switch;

/// The public Service.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceSpec {
    /// Default ClusterIP.
    #[serde(rename = "type")]
    pub kind: Option<ServiceType>,
    /// Default 80, with TLS 443.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<i32>,
    /// Annotations of the Service.
    #[schemars(extend("maxProperties" = 64), inner(length(max = 4096)))]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Types of Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Inside the cluster.
    #[default]
    ClusterIP,
    /// On every node.
    NodePort,
    /// By the cloud's load balancer.
    LoadBalancer,
}

/// An Ingress in front of the Service.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressSpec {
    /// Class. Default: the cluster's.
    #[schemars(length(max = 253))]
    pub class_name: Option<String>,
    /// Host name.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Secret with the host's certificate.
    #[schemars(length(max = 253))]
    pub tls_secret_name: Option<String>,
}

/// A Gateway API HTTPRoute in front of the Service.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// Gateways.
    #[schemars(length(min = 1, max = 8))]
    pub parent_refs: Vec<ParentRef>,
    /// Host names.
    #[schemars(length(max = 16), inner(length(max = 253)))]
    pub hostnames: Option<Vec<String>>,
}

/// A Gateway.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Default: the pipeline's namespace.
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// Listener.
    #[schemars(length(max = 253))]
    pub section_name: Option<String>,
}

/// The NetworkPolicy.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicySpec {
    /// Default Enabled.
    pub policy: Option<Switch>,
    /// Namespace that may scrape the internal port. Default monitoring.
    #[schemars(length(min = 1, max = 63))]
    pub monitoring_namespace: Option<String>,
}

/// Common fields of the pod.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels and annotations.
    pub metadata: Option<PodMetadata>,
    /// Node labels that the pod needs.
    #[schemars(extend("maxProperties" = 64), inner(length(max = 63)))]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints that the pod bears.
    #[schemars(length(max = 64))]
    pub tolerations: Option<Vec<Toleration>>,
    /// Affinity.
    pub affinity: Option<Affinity>,
    /// Spread over zones and nodes. Default: over nodes, as far as possible.
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// A ServiceAccount of the user's own. Default: one that the operator makes.
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
}

/// Labels and annotations of the pod.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PodMetadata {
    /// Labels.
    #[schemars(extend("maxProperties" = 64), inner(length(max = 63)))]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations.
    #[schemars(extend("maxProperties" = 64), inner(length(max = 4096)))]
    pub annotations: Option<BTreeMap<String, String>>,
}
