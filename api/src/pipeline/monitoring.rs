//! `spec.monitoring`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::recommender::Switch;
use crate::duration::HumanDuration;

/// Prometheus and Grafana.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MonitoringSpec {
    /// The ServiceMonitor.
    pub service_monitor: Option<ServiceMonitorSpec>,
    /// The PrometheusRule.
    pub rules: Option<PrometheusRuleSpec>,
    /// Grafana's dashboard.
    pub dashboard: Option<DashboardSpec>,
}

/// What to do about objects whose CRD may be absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InstallPolicy {
    /// Applied where the CRD exists.
    #[default]
    IfAvailable,
    /// Not ready without the CRD.
    Required,
    /// Not applied.
    Disabled,
}

/// The ServiceMonitor.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceMonitorSpec {
    /// Default IfAvailable.
    pub policy: Option<InstallPolicy>,
    /// Default 15s.
    pub interval: Option<HumanDuration>,
    /// Labels by which Prometheus selects it.
    #[schemars(extend("maxProperties" = 64), inner(length(max = 63)))]
    pub labels: Option<BTreeMap<String, String>>,
}

/// The PrometheusRule.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PrometheusRuleSpec {
    /// Default IfAvailable.
    pub policy: Option<InstallPolicy>,
    /// Labels by which Prometheus selects it.
    #[schemars(extend("maxProperties" = 64), inner(length(max = 63)))]
    pub labels: Option<BTreeMap<String, String>>,
}

/// Grafana's dashboard, as a ConfigMap for its sidecar.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DashboardSpec {
    /// Default Enabled.
    pub policy: Option<Switch>,
    /// Labels by which the sidecar selects it. Default `grafana_dashboard: "1"`.
    #[schemars(extend("maxProperties" = 64), inner(length(max = 63)))]
    pub labels: Option<BTreeMap<String, String>>,
    /// Folder (annotation `grafana_folder`). Default Recommendations.
    #[schemars(length(max = 128))]
    pub folder: Option<String>,
}
