//! Defaults that the controller fills in; the schema has none (see the module above).

/// Pods without `replicas` and `autoscaling`.
pub const REPLICAS: i32 = 2;
/// Partitions of Events, Purchases and Impressions.
pub const PARTITIONS: i32 = 12;
/// Partitions of every other topic.
pub const CONTROL_PARTITIONS: i32 = 3;
/// Days that personal data may stay on topics that the operator makes.
pub const RETENTION_DAYS: u64 = 90;
/// Port of the public Service.
pub const SERVICE_PORT: i32 = 80;
/// Port of the public Service with TLS.
pub const SERVICE_TLS_PORT: i32 = 443;
/// `minReplicas` of an autoscaled pipeline.
pub const MIN_REPLICAS: i32 = 2;
/// Target CPU utilisation in percent of an autoscaled pipeline.
pub const TARGET_CPU: i32 = 70;
/// Seconds between two scrapes.
pub const SCRAPE_INTERVAL_SECONDS: u64 = 15;
/// Namespace whose pods may scrape the internal port.
pub const MONITORING_NAMESPACE: &str = "monitoring";
/// Grafana's folder of the dashboards.
pub const DASHBOARD_FOLDER: &str = "Recommendations";
