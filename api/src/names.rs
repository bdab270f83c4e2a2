//! Names that more than one program must agree on: labels, annotations, ports, paths, children.

/// API group of our kinds.
pub const GROUP: &str = "recommendation.dev";
/// Field manager of the operator's server-side apply.
pub const FIELD_MANAGER: &str = "recommendation-operator";
/// Finalizer, present only while something outside Kubernetes would be deleted.
pub const FINALIZER: &str = "recommendation.dev/cleanup";
/// Annotation that releases a blocked deletion.
pub const SKIP_CLEANUP: &str = "recommendation.dev/skip-cleanup";
/// Pod-template annotation: hash of the configuration that is not taken up while running.
pub const CONFIG_HASH: &str = "recommendation.dev/config-hash";
/// Pod-template annotation: hash of the Secrets that are read at the start only.
pub const SECRETS_HASH: &str = "recommendation.dev/secrets-hash";
/// Annotation on a pod or Service: hash of everything applied.
pub const APPLIED_HASH: &str = "recommendation.dev/applied-hash";

/// Public port of the recommender (HTTP API).
pub const PUBLIC_PORT: u16 = 8080;
/// Internal port of the recommender (health, status, metrics, console).
pub const INTERNAL_PORT: u16 = 9090;

/// Where the ConfigMap is mounted in the recommender's pod.
pub const CONFIG_DIR: &str = "/etc/recommender/config";
/// The ConfigMap's key.
pub const CONFIG_FILE: &str = "config.json";
/// Where Secrets are mounted: one folder each, see [`crate::config`].
pub const SECRETS_DIR: &str = "/etc/recommender/secrets";

/// Longest name of a pipeline: child names add a suffix within 63 characters.
pub const MAX_NAME: usize = 52;

/// Names of a pipeline's children.
#[derive(Clone, Copy, Debug)]
pub struct Children<'a>(pub &'a str);

impl Children<'_> {
    /// Deployment, public Service, ServiceAccount, PDB, HPA, NetworkPolicy, ServiceMonitor, PrometheusRule.
    pub fn workload(&self) -> String {
        self.0.to_owned()
    }
    /// Headless Service of the internal port.
    pub fn internal_service(&self) -> String {
        format!("{}-internal", self.0)
    }
    /// The recommender's configuration.
    pub fn config(&self) -> String {
        format!("{}-config", self.0)
    }
    /// The HS256 key that the operator makes when none is given.
    pub fn jwt_secret(&self) -> String {
        format!("{}-jwt", self.0)
    }
    /// The HMAC key of erasures and pseudonyms.
    pub fn privacy_secret(&self) -> String {
        format!("{}-privacy", self.0)
    }
    /// What was applied outside the cluster.
    pub fn applied(&self) -> String {
        format!("{}-applied", self.0)
    }
    /// The Job that fits models because of a drift that began on this day, written `YYMMDD`.
    pub fn fit(&self, day: &str) -> String {
        format!("{}-fit-{day}", self.0)
    }
    /// Grafana's dashboard.
    pub fn dashboard(&self) -> String {
        format!("{}-dashboard", self.0)
    }
}
