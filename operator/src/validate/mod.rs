//! Second step, pure: from what was written and what it refers to, to a [`ValidatedPipeline`] that carries
//! everything the later steps need. They never see the raw spec.

mod exposure;
pub(crate) mod kafka;
mod model;
mod mounts;
mod recommender;
mod serving;
mod statements;
pub mod topics;
mod unsupported;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::{Resource, ResourceExt};
use recommendation_api::RecommenderConfig;
use recommendation_api::pipeline::exposure::{HttpRouteSpec, IngressSpec};
use recommendation_api::pipeline::{DeletionPolicy, RecommendationPipeline};

use crate::apply::record::KsqldbServer;

pub use exposure::{
    Autoscaling, DashboardSettings, NetworkPolicySettings, RulesSettings, ServiceMonitorSettings,
    ServiceSettings, Workload,
};
pub use mounts::SecretMount;
pub use statements::{DesiredKsqldb, DesiredStatement};
pub use topics::DesiredTopic;

/// What the spec refers to, as it was found.
#[derive(Clone, Debug, Default)]
pub struct References {
    /// Secrets by name: their keys, or `None` when there is no such Secret.
    pub secrets: BTreeMap<String, Option<BTreeSet<String>>>,
    /// Hashes of what is in the Secrets that are there.
    pub contents: BTreeMap<String, String>,
    /// The SASL user of `spec.kafka.authentication`, where its Secret tells one.
    pub kafka_username: Option<String>,
    /// Kafka topics of the streams and tables that this pipeline's statements made, by their names.
    pub sinks: BTreeMap<String, String>,
    /// ConfigMaps by name: their data, or `None` when there is no such ConfigMap.
    pub config_maps: BTreeMap<String, Option<BTreeMap<String, String>>>,
}

/// What the operator was started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Image of a recommender whose spec names none.
    pub recommender_image: String,
    /// Namespace that the operator runs in.
    pub namespace: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            recommender_image: concat!("recommender:", env!("CARGO_PKG_VERSION")).to_owned(),
            namespace: "recommendation-system".to_owned(),
        }
    }
}

/// Who the pipeline is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Generation that was read.
    pub generation: i64,
    /// When it was created.
    pub created: Option<Time>,
    /// Owner reference for its children.
    pub owner: OwnerReference,
}

/// A pipeline whose every field has been looked at.
#[derive(Clone, Debug)]
pub struct ValidatedPipeline {
    /// Who it is.
    pub id: Identity,
    /// Brokers, `host:port` each.
    pub bootstrap_servers: Vec<String>,
    /// The only cluster to act on, if one is named.
    pub cluster_id: Option<String>,
    /// Topics, those that the pipeline needs first.
    pub topics: Vec<DesiredTopic>,
    /// Upper bound for personal data on topics, in milliseconds.
    pub retention_ms: i64,
    /// ksqlDB, if used.
    pub ksqldb: Option<DesiredKsqldb>,
    /// Where that is.
    pub ksqldb_server: Option<KsqldbServer>,
    /// What the operator made outside Kubernetes goes with what needed it.
    pub delete_by_default: bool,
    /// The recommender's configuration.
    pub config: RecommenderConfig,
    /// Secrets that its pods mount.
    pub mounts: Vec<SecretMount>,
    /// What is in those of them that a running recommender does not read again, by folder, as hashes.
    pub restart_secrets: BTreeMap<String, String>,
    /// The operator makes Secret `<name>-jwt`.
    pub make_jwt_secret: bool,
    /// A job fits models on schedule.
    pub trains: bool,
    /// The pods.
    pub workload: Workload,
    /// The public Service.
    pub service: ServiceSettings,
    /// The Ingress, if one is wanted.
    pub ingress: Option<IngressSpec>,
    /// The HTTPRoute, if one is wanted.
    pub http_route: Option<HttpRouteSpec>,
    /// The NetworkPolicy, unless disabled.
    pub network_policy: Option<NetworkPolicySettings>,
    /// The ServiceMonitor.
    pub service_monitor: ServiceMonitorSettings,
    /// The PrometheusRule.
    pub rules: RulesSettings,
    /// The dashboard, unless disabled.
    pub dashboard: Option<DashboardSettings>,
    /// Secrets or keys that are missing, as sentences.
    pub missing_secrets: Vec<String>,
    /// Paths of fields that this version does not act on.
    pub unsupported: Vec<String>,
}

/// A spec that cannot be acted on: contradictory, or out of range in a way that the API server cannot see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct InvalidSpec {
    /// The field, `spec.topics[1].role`.
    pub path: String,
    /// What is wrong and what to do.
    pub problem: String,
}

impl InvalidSpec {
    pub(crate) fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
        }
    }
}

/// Checks a pipeline and fills in the defaults.
///
/// # Errors
/// [`InvalidSpec`], naming the first field at fault.
pub fn validate(
    pipeline: &RecommendationPipeline,
    found: &References,
    settings: &Settings,
) -> Result<ValidatedPipeline, InvalidSpec> {
    let id = identity(pipeline)?;
    let spec = &pipeline.spec;
    let recommender = spec.recommender.clone().unwrap_or_default();
    let retention_ms = topics::retention_ms(spec)?;
    let topics = topics::desired(spec)?;
    let ksqldb = statements::desired(spec, found)?;
    let config = RecommenderConfig {
        kafka: Some(kafka::config(&spec.kafka, found)?),
        ..recommender::config(&id, spec, &topics, &found.sinks)?
    };
    serving::check(&config)?;
    let (mut mounts, make_jwt_secret) = mounts::mounts(&id.name, &recommender);
    mounts.extend(kafka::mounts(spec));
    let mut missing_secrets = missing(&mounts, ksqldb.as_ref(), found);
    missing_secrets.extend(kafka::missing(&spec.kafka, found));
    let workload = exposure::workload(&recommender, settings)?;
    let monitoring = spec.monitoring.clone().unwrap_or_default();
    Ok(ValidatedPipeline {
        bootstrap_servers: spec.kafka.bootstrap_servers.clone(),
        cluster_id: spec.kafka.cluster_id.clone(),
        topics,
        retention_ms,
        ksqldb,
        ksqldb_server: spec.ksqldb.as_ref().map(KsqldbServer::of),
        delete_by_default: spec.deletion_policy == Some(DeletionPolicy::Delete),
        config,
        restart_secrets: mounts::restart(&mounts, found),
        mounts,
        make_jwt_secret,
        trains: model::trains(&recommender),
        workload,
        service: exposure::service(&recommender),
        ingress: recommender.ingress.clone(),
        http_route: recommender.http_route.clone(),
        network_policy: exposure::network_policy(&recommender, settings),
        service_monitor: exposure::monitor(&monitoring),
        rules: exposure::rules(&monitoring),
        dashboard: exposure::dashboard(&monitoring),
        missing_secrets,
        unsupported: unsupported::fields(spec),
        id,
    })
}

fn identity(pipeline: &RecommendationPipeline) -> Result<Identity, InvalidSpec> {
    let owner = pipeline.controller_owner_ref(&()).ok_or_else(|| {
        InvalidSpec::new(
            "metadata",
            "has no name or uid: it was not read from an API server",
        )
    })?;
    Ok(Identity {
        name: pipeline.name_any(),
        namespace: pipeline.namespace().unwrap_or_else(|| "default".to_owned()),
        generation: pipeline.metadata.generation.unwrap_or_default(),
        created: pipeline.metadata.creation_timestamp.clone(),
        owner,
    })
}

/// Secrets that the user names and that are not there. Those that the operator makes are not asked for.
fn missing(mounts: &[SecretMount], ksqldb: Option<&DesiredKsqldb>, found: &References) -> Vec<String> {
    let mounted = mounts
        .iter()
        .filter(|mount| !mount.made_by_operator)
        .flat_map(|mount| {
            let item = mount.item.iter().map(|(key, _)| key.as_str());
            let keys: Vec<&str> = item.chain(mount.required.iter().copied()).collect();
            std::iter::once((mount.path.as_str(), mount.secret.as_str(), keys))
        });
    let authority = ksqldb
        .and_then(|k| k.ca.as_ref())
        .map(|(secret, key)| ("spec.ksqldb.tls.caSecretRef", secret.as_str(), vec![key.as_str()]));
    let ksqldb = ksqldb.and_then(|k| k.credentials.as_deref()).map(|secret| {
        (
            "spec.ksqldb.authentication.secretRef",
            secret,
            vec!["username", "password"],
        )
    });
    let mut sentences = Vec::new();
    for (path, secret, keys) in mounted.chain(ksqldb).chain(authority) {
        match found.secrets.get(secret) {
            Some(Some(present)) => sentences.extend(
                keys.iter()
                    .filter(|key| !present.contains(**key))
                    .map(|key| format!("{path}: Secret {secret} has no key {key}")),
            ),
            _ => sentences.push(format!("{path}: there is no Secret {secret}")),
        }
    }
    sentences
}

/// Names of the Secrets and ConfigMaps that the spec refers to: what *dereference* has to fetch.
pub fn referenced(pipeline: &RecommendationPipeline) -> (BTreeSet<String>, BTreeSet<String>) {
    let recommender = pipeline.spec.recommender.clone().unwrap_or_default();
    let (mounts, _) = mounts::mounts(&pipeline.name_any(), &recommender);
    let mut secrets: BTreeSet<String> = mounts
        .into_iter()
        .chain(kafka::mounts(&pipeline.spec))
        .filter(|mount| !mount.made_by_operator)
        .map(|mount| mount.secret)
        .collect();
    let mut config_maps = BTreeSet::new();
    if let Some(ksqldb) = &pipeline.spec.ksqldb {
        secrets.extend(ksqldb.authentication.iter().map(|a| a.secret_ref.name.clone()));
        let authority = ksqldb.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref());
        secrets.extend(authority.map(|reference| reference.name.clone()));
        config_maps.extend(
            ksqldb
                .statements_from
                .iter()
                .flatten()
                .map(|from| from.config_map_ref.name.clone()),
        );
    }
    (secrets, config_maps)
}

#[cfg(test)]
mod tests;
