//! First step, reads only: everything that the spec names and that the later steps compare with. Nothing else reads.
//! What cannot be read is an outcome here, not an error: the other stages go on.

mod kafka_topics;
mod replicas;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, ResourceExt as _};
use opentelemetry::trace::SpanKind;
use recommendation_api::names::Children;
use recommendation_api::pipeline::RecommendationPipeline;
use recommendation_api::pipeline::kafka::KafkaSpec;
use recommendation_api::pipeline::status::TopicOrigin;

pub use kafka_topics::KafkaTopics;
pub use replicas::{ReplicaStatus, Replicas};

use crate::apply::record::{AppliedRecord, KsqldbServer};
use crate::build::configmap::APPLIED_KEY;
use crate::build::short_hash;
use crate::cleanup;
use crate::context::Context;
use crate::deadline::{self, Elapsed};
use crate::kafka::{self, Cluster, ClusterView, Connection, KafkaError};
use crate::ksqldb::{Credentials, KsqlClient, KsqlError, Listing};
use crate::traces;
use crate::validate::{self, References};

/// Everything that was found.
#[derive(Debug)]
pub struct Found {
    /// Secrets and ConfigMaps that the spec names.
    pub references: References,
    /// What was applied outside Kubernetes before.
    pub record: AppliedRecord,
    /// The Kafka cluster, and what is there.
    pub kafka: Result<(Arc<Cluster>, Arc<ClusterView>), KafkaError>,
    /// A client and what the server lists; `None` without `spec.ksqldb` and anything left from an earlier one.
    pub ksqldb: Option<Result<(KsqlClient, Listing), KsqlError>>,
    /// What the recommender's pods say of themselves.
    pub replicas: Replicas,
    /// Topics that an older pipeline owns, with that pipeline's name.
    pub claims: BTreeMap<String, String>,
    /// Topics that Strimzi manages.
    pub strimzi: BTreeSet<String>,
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
    ctx.references
        .note(&namespace, &pipeline.name_any(), &secret_names, &config_map_names);
    let mut references = References::default();
    let mut secrets = BTreeMap::new();
    for name in secret_names {
        let secret: Option<Secret> = get(ctx, &namespace, "Secret", &name).await?;
        let data = secret.map(|secret| secret.data.unwrap_or_default());
        let keys = data.as_ref().map(|data| data.keys().cloned().collect());
        references.secrets.insert(name.clone(), keys);
        let contents = data
            .as_ref()
            .map(|data| serde_json::to_vec(data).unwrap_or_default());
        references
            .contents
            .extend(contents.map(|bytes| (name.clone(), short_hash(&bytes))));
        secrets.extend(data.map(|data| (name, data)));
    }
    let connection = connection(&pipeline.spec.kafka, &secrets);
    if let Some((_, secret)) = validate::kafka::user(&pipeline.spec.kafka) {
        let data = secrets.get(secret);
        references.kafka_username = data.map(|data| kafka::connection::username(secret, data));
    }
    drop(secrets);
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
    // A cleanup may find the Secrets gone; nobody else needs them kept.
    if cleanup::plan::needs_finalizer(&pipeline.spec) {
        let uid = pipeline.uid().unwrap_or_default();
        if let Ok(connection) = &connection {
            ctx.keyring
                .keep(&uid, |kept| kept.kafka = Some(connection.clone()));
        }
    }
    let (kafka, ksqldb, replicas, strimzi) = tokio::join!(
        timed(ctx, "kafka", look(ctx, pipeline, connection)),
        timed(ctx, "ksqldb", ksqldb(ctx, pipeline, &record)),
        timed(ctx, "recommender", replicas::ask(ctx, &namespace, &name)),
        ctx.kafka_topics.of(&ctx.client, &namespace, ctx.resync),
    );
    let cluster = kafka
        .as_ref()
        .ok()
        .and_then(|(_, view)| view.cluster_id.as_deref());
    let claims = ctx.claims.against(pipeline, cluster);
    Ok(Found {
        references,
        record,
        kafka,
        ksqldb,
        replicas,
        claims,
        strimzi,
    })
}

/// Runs a call and notes how long it took.
async fn timed<T>(ctx: &Context, dependency: &'static str, call: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let answer = traces::span(dependency, SpanKind::Client, call).await;
    ctx.metrics.dependency(dependency, begun);
    answer
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

fn basic(secret: &Secret) -> Option<Credentials> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
    Some(Credentials {
        username: text("username")?,
        password: text("password")?,
    })
}

/// What was applied outside Kubernetes. From what this process wrote last, else from the API server, not from the cache: a cache that is behind would make the
/// pipeline's own streams look like somebody else's. Topics that only the status knows are added.
///
/// # Errors
/// When the API server fails.
pub async fn record(
    ctx: &Context,
    pipeline: &RecommendationPipeline,
) -> Result<AppliedRecord, DereferenceError> {
    let uid = pipeline.uid().unwrap_or_default();
    if let Some(record) = ctx.records.get(&uid) {
        return Ok(record);
    }
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

/// How to reach the pipeline's Kafka, with what its Secrets hold.
fn connection(
    spec: &KafkaSpec,
    secrets: &BTreeMap<String, BTreeMap<String, ByteString>>,
) -> Result<Connection, KafkaError> {
    let find = |path: &str, name: &str| {
        let sentence = || KafkaError::Credentials(format!("{path}: there is no Secret {name}"));
        secrets.get(name).ok_or_else(sentence)
    };
    let mut connection = Connection::plain(&spec.bootstrap_servers);
    if let Some(tls) = &spec.tls {
        let path = "spec.kafka.tls.caSecretRef";
        let mut ca = None;
        if let Some(reference) = &tls.ca_secret_ref {
            let key = reference.key.as_deref().unwrap_or(kafka::connection::CA);
            let bytes = find(path, &reference.name)?.get(key);
            let text = bytes.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
            let sentence = || format!("{path}: Secret {} has no text in key {key}", reference.name);
            ca = Some(text.ok_or_else(|| KafkaError::Credentials(sentence()))?);
        }
        connection = connection.with_tls(ca);
    }
    if let Some((kind, name)) = validate::kafka::user(spec) {
        let path = validate::kafka::USER_PATH;
        let login = kafka::connection::login(kind, name, find(path, name)?);
        let login =
            login.map_err(|problem| KafkaError::Credentials(format!("{path}: Secret {name} {problem}")))?;
        connection = connection.with_login(login);
    }
    Ok(connection)
}

/// How to reach the Kafka of a pipeline whose Secrets may be gone already.
///
/// # Errors
/// [`KafkaError::Credentials`] when they are.
pub async fn kafka_connection(
    ctx: &Context,
    pipeline: &RecommendationPipeline,
) -> Result<Connection, KafkaError> {
    let namespace = pipeline.namespace().unwrap_or_default();
    let spec = &pipeline.spec.kafka;
    let ca = spec.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref());
    let names = ca
        .map(|reference| reference.name.clone())
        .into_iter()
        .chain(validate::kafka::user(spec).map(|(_, name)| name.to_owned()));
    let mut secrets = BTreeMap::new();
    for name in names {
        let found: Option<Secret> = get(ctx, &namespace, "Secret", &name).await.ok().flatten();
        secrets.extend(found.map(|secret| (name, secret.data.unwrap_or_default())));
    }
    connection(spec, &secrets)
}

async fn look(
    ctx: &Context,
    pipeline: &RecommendationPipeline,
    connection: Result<Connection, KafkaError>,
) -> Result<(Arc<Cluster>, Arc<ClusterView>), KafkaError> {
    // A spec whose topics contradict each other is refused by validate; nothing is asked for here then.
    let topics = validate::topics::desired(&pipeline.spec).unwrap_or_default();
    let names = topics.into_iter().map(|topic| topic.name).collect();
    let cluster = ctx.kafka.get(&connection?)?;
    let view = cluster.look(&names, ctx.resync).await?;
    Ok((cluster, view))
}

/// The server of the spec, or the one where something is left that the spec no longer names.
fn server(pipeline: &RecommendationPipeline, record: &AppliedRecord) -> Option<KsqldbServer> {
    let left = || record.server.clone().filter(|_| !record.statements.is_empty());
    pipeline.spec.ksqldb.as_ref().map(KsqldbServer::of).or_else(left)
}

async fn ksqldb(
    ctx: &Context,
    pipeline: &RecommendationPipeline,
    record: &AppliedRecord,
) -> Option<Result<(KsqlClient, Listing), KsqlError>> {
    let server = server(pipeline, record)?;
    Some(listed(ctx, pipeline, &server, record).await)
}

async fn listed(
    ctx: &Context,
    pipeline: &RecommendationPipeline,
    server: &KsqldbServer,
    record: &AppliedRecord,
) -> Result<(KsqlClient, Listing), KsqlError> {
    let client = ksqldb_client(ctx, pipeline, server).await?;
    let endpoint = &server.endpoint;
    ctx.ksqldb.admit(endpoint)?;
    let listing = client.listing_for(&record.statements).await;
    ctx.ksqldb.note(endpoint, &listing);
    Ok((client, listing?))
}

/// A client of a ksqlDB server, with what its Secrets hold; in their absence, with what is remembered of them.
///
/// # Errors
/// [`KsqlError::Credentials`] when they are gone, [`KsqlError::Client`] when the authority is none.
pub async fn ksqldb_client(
    ctx: &Context,
    pipeline: &RecommendationPipeline,
    server: &KsqldbServer,
) -> Result<KsqlClient, KsqlError> {
    let namespace = pipeline.namespace().unwrap_or_default();
    let uid = pipeline.uid().unwrap_or_default();
    let mut http = ctx.http.clone();
    if let Some(reference) = &server.ca {
        let key = reference.key.as_deref().unwrap_or(kafka::connection::CA);
        let secret: Option<Secret> = get(ctx, &namespace, "Secret", &reference.name)
            .await
            .ok()
            .flatten();
        let text = secret.and_then(|secret| String::from_utf8(secret.data?.remove(key)?.0).ok());
        let ca = text.or_else(|| ctx.keyring.get(&uid).ksqldb_ca).ok_or_else(|| {
            KsqlError::Credentials(format!(
                "there is no Secret {} with a text in key {key}",
                reference.name
            ))
        })?;
        http = ctx.ksqldb.client(&ca)?;
        if cleanup::plan::needs_finalizer(&pipeline.spec) {
            ctx.keyring.keep(&uid, |kept| kept.ksqldb_ca = Some(ca));
        }
    }
    let mut credentials = None;
    if let Some(name) = &server.user_secret {
        let secret: Option<Secret> = get(ctx, &namespace, "Secret", name).await.ok().flatten();
        let found = secret.as_ref().and_then(basic);
        let found = found.or_else(|| ctx.keyring.get(&uid).ksqldb).ok_or_else(|| {
            KsqlError::Credentials(format!(
                "there is no Secret {name} with the keys username and password, ksqlDB's credentials"
            ))
        })?;
        if cleanup::plan::needs_finalizer(&pipeline.spec) {
            ctx.keyring.keep(&uid, |kept| kept.ksqldb = Some(found.clone()));
        }
        credentials = Some(found);
    }
    Ok(KsqlClient::new(http, &server.endpoint, credentials))
}
