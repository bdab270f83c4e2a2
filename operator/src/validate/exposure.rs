//! The place of the recommender in the cluster: pods, Service, what stands in front of it and who watches it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use recommendation_api::pipeline::exposure::{PodTemplate, ServiceType};
use recommendation_api::pipeline::monitoring::InstallPolicy;
use recommendation_api::pipeline::recommender::Switch;
use recommendation_api::pipeline::{MonitoringSpec, RecommenderSpec, defaults};

use super::{InvalidSpec, Settings};

/// The pods.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Image.
    pub image: String,
    /// Pods; `None` while an autoscaler says how many.
    pub replicas: Option<i32>,
    /// Who says how many pods there are, if not the manifest.
    pub autoscaling: Option<Autoscaling>,
    /// Resources, if set.
    pub resources: Option<ResourceRequirements>,
    /// Pods that may be evicted at once.
    pub max_unavailable: i32,
    /// Common pod fields.
    pub template: PodTemplate,
}

/// Bounds of the autoscaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Autoscaling {
    /// Fewest pods.
    pub min: i32,
    /// Most pods.
    pub max: i32,
    /// Use of the requested CPU in percent that is aimed at.
    pub target_cpu: i32,
}

/// The public Service.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// Type.
    pub kind: ServiceType,
    /// Port.
    pub port: i32,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The public port speaks TLS.
    pub tls: bool,
}

/// The NetworkPolicy.
#[derive(Clone, Debug)]
pub struct NetworkPolicySettings {
    /// Where the operator is.
    pub operator_namespace: String,
    /// Where Prometheus is.
    pub monitoring_namespace: String,
}

/// The ServiceMonitor.
#[derive(Clone, Debug)]
pub struct ServiceMonitorSettings {
    /// Whether it is applied.
    pub policy: InstallPolicy,
    /// Time between two scrapes, `15s`.
    pub interval: String,
    /// Further labels.
    pub labels: BTreeMap<String, String>,
}

/// The PrometheusRule.
#[derive(Clone, Debug)]
pub struct RulesSettings {
    /// Whether it is applied.
    pub policy: InstallPolicy,
    /// Further labels.
    pub labels: BTreeMap<String, String>,
}

/// Grafana's dashboard.
#[derive(Clone, Debug)]
pub struct DashboardSettings {
    /// Labels by which the sidecar finds it.
    pub labels: BTreeMap<String, String>,
    /// Its folder in Grafana.
    pub folder: String,
}

pub(super) fn workload(spec: &RecommenderSpec, settings: &Settings) -> Result<Workload, InvalidSpec> {
    let autoscaling = spec.autoscaling.as_ref().map(|a| Autoscaling {
        // A quiet default must not contradict a low maximum.
        min: a
            .min_replicas
            .unwrap_or_else(|| defaults::MIN_REPLICAS.min(a.max_replicas)),
        max: a.max_replicas,
        target_cpu: a
            .target_cpu_utilization_percentage
            .unwrap_or(defaults::TARGET_CPU),
    });
    let resources = spec.resources.clone();
    let requests_cpu = |r: &ResourceRequirements| {
        let named = |list: &Option<BTreeMap<_, _>>| list.as_ref().is_some_and(|l| l.contains_key("cpu"));
        named(&r.requests) || named(&r.limits)
    };
    if autoscaling.is_some() && resources.as_ref().is_some_and(|r| !requests_cpu(r)) {
        return Err(InvalidSpec::new(
            "spec.recommender.resources.requests.cpu",
            "autoscaling measures the use of the requested CPU: request some, or leave resources out",
        ));
    }
    Ok(Workload {
        image: spec
            .image
            .clone()
            .unwrap_or_else(|| settings.recommender_image.clone()),
        replicas: match autoscaling {
            Some(_) => None,
            None => Some(spec.replicas.unwrap_or(defaults::REPLICAS)),
        },
        autoscaling,
        resources,
        max_unavailable: spec
            .disruption_budget
            .as_ref()
            .and_then(|b| b.max_unavailable)
            .unwrap_or(1),
        template: spec.template.clone().unwrap_or_default(),
    })
}

pub(super) fn service(spec: &RecommenderSpec) -> ServiceSettings {
    let service = spec.service.clone().unwrap_or_default();
    let tls = spec
        .http
        .as_ref()
        .is_some_and(|http| http.tls_secret_ref.is_some());
    ServiceSettings {
        kind: service.kind.unwrap_or_default(),
        port: service.port.unwrap_or(if tls {
            defaults::SERVICE_TLS_PORT
        } else {
            defaults::SERVICE_PORT
        }),
        annotations: service.annotations.unwrap_or_default(),
        tls,
    }
}

pub(super) fn network_policy(spec: &RecommenderSpec, settings: &Settings) -> Option<NetworkPolicySettings> {
    let policy = spec.network_policy.clone().unwrap_or_default();
    (policy.policy.unwrap_or_default() == Switch::Enabled).then(|| NetworkPolicySettings {
        operator_namespace: settings.namespace.clone(),
        monitoring_namespace: policy
            .monitoring_namespace
            .unwrap_or_else(|| defaults::MONITORING_NAMESPACE.to_owned()),
    })
}

pub(super) fn monitor(spec: &MonitoringSpec) -> ServiceMonitorSettings {
    let monitor = spec.service_monitor.clone().unwrap_or_default();
    ServiceMonitorSettings {
        policy: monitor.policy.unwrap_or_default(),
        interval: monitor.interval.map_or_else(
            || format!("{}s", defaults::SCRAPE_INTERVAL_SECONDS),
            |interval| interval.to_string(),
        ),
        labels: monitor.labels.unwrap_or_default(),
    }
}

pub(super) fn rules(spec: &MonitoringSpec) -> RulesSettings {
    let rules = spec.rules.clone().unwrap_or_default();
    RulesSettings {
        policy: rules.policy.unwrap_or_default(),
        labels: rules.labels.unwrap_or_default(),
    }
}

pub(super) fn dashboard(spec: &MonitoringSpec) -> Option<DashboardSettings> {
    let dashboard = spec.dashboard.clone().unwrap_or_default();
    let labels = || BTreeMap::from([("grafana_dashboard".to_owned(), "1".to_owned())]);
    (dashboard.policy.unwrap_or_default() == Switch::Enabled).then(|| DashboardSettings {
        labels: dashboard.labels.unwrap_or_else(labels),
        folder: dashboard
            .folder
            .unwrap_or_else(|| defaults::DASHBOARD_FOLDER.to_owned()),
    })
}
