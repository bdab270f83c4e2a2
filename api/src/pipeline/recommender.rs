//! `spec.recommender`: the model and the workload that serves it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::common::{SecretKeyRef, SecretRef};
use super::exposure::{HttpRouteSpec, IngressSpec, NetworkPolicySpec, PodTemplate, ServiceSpec};
use super::serving::{AuthSpec, HttpSpec, PrivacySpec, RateLimitsSpec, TelemetrySpec, WebhooksSpec};
use crate::duration::HumanDuration;
use crate::model::{Algorithm, ModelSource, PurchasedPolicy};

/// The recommender.
#[skip_serializing_none]
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.replicas) && has(self.autoscaling))")
        .message("spec.recommender.replicas and spec.recommender.autoscaling exclude each other")
)]
pub struct RecommenderSpec {
    /// Image. Default: the one released with the operator.
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Pods. Default 2; excludes `autoscaling`.
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<i32>,
    /// Horizontal autoscaling by CPU.
    pub autoscaling: Option<AutoscalingSpec>,
    /// The model.
    pub model: Option<ModelSpec>,
    /// Business rules.
    pub rules: Option<RulesSpec>,
    /// Experiments between algorithms.
    #[schemars(length(max = 8))]
    pub experiments: Option<Vec<ExperimentSpec>>,
    /// Memory bounds.
    pub limits: Option<LimitsSpec>,
    /// Data quality.
    pub quality: Option<QualitySpec>,
    /// Snapshots of the model.
    pub snapshots: Option<SnapshotsSpec>,
    /// Where histories live. Default Memory.
    pub histories: Option<Histories>,
    /// Redis: response cache and shared rate limits.
    pub cache: Option<CacheSpec>,
    /// Sign-in and tokens.
    pub auth: Option<AuthSpec>,
    /// HTTP behaviour.
    pub http: Option<HttpSpec>,
    /// Rate limits.
    pub rate_limits: Option<RateLimitsSpec>,
    /// Webhooks.
    pub webhooks: Option<WebhooksSpec>,
    /// Data protection.
    pub privacy: Option<PrivacySpec>,
    /// Logs and traces.
    pub telemetry: Option<TelemetrySpec>,
    /// The public Service.
    pub service: Option<ServiceSpec>,
    /// An Ingress in front of it.
    pub ingress: Option<IngressSpec>,
    /// A Gateway API HTTPRoute in front of it.
    pub http_route: Option<HttpRouteSpec>,
    /// The NetworkPolicy.
    pub network_policy: Option<NetworkPolicySpec>,
    /// The PodDisruptionBudget.
    pub disruption_budget: Option<DisruptionBudgetSpec>,
    /// Resources of the container (core/v1).
    pub resources: Option<ResourceRequirements>,
    /// Common fields of the pod.
    pub template: Option<PodTemplate>,
}

/// Horizontal autoscaling by CPU.
#[skip_serializing_none]
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.minReplicas) || self.minReplicas <= self.maxReplicas")
        .message("spec.recommender.autoscaling.minReplicas must not be over maxReplicas")
)]
pub struct AutoscalingSpec {
    /// Default 2.
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: Option<i32>,
    /// Upper bound.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// Default 70.
    #[serde(rename = "targetCPUUtilizationPercentage")]
    #[schemars(range(min = 1, max = 100))]
    pub target_cpu_utilization_percentage: Option<i32>,
}

/// The model.
#[skip_serializing_none]
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelSpec {
    /// Which model answers. Default Hybrid.
    pub algorithm: Option<Algorithm>,
    /// What it learns from. Default Events.
    pub source: Option<ModelSource>,
    /// Neighbours per product. Default 100.
    #[schemars(range(min = 1, max = 1000))]
    pub neighbors: Option<u32>,
    /// Weight of an event by its type; what is named here replaces the default of that type.
    #[schemars(extend("maxProperties" = 32), inner(range(min = 0, max = 1000)))]
    pub event_weights: Option<BTreeMap<String, f64>>,
    /// Events kept per customer. Default 50.
    #[schemars(range(min = 1, max = 10_000))]
    pub history_length: Option<u32>,
    /// After this long an event counts half. Default 30d.
    pub half_life: Option<HumanDuration>,
    /// 0 = most alike, 1 = most varied. Default 0.2.
    #[schemars(range(min = 0, max = 1))]
    pub diversity: Option<f64>,
    /// Share of slots given to exploration. Default 0.05.
    #[schemars(range(min = 0, max = 1))]
    pub exploration: Option<f64>,
    /// When fitted models are fitted again.
    pub retrain: Option<RetrainSpec>,
    /// A model that the user brings.
    pub onnx: Option<OnnxSpec>,
    /// Rules between customer and product attributes.
    pub knowledge: Option<KnowledgeSpec>,
}

/// When fitted models are fitted again.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetrainSpec {
    /// Cron schedule. Default `0 3 * * *`.
    #[schemars(length(min = 1, max = 128))]
    pub schedule: Option<String>,
    /// Whether drift starts a fit. Default Enabled.
    pub on_drift: Option<Switch>,
}

/// Enabled or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Switch {
    /// It is done.
    #[default]
    Enabled,
    /// It is not done.
    Disabled,
}

/// A model that the user brings as an ONNX file.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OnnxSpec {
    /// Where the file is (`s3://…`).
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// Credentials of the store.
    pub secret_ref: Option<SecretRef>,
}

/// Rules between customer and product attributes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KnowledgeSpec {
    /// The rules.
    #[schemars(length(max = 64))]
    pub rules: Vec<KnowledgeRule>,
}

/// One rule: the customer's attribute must, should or must never equal (or be among) the product's.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KnowledgeRule {
    /// Attribute of the customer's profile.
    #[schemars(length(min = 1, max = 128))]
    pub customer_attribute: String,
    /// Attribute of the product.
    #[schemars(length(min = 1, max = 128))]
    pub product_attribute: String,
    /// How strong.
    pub effect: RuleEffect,
    /// Weight of a Should rule. Default 1.
    #[schemars(range(min = 0, max = 100))]
    pub weight: Option<f64>,
}

/// How strong a rule is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RuleEffect {
    /// Only matching products.
    Must,
    /// Matching products first.
    #[default]
    Should,
    /// No matching product.
    Never,
}

/// Business rules.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RulesSpec {
    /// Products that the customer has bought. Default Exclude.
    pub purchased: Option<PurchasedPolicy>,
    /// Never recommended.
    #[schemars(length(max = 1000), inner(length(max = 256)))]
    pub exclude_products: Option<Vec<String>>,
    /// Always first.
    #[schemars(length(max = 100), inner(length(max = 256)))]
    pub pin: Option<Vec<String>>,
    /// At most this many of one category; 0 = no cap. Default 0.
    #[schemars(range(min = 0, max = 100))]
    pub max_per_category: Option<u32>,
}

/// An experiment between algorithms.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("self.arms.map(a, a.percent).sum() == 100")
        .message("spec.recommender.experiments[].arms[].percent must sum to 100")
)]
pub struct ExperimentSpec {
    /// Name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Arms; percents sum to 100.
    #[schemars(length(min = 1, max = 8))]
    pub arms: Vec<ExperimentArm>,
}

/// One arm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExperimentArm {
    /// What answers in this arm.
    pub algorithm: Algorithm,
    /// Share of customers, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub percent: i32,
}

/// Memory bounds.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitsSpec {
    /// Default 1,000,000.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub max_products: Option<u64>,
    /// Customers in the memory of a replica; those who were idle longest go first. Default 10,000,000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_customers: Option<u64>,
    /// Candidate neighbours counted per product; of more, the weaker half goes. At least `model.neighbors`, or 0 for
    /// none: a shop that answers with SessionKnn alone needs two thirds of the memory then. Default 4,096.
    #[schemars(range(min = 0, max = 10_000))]
    pub neighbors: Option<u32>,
    /// Sessions per product that SessionKnn looks at. Default 1,000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub postings: Option<u32>,
}

/// Data quality.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QualitySpec {
    /// A customer with more is not human; 0 = no limit. Default 300.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_events_per_minute: Option<u32>,
    /// Population stability index over which the model counts as drifted. Default 0.2.
    #[schemars(range(min = 0, max = 100))]
    pub drift_threshold: Option<f64>,
    /// Lag over which the model counts as stale. Default 30.
    #[schemars(range(min = 1, max = 86_400))]
    pub max_lag_seconds: Option<u32>,
}

/// Snapshots of the model.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotsSpec {
    /// Where (`s3://…`, `gs://…`, `az://…`, `file:///…`).
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// How often. Default 10m.
    pub interval: Option<HumanDuration>,
    /// Credentials of the store.
    pub secret_ref: Option<SecretRef>,
}

/// Where histories live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Histories {
    /// In every replica.
    #[default]
    Memory,
    /// In Redis, for more customers than one pod can hold: a replica has those of the `limits.maxCustomers` who were active
    /// last.
    Redis,
}

/// Redis: response cache and shared rate limits.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CacheSpec {
    /// The server.
    pub redis: RedisSpec,
    /// How long a cached answer may live. Default 30s.
    pub ttl: Option<HumanDuration>,
}

/// A Redis server.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisSpec {
    /// `redis://host:port[/db]`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^rediss?://[^\\s]+$"))]
    pub url: String,
    /// The password (default key `password`).
    pub secret_ref: Option<SecretKeyRef>,
}

/// The PodDisruptionBudget.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DisruptionBudgetSpec {
    /// Default 1.
    #[schemars(range(min = 0, max = 1000))]
    pub max_unavailable: Option<i32>,
}
