//! `spec.recommender` as the recommender's configuration.

use std::collections::BTreeMap;

use recommendation_api::RecommenderConfig;
use recommendation_api::config::{
    AuthConfig, GmailConfig, HttpConfig, KafkaConfig, KsqldbConfig, LimitsConfig, ModelConfig, PrivacyConfig,
    PublishableKeyConfig, QualityConfig, RateLimitsConfig, RedisConfig, RulesConfig, SnapshotsConfig,
    TelemetryConfig, TopicNames, WebhooksConfig,
};
use recommendation_api::pipeline::recommender::Histories;
use recommendation_api::pipeline::serving::Consent;
use recommendation_api::pipeline::serving::GmailSpec;
use recommendation_api::pipeline::{RecommendationPipelineSpec, RecommenderSpec, TopicRole};

use super::mounts::{self, mounts};
use super::{DesiredTopic, Identity, InvalidSpec, model, topics};
use crate::ksqldb::defaults::source_names;

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
    let privacy = recommender.privacy.clone().unwrap_or_default();
    let privacy_defaults = PrivacyConfig::default();
    let telemetry = recommender.telemetry.clone().unwrap_or_default();
    Ok(RecommenderConfig {
        pipeline: format!("{}/{}", id.namespace, id.name),
        kafka: Some(KafkaConfig {
            bootstrap_servers: spec.kafka.bootstrap_servers.clone(),
            ..KafkaConfig::default()
        }),
        topics: topic_names(spec, desired, sinks),
        model: model::config(spec, &recommender, file("onnx"))?,
        rules: rules(&recommender),
        limits: limits(&recommender)?,
        quality: quality(&recommender),
        experiments: recommender.experiments.clone().unwrap_or_default(),
        snapshots: recommender.snapshots.as_ref().map(|snapshots| SnapshotsConfig {
            url: snapshots.url.clone(),
            interval: snapshots
                .interval
                .unwrap_or_else(|| SnapshotsConfig::default().interval),
            credentials_dir: file("snapshots"),
        }),
        histories: histories(&recommender)?,
        ksqldb: ksqldb_tables(spec),
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
            jwks_url: auth.jwks_url.unwrap_or_default(),
            publishable_keys: auth
                .publishable_keys
                .into_iter()
                .flatten()
                .enumerate()
                .map(|(index, key)| PublishableKeyConfig {
                    name: key.name,
                    key_file: file(&mounts::publishable(index)).unwrap_or_default(),
                    origins: key.origins.unwrap_or_default(),
                })
                .collect(),
        },
        http: HttpConfig {
            trusted_proxies: http.trusted_proxies.unwrap_or_default(),
            cors_origins: http.cors_origins.unwrap_or_default(),
            tls_dir: file("tls"),
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
            gmail: recommender
                .webhooks
                .clone()
                .and_then(|webhooks| webhooks.gmail)
                .map(|spec| gmail(spec, file("gmail"))),
        },
        privacy: PrivacyConfig {
            retention: privacy.retention.unwrap_or(privacy_defaults.retention),
            pseudonymization: privacy.pseudonymization.unwrap_or_default(),
            consent: privacy.consent.unwrap_or_default(),
            key_file: file("privacy"),
        },
        telemetry: TelemetryConfig {
            log_filter: telemetry
                .log_filter
                .unwrap_or_else(|| TelemetryConfig::default().log_filter),
            otlp_endpoint: telemetry.otlp_endpoint.unwrap_or_default(),
        },
    })
}

/// The tables of the default statements. With statements of the user's own there need be none; and the recommender
/// has neither the login nor the authority of a server that asks for them.
fn ksqldb_tables(spec: &RecommendationPipelineSpec) -> Option<KsqldbConfig> {
    let ksqldb = spec.ksqldb.as_ref()?;
    let plain = ksqldb.tls.is_none() && ksqldb.authentication.is_none();
    let default = ksqldb.statements.is_none() && ksqldb.statements_from.is_none();
    let names = source_names(spec.name_prefix.as_deref().unwrap_or_default());
    (plain && default).then(|| KsqldbConfig {
        url: ksqldb.endpoint.clone(),
        funnel: names["event_funnel_table"].clone(),
        popularity: names["product_popularity_hourly_table"].clone(),
    })
}

fn gmail(spec: GmailSpec, credentials_dir: Option<String>) -> GmailConfig {
    let google = GmailConfig::default();
    GmailConfig {
        audience: spec.audience,
        service_account: spec.service_account.unwrap_or_default(),
        issuer: spec.issuer.unwrap_or(google.issuer),
        jwks_url: spec.jwks_url.unwrap_or(google.jwks_url),
        credentials_dir,
        token_url: spec.token_url.unwrap_or(google.token_url),
        api_url: spec.api_url.unwrap_or(google.api_url),
    }
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

fn rules(recommender: &RecommenderSpec) -> RulesConfig {
    let rules = recommender.rules.clone().unwrap_or_default();
    RulesConfig {
        purchased: rules.purchased.unwrap_or_default(),
        exclude_products: rules.exclude_products.unwrap_or_default(),
        pin: rules.pin.unwrap_or_default(),
        max_per_category: rules.max_per_category.unwrap_or_default(),
    }
}

fn histories(recommender: &RecommenderSpec) -> Result<Histories, InvalidSpec> {
    let histories = recommender.histories.unwrap_or_default();
    if histories == Histories::Redis && recommender.cache.is_none() {
        return Err(InvalidSpec::new(
            "spec.recommender.histories",
            "Redis needs a server: set spec.recommender.cache.redis, or use Memory",
        ));
    }
    let consent = recommender.privacy.as_ref().and_then(|privacy| privacy.consent);
    // What others learned before they heard of a consent cannot be told apart there.
    if histories == Histories::Redis && consent == Some(Consent::OptIn) {
        return Err(InvalidSpec::new(
            "spec.recommender.histories",
            "Redis is for privacy.consent OptOut: with OptIn leave Memory",
        ));
    }
    Ok(histories)
}

fn limits(recommender: &RecommenderSpec) -> Result<LimitsConfig, InvalidSpec> {
    let defaults = LimitsConfig::default();
    let limits = recommender.limits.clone().unwrap_or_default();
    let model = recommender.model.as_ref();
    let kept = model
        .and_then(|m| m.neighbors)
        .unwrap_or(ModelConfig::default().neighbors);
    let neighbors = limits.neighbors.unwrap_or(defaults.neighbors);
    if neighbors != 0 && neighbors < kept {
        return Err(InvalidSpec::new(
            "spec.recommender.limits.neighbors",
            format!("must be 0, or at least as many as are kept: {kept} (spec.recommender.model.neighbors)"),
        ));
    }
    Ok(LimitsConfig {
        max_products: limits.max_products.unwrap_or(defaults.max_products),
        max_customers: limits.max_customers.unwrap_or(defaults.max_customers),
        neighbors,
        postings: limits.postings.unwrap_or(defaults.postings),
    })
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
