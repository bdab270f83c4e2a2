//! First step, reads only: everything that the spec names and that the later steps compare with. Nothing else reads.
//! What cannot be read is an outcome here, not an error: the other stages go on.

mod replicas;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, ResourceExt as _};
use recommendation_api::names::Children;
use recommendation_api::pipeline::RecommendationPipeline;
use recommendation_api::pipeline::status::TopicOrigin;

pub use replicas::{ReplicaStatus, Replicas};

use crate::apply::record::AppliedRecord;
use crate::build::configmap::APPLIED_KEY;
use crate::cleanup;
use crate::context::Context;
use crate::deadline::{self, Elapsed};
use crate::kafka::{ClusterView, KafkaError};
use crate::ksqldb::{Credentials, KsqlClient, KsqlError, Listing};
use crate::validate::{self, References};

/// Everything that was found.
#[derive(Debug)]
pub struct Found {
    /// Secrets and ConfigMaps that the spec names.
    pub references: References,
    /// What was applied outside Kubernetes before.
    pub record: AppliedRecord,
    /// The Kafka cluster.
    pub kafka: Result<ClusterView, KafkaError>,
    /// A client and what the server lists; `None` without `spec.ksqldb`.
    pub ksqldb: Option<Result<(KsqlClient, Listing), KsqlError>>,
    /// What the recommender's pods say of themselves.
    pub replicas: Replicas,
    /// Topics that an older pipeline owns, with that pipeline's name.
    pub claims: BTreeMap<String, String>,
}

/// The API server does not let the operator read what the spec names.
#[derive(Debug, thiserror::Error)]
pub enum DereferenceError {
    /// A read failed.
    #[error("cannot read {kind} {name}: {source}")]
    Read {
        /// Kind.
        kind: &'static str,
        /// Name.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// No answer in time.
    #[error("cannot read {kind} {name}: {source}")]
    Timeout {
        /// Kind.
        kind: &'static str,
        /// Name.
        name: String,
        /// How long was waited.
        source: Elapsed,
    },
}

impl DereferenceError {
    /// The variant's name, as a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Read { .. } => "Read",
            Self::Timeout { .. } => "ReadTimeout",
        }
    }
}

/// Reads everything, Kafka and ksqlDB and the pods at the same time.
///
/// # Errors
/// Only when the API server fails: nothing can be done without it.
pub async fn dereference(
    ctx: &Context,
    pipeline: &RecommendationPipeline,
) -> Result<Found, DereferenceError> {
    let namespace = pipeline.namespace().unwrap_or_default();
    let (secret_names, config_map_names) = validate::referenced(pipeline);
    let mut references = References::default();
    let mut credentials = None;
    for name in secret_names {
        let secret: Option<Secret> = get(ctx, &namespace, "Secret", &name).await?;
        let wanted = pipeline
            .spec
            .ksqldb
            .as_ref()
            .and_then(|k| k.authentication.as_ref());
        if wanted.is_some_and(|a| a.secret_ref.name == name) {
            credentials = secret.as_ref().and_then(basic);
        }
        let keys = secret.map(|s| {
            s.data
                .unwrap_or_default()
                .into_keys()
                .collect::<BTreeSet<String>>()
        });
        references.secrets.insert(name, keys);
    }
    for name in config_map_names {
        let found: Option<ConfigMap> = get(ctx, &namespace, "ConfigMap", &name).await?;
        references
            .config_maps
            .insert(name, found.map(|c| c.data.unwrap_or_default()));
    }
    let record = record(ctx, pipeline).await?;
    references.sinks = record
        .statements
        .iter()
        .filter_map(|(source, statement)| Some((source.clone(), statement.topic.clone()?)))
        .collect();
    let name = pipeline.name_any();
    // A cleanup may find the Secret gone; nobody else needs them kept.
    if let Some(credentials) = &credentials
        && cleanup::plan::needs_finalizer(&pipeline.spec)
    {
        ctx.keyring
            .keep(&pipeline.uid().unwrap_or_default(), credentials.clone());
    }
    let (kafka, ksqldb, replicas) = tokio::join!(
        kafka(ctx, pipeline),
        ksqldb(ctx, pipeline, credentials),
        replicas::ask(ctx, &namespace, &name),
    );
    let claims = claims(ctx, pipeline, kafka.as_ref().ok());
    Ok(Found {
        references,
        record,
        kafka,
        ksqldb,
        replicas,
        claims,
    })
}

async fn get<K>(
    ctx: &Context,
    namespace: &str,
    kind: &'static str,
    name: &str,
) -> Result<Option<K>, DereferenceError>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(ctx.client.clone(), namespace);
    match deadline::within(deadline::KUBERNETES, api.get_opt(name)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(source)) => Err(DereferenceError::Read {
            kind,
            name: name.to_owned(),
            source: Box::new(source),
        }),
        Err(source) => Err(DereferenceError::Timeout {
            kind,
            name: name.to_owned(),
            source,
        }),
    }
}

/// ksqlDB's credentials, if the Secret is there and complete.
pub async fn credentials(
    ctx: &Context,
    pipeline: &RecommendationPipeline,
    secret: &str,
) -> Option<Credentials> {
    let namespace = pipeline.namespace().unwrap_or_default();
    let secret: Option<Secret> = get(ctx, &namespace, "Secret", secret).await.ok().flatten();
    secret.as_ref().and_then(basic)
}

fn basic(secret: &Secret) -> Option<Credentials> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
    Some(Credentials {
        username: text("username")?,
        password: text("password")?,
    })
}

/// What was applied outside Kubernetes. From the API server, not from the cache: a cache that is behind would make the
/// pipeline's own streams look like somebody else's. Topics that only the status knows are added.
///
/// # Errors
/// When the API server fails.
pub async fn record(
    ctx: &Context,
    pipeline: &RecommendationPipeline,
) -> Result<AppliedRecord, DereferenceError> {
    let namespace = pipeline.namespace().unwrap_or_default();
    let name = Children(&pipeline.name_any()).applied();
    let stored: Option<ConfigMap> = get(ctx, &namespace, "ConfigMap", &name).await?;
    let mut record: AppliedRecord = stored
        .and_then(|c| c.data?.remove(APPLIED_KEY))
        .and_then(|text| {
            serde_json::from_str(&text)
                .inspect_err(|e| tracing::warn!(%name, "unreadable: {e}"))
                .ok()
        })
        .unwrap_or_default();
    for topic in pipeline.status.iter().flat_map(|s| s.topics.iter().flatten()) {
        if topic.origin == TopicOrigin::Created {
            record.topics.insert(topic.name.clone(), TopicOrigin::Created);
        }
    }
    Ok(record)
}

async fn kafka(ctx: &Context, pipeline: &RecommendationPipeline) -> Result<ClusterView, KafkaError> {
    // A spec whose topics contradict each other is refused by validate; nothing is asked for here then.
    let topics = validate::topics::desired(&pipeline.spec).unwrap_or_default();
    let names = topics.into_iter().map(|topic| topic.name).collect();
    ctx.kafka
        .get(&pipeline.spec.kafka.bootstrap_servers)?
        .observe(&names)
        .await
}

async fn ksqldb(
    ctx: &Context,
    pipeline: &RecommendationPipeline,
    credentials: Option<Credentials>,
) -> Option<Result<(KsqlClient, Listing), KsqlError>> {
    let spec = pipeline.spec.ksqldb.as_ref()?;
    let client = KsqlClient::new(ctx.http.clone(), &spec.endpoint, credentials);
    Some(client.listing().await.map(|listing| (client, listing)))
}

/// Two pipelines, one topic: the older owns it.
fn claims(
    ctx: &Context,
    pipeline: &RecommendationPipeline,
    view: Option<&ClusterView>,
) -> BTreeMap<String, String> {
    let age = |p: &RecommendationPipeline| (p.metadata.creation_timestamp.as_ref().map(|t| t.0), p.uid());
    let servers = |p: &RecommendationPipeline| {
        p.spec
            .kafka
            .bootstrap_servers
            .iter()
            .cloned()
            .collect::<BTreeSet<_>>()
    };
    let cluster = view.and_then(|v| v.cluster_id.clone());
    let same_cluster = |other: &RecommendationPipeline| {
        let theirs = other.status.as_ref().and_then(|s| s.kafka_cluster_id.clone());
        (theirs.is_some() && theirs == cluster) || servers(other) == servers(pipeline)
    };
    let mut claims = BTreeMap::new();
    for other in ctx.pipelines() {
        let older = other.uid() != pipeline.uid() && age(&other) < age(pipeline);
        if older && other.metadata.deletion_timestamp.is_none() && same_cluster(&other) {
            let owner = format!("{}/{}", other.namespace().unwrap_or_default(), other.name_any());
            let topics = validate::topics::desired(&other.spec).unwrap_or_default();
            claims.extend(
                topics
                    .into_iter()
                    .filter(|t| !t.observe)
                    .map(|t| (t.name, owner.clone())),
            );
        }
    }
    claims
}
