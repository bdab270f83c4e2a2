//! `spec.recommender` as the recommender's configuration, and the Secrets that its pods mount.

use std::collections::BTreeMap;

use recommendation_api::config::{
    AuthConfig, HttpConfig, KafkaConfig, LimitsConfig, ModelConfig, QualityConfig, RateLimitsConfig,
    RedisConfig, RulesConfig, TelemetryConfig, TopicNames, WebhooksConfig,
};
use recommendation_api::model::{Algorithm, ModelSource};
use recommendation_api::names::Children;
use recommendation_api::pipeline::{RecommendationPipelineSpec, RecommenderSpec, SecretKeyRef, TopicRole};
use recommendation_api::{HumanDuration, RecommenderConfig};

use super::{DesiredTopic, Identity, InvalidSpec, topics};
use crate::ksqldb::defaults::source_names;

/// A Secret in the recommender's pods: a folder of its own below the secrets folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMount {
    /// The field that names it.
    pub path: String,
    /// Folder below the secrets folder.
    pub folder: String,
    /// Name of the Secret.
    pub secret: String,
    /// The one key that is mounted, and the file that it becomes; `None`: every key under its own name.
    pub item: Option<(String, String)>,
    /// The operator makes this Secret itself.
    pub made_by_operator: bool,
}

/// Algorithms that the recommender answers with; any other is reported, and Hybrid answers.
pub(super) fn is_served(algorithm: Algorithm) -> bool {
    match algorithm {
        Algorithm::Hybrid
        | Algorithm::ItemKnn
        | Algorithm::Rp3Beta
        | Algorithm::SessionKnn
        | Algorithm::Popularity
        | Algorithm::Content => true,
        // Fitted ones need a trainer and a store for what it makes.
        Algorithm::Auto
        | Algorithm::Ease
        | Algorithm::ImplicitAls
        | Algorithm::Knowledge
        | Algorithm::Onnx => false,
    }
}

/// The configuration file.
pub(super) fn config(
    id: &Identity,
    spec: &RecommendationPipelineSpec,
    desired: &[DesiredTopic],
    sinks: &BTreeMap<String, String>,
) -> Result<RecommenderConfig, InvalidSpec> {
    let recommender = spec.recommender.clone().unwrap_or_default();
    let (mounts, _) = mounts(&id.name, &recommender);
    let file = |folder: &str| {
        let mount = mounts.iter().find(|mount| mount.folder == folder)?;
        Some(
            mount
                .item
                .as_ref()
                .map_or_else(|| folder.to_owned(), |(_, file)| format!("{folder}/{file}")),
        )
    };
    let auth = recommender.auth.clone().unwrap_or_default();
    let http = recommender.http.clone().unwrap_or_default();
    let rates = recommender.rate_limits.clone().unwrap_or_default();
    let rate_defaults = RateLimitsConfig::default();
    Ok(RecommenderConfig {
        pipeline: format!("{}/{}", id.namespace, id.name),
        kafka: Some(KafkaConfig {
            bootstrap_servers: spec.kafka.bootstrap_servers.clone(),
            ..KafkaConfig::default()
        }),
        topics: topic_names(spec, desired, sinks),
        model: model(spec, &recommender)?,
        rules: rules(&recommender),
        limits: limits(&recommender),
        quality: quality(&recommender),
        redis: recommender.cache.as_ref().map(|cache| RedisConfig {
            url: cache.redis.url.clone(),
            password_file: file("redis"),
            ttl: cache.ttl.unwrap_or_else(|| RedisConfig::default().ttl),
        }),
        auth: AuthConfig {
            jwt_secret_file: file("jwt"),
            previous_jwt_secret_file: file("jwt-previous"),
            issuer: auth.issuer.unwrap_or_default(),
            users_dir: file("users"),
            ..AuthConfig::default()
        },
        http: HttpConfig {
            trusted_proxies: http.trusted_proxies.unwrap_or_default(),
            cors_origins: http.cors_origins.unwrap_or_default(),
            ..HttpConfig::default()
        },
        rate_limits: RateLimitsConfig {
            resource_per_minute: rates
                .resource_per_minute
                .unwrap_or(rate_defaults.resource_per_minute),
            requests_per_second: rates
                .requests_per_second
                .unwrap_or(rate_defaults.requests_per_second),
        },
        webhooks: WebhooksConfig {
            hmac_secret_file: file("webhook"),
            ..WebhooksConfig::default()
        },
        telemetry: recommender.telemetry.and_then(|t| t.log_filter).map_or_else(
            TelemetryConfig::default,
            |log_filter| TelemetryConfig {
                log_filter,
                ..TelemetryConfig::default()
            },
        ),
        ..RecommenderConfig::default()
    })
}

/// Purchases are on the topic of their role; a user's own statement may have left its choice to ksqlDB (the simplest
/// form does: `CUSTOMER_PURCHASES`), then they are where the server says.
fn topic_names(
    spec: &RecommendationPipelineSpec,
    desired: &[DesiredTopic],
    sinks: &BTreeMap<String, String>,
) -> TopicNames {
    let prefix = spec.name_prefix.as_deref().unwrap_or_default();
    let mut names = topics::names(desired, prefix);
    let purchases = source_names(prefix)["customer_purchases_stream"].to_uppercase();
    let has_role = desired.iter().any(|topic| topic.role == TopicRole::Purchases);
    if let Some(topic) = sinks
        .get(&purchases)
        .filter(|_| spec.ksqldb.is_some() && !has_role)
    {
        names.purchases.clone_from(topic);
    }
    names
}

fn model(
    spec: &RecommendationPipelineSpec,
    recommender: &RecommenderSpec,
) -> Result<ModelConfig, InvalidSpec> {
    let defaults = ModelConfig::default();
    let model = recommender.model.clone().unwrap_or_default();
    let source = model.source.unwrap_or_default();
    if source == ModelSource::Purchases && spec.ksqldb.is_none() {
        return Err(InvalidSpec::new(
            "spec.recommender.model.source",
            "Purchases is what ksqlDB derives: set spec.ksqldb, or use Events",
        ));
    }
    let half_life = model.half_life.unwrap_or(defaults.half_life);
    if half_life == HumanDuration::default() {
        return Err(InvalidSpec::new(
            "spec.recommender.model.halfLife",
            "must be longer than 0s",
        ));
    }
    let mut event_weights = defaults.event_weights;
    let weights = model.event_weights.unwrap_or_default();
    if let Some(name) = weights.keys().find(|name| !event_weights.contains_key(*name)) {
        let known: Vec<&str> = event_weights.keys().map(String::as_str).collect();
        return Err(InvalidSpec::new(
            format!("spec.recommender.model.eventWeights.{name}"),
            format!("only these events have a weight: {}", known.join(", ")),
        ));
    }
    event_weights.extend(weights);
    let algorithm = model.algorithm.unwrap_or_default();
    Ok(ModelConfig {
        algorithm: if is_served(algorithm) {
            algorithm
        } else {
            Algorithm::Hybrid
        },
        source,
        neighbors: model.neighbors.unwrap_or(defaults.neighbors),
        event_weights,
        history_length: model.history_length.unwrap_or(defaults.history_length),
        half_life,
        diversity: model.diversity.unwrap_or(defaults.diversity),
        exploration: model.exploration.unwrap_or(defaults.exploration),
        ..ModelConfig::default()
    })
}

fn rules(recommender: &RecommenderSpec) -> RulesConfig {
    let rules = recommender.rules.clone().unwrap_or_default();
    RulesConfig {
        purchased: rules.purchased.unwrap_or_default(),
        exclude_products: rules.exclude_products.unwrap_or_default(),
        pin: rules.pin.unwrap_or_default(),
        max_per_category: rules.max_per_category.unwrap_or_default(),
    }
}

fn limits(recommender: &RecommenderSpec) -> LimitsConfig {
    let defaults = LimitsConfig::default();
    let limits = recommender.limits.clone().unwrap_or_default();
    LimitsConfig {
        max_products: limits.max_products.unwrap_or(defaults.max_products),
        max_customers: limits.max_customers.unwrap_or(defaults.max_customers),
        neighbors: limits.neighbors.unwrap_or(defaults.neighbors),
        postings: limits.postings.unwrap_or(defaults.postings),
    }
}

fn quality(recommender: &RecommenderSpec) -> QualityConfig {
    let defaults = QualityConfig::default();
    let quality = recommender.quality.clone().unwrap_or_default();
    QualityConfig {
        max_events_per_minute: quality
            .max_events_per_minute
            .unwrap_or(defaults.max_events_per_minute),
        drift_threshold: quality.drift_threshold.unwrap_or(defaults.drift_threshold),
        max_lag_seconds: quality.max_lag_seconds.unwrap_or(defaults.max_lag_seconds),
    }
}

/// The Secrets that the pods mount, and whether the operator makes the token key itself.
pub(super) fn mounts(name: &str, recommender: &RecommenderSpec) -> (Vec<SecretMount>, bool) {
    let children = Children(name);
    let auth = recommender.auth.clone().unwrap_or_default();
    let key = |path: &str, folder: &str, reference: &SecretKeyRef, file: &str| SecretMount {
        path: path.to_owned(),
        folder: folder.to_owned(),
        secret: reference.name.clone(),
        item: Some((
            reference.key.clone().unwrap_or_else(|| file.to_owned()),
            file.to_owned(),
        )),
        made_by_operator: false,
    };
    let made = |folder: &str, secret: String| SecretMount {
        path: String::new(),
        folder: folder.to_owned(),
        secret,
        item: Some(("secret".to_owned(), "secret".to_owned())),
        made_by_operator: true,
    };
    let mut mounts = vec![match &auth.jwt_secret_ref {
        Some(reference) => key("spec.recommender.auth.jwtSecretRef", "jwt", reference, "secret"),
        None => made("jwt", children.jwt_secret()),
    }];
    mounts.push(made("privacy", children.privacy_secret()));
    if let Some(reference) = &auth.previous_jwt_secret_ref {
        mounts.push(key(
            "spec.recommender.auth.previousJwtSecretRef",
            "jwt-previous",
            reference,
            "secret",
        ));
    }
    if let Some(reference) = &auth.users_secret_ref {
        mounts.push(SecretMount {
            path: "spec.recommender.auth.usersSecretRef".to_owned(),
            folder: "users".to_owned(),
            secret: reference.name.clone(),
            item: None,
            made_by_operator: false,
        });
    }
    if let Some(reference) = recommender
        .webhooks
        .as_ref()
        .and_then(|w| w.hmac_secret_ref.as_ref())
    {
        mounts.push(key(
            "spec.recommender.webhooks.hmacSecretRef",
            "webhook",
            reference,
            "secret",
        ));
    }
    if let Some(reference) = recommender
        .cache
        .as_ref()
        .and_then(|c| c.redis.secret_ref.as_ref())
    {
        mounts.push(key(
            "spec.recommender.cache.redis.secretRef",
            "redis",
            reference,
            "password",
        ));
    }
    (mounts, auth.jwt_secret_ref.is_none())
}
