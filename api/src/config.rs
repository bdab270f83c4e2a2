//! The configuration that the operator renders into ConfigMap `<name>-config` (key `config.json`) and the
//! recommender reads. Secrets are never in it: it names files below the secrets folder
//! ([`crate::names::SECRETS_DIR`], or `--secrets-dir`), which the operator mounts.
//!
//! Every field has a default, so `{}` is a valid configuration. [`RecommenderConfig::restart_part`] is what a
//! running recommender cannot take up; the operator rolls the Deployment only when that changes.

use serde::{Deserialize, Serialize};

use crate::duration::HumanDuration;
use crate::model::{Algorithm, EventWeights, ModelSource, PurchasedPolicy, default_event_weights};

/// Everything that the recommender reads from its file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RecommenderConfig {
    /// `namespace/name` of the pipeline; names the consumer group and metric labels.
    pub pipeline: String,
    /// Where events come from; absent in embedded mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaConfig>,
    /// Topic names by role.
    pub topics: TopicNames,
    /// The model.
    pub model: ModelConfig,
    /// Business rules.
    pub rules: RulesConfig,
    /// Memory bounds.
    pub limits: LimitsConfig,
    /// Data quality.
    pub quality: QualityConfig,
    /// Redis; absent: rate limits and caches are local.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisConfig>,
    /// Sign-in and tokens.
    pub auth: AuthConfig,
    /// HTTP behaviour.
    pub http: HttpConfig,
    /// Rate limits.
    pub rate_limits: RateLimitsConfig,
    /// Webhooks.
    pub webhooks: WebhooksConfig,
    /// Logs.
    pub telemetry: TelemetryConfig,
}

/// The Kafka cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port` each.
    pub bootstrap_servers: Vec<String>,
}

/// Topic names by role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TopicNames {
    /// Events.
    pub events: String,
    /// ksqlDB's purchases, read with `source: Purchases`.
    pub purchases: String,
    /// Catalogue.
    pub catalog: String,
    /// Profiles.
    pub profiles: String,
    /// Erasures.
    pub erasures: String,
    /// Salts.
    pub salts: String,
    /// Impressions.
    pub impressions: String,
    /// Dead letters.
    pub dead_letter: String,
}

impl Default for TopicNames {
    fn default() -> Self {
        Self {
            events: "customer_behavior".into(),
            purchases: "customer_purchases".into(),
            catalog: "products".into(),
            profiles: "customer_profiles".into(),
            erasures: "customer_erasures".into(),
            salts: "customer_salts".into(),
            impressions: "recommendation_impressions".into(),
            dead_letter: "customer_behavior_dead_letter".into(),
        }
    }
}

/// The model. `eventWeights`, `diversity` and `exploration` are taken up while running; the others need the log
/// to be read again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelConfig {
    /// Which model answers.
    pub algorithm: Algorithm,
    /// What it learns from.
    pub source: ModelSource,
    /// Neighbours kept per product.
    pub neighbors: u32,
    /// Weight of an event by its type; others 0.
    pub event_weights: EventWeights,
    /// Events kept per customer.
    pub history_length: u32,
    /// After this long an event counts half.
    pub half_life: HumanDuration,
    /// 0 = most alike, 1 = most varied.
    pub diversity: f64,
    /// Share of slots given to exploration, 0..=1.
    pub exploration: f64,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            source: ModelSource::default(),
            neighbors: 100,
            event_weights: default_event_weights(),
            history_length: 50,
            half_life: HumanDuration::from_days(30),
            diversity: 0.2,
            exploration: 0.05,
        }
    }
}

/// Business rules, taken up while running.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RulesConfig {
    /// Products that the customer has bought.
    pub purchased: PurchasedPolicy,
    /// Never recommended (`POST`, `M`, …).
    pub exclude_products: Vec<String>,
    /// Always first, in this order.
    pub pin: Vec<String>,
    /// At most this many of one category in an answer; 0 = no cap.
    pub max_per_category: u32,
}

/// Memory bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitsConfig {
    /// Products known at once.
    pub max_products: u64,
    /// Customers known at once.
    pub max_customers: u64,
    /// Candidate neighbours counted per product.
    pub neighbors: u32,
    /// Sessions per product's posting list.
    pub postings: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_products: 1_000_000,
            max_customers: 10_000_000,
            neighbors: 200,
            postings: 5_000,
        }
    }
}

/// Data quality. Of these the engine is told `maxEventsPerMinute` at its start only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct QualityConfig {
    /// A customer with more is not human; 0 = no limit.
    pub max_events_per_minute: u32,
    /// Population stability index over which the model counts as drifted.
    pub drift_threshold: f64,
    /// Lag over which the model counts as stale, and that gates the first readiness.
    pub max_lag_seconds: u32,
}

impl Default for QualityConfig {
    fn default() -> Self {
        Self {
            max_events_per_minute: 300,
            drift_threshold: 0.2,
            max_lag_seconds: 30,
        }
    }
}

/// Redis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://host:port[/db]`, without password.
    pub url: String,
    /// File below the secrets folder that holds the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
    /// How long a cached answer may live.
    pub ttl: HumanDuration,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            password_file: None,
            ttl: HumanDuration::from_secs(30),
        }
    }
}

/// Sign-in and tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthConfig {
    /// File below the secrets folder: the HS256 key. Absent: one is made at start (embedded mode).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt_secret_file: Option<String>,
    /// The key before it, still accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_jwt_secret_file: Option<String>,
    /// Required `iss` claim; empty: not checked.
    pub issuer: String,
    /// Folder below the secrets folder with one file a user: JSON `{passwordHash, customerId, scopes[]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users_dir: Option<String>,
}

/// HTTP behaviour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpConfig {
    /// Addresses or CIDRs whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
    /// Origins that browsers may call from; `*` for any.
    pub cors_origins: Vec<String>,
}

/// Rate limits, taken up while running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimitsConfig {
    /// `GET /api/resource` per remote address, in any 60 seconds.
    pub resource_per_minute: u32,
    /// All other routes together per remote address; 0 = no limit.
    pub requests_per_second: u32,
}

impl Default for RateLimitsConfig {
    fn default() -> Self {
        Self {
            resource_per_minute: 5,
            requests_per_second: 0,
        }
    }
}

/// Webhooks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhooksConfig {
    /// File below the secrets folder: the HMAC-SHA256 key that signs webhooks. Absent: unsigned ones are
    /// accepted, rate-limited and warned of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hmac_secret_file: Option<String>,
}

/// Logs, taken up while running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TelemetryConfig {
    /// A `tracing` filter: `info`, `info,recommender::http=debug`.
    pub log_filter: String,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            log_filter: "info".into(),
        }
    }
}

impl RecommenderConfig {
    /// This configuration with everything that is taken up while running set to its default: two
    /// configurations whose restart parts are equal need no restart between them.
    #[must_use]
    pub fn restart_part(&self) -> Self {
        self.with_live_part_of(&Self::default())
    }

    /// This configuration with everything that is taken up while running as in `other`: what runs once a
    /// change from this one to `other` has been taken up.
    #[must_use]
    pub fn with_live_part_of(&self, other: &Self) -> Self {
        Self {
            // Named one by one: a new field needs a restart until somebody sees to it that it does not.
            model: ModelConfig {
                event_weights: other.model.event_weights.clone(),
                diversity: other.model.diversity,
                exploration: other.model.exploration,
                ..self.model.clone()
            },
            rules: other.rules.clone(),
            rate_limits: other.rate_limits.clone(),
            telemetry: other.telemetry.clone(),
            quality: QualityConfig {
                drift_threshold: other.quality.drift_threshold,
                max_lag_seconds: other.quality.max_lag_seconds,
                ..self.quality.clone()
            },
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default_configuration() {
        let c: RecommenderConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(c, RecommenderConfig::default());
        let text = serde_json::to_string(&c).unwrap();
        assert_eq!(serde_json::from_str::<RecommenderConfig>(&text).unwrap(), c);
    }

    #[test]
    fn a_misspelt_field_is_refused_by_name() {
        let e = serde_json::from_str::<RecommenderConfig>(r#"{"model":{"neighbours":5}}"#).unwrap_err();
        assert!(e.to_string().contains("neighbours"), "{e}");
    }

    #[test]
    fn weights_rules_limits_and_log_filter_need_no_restart() {
        let a = RecommenderConfig::default();
        let mut b = a.clone();
        b.model.event_weights.insert("click".into(), 2.0);
        b.rules.pin.push("1".into());
        b.rate_limits.resource_per_minute = 50;
        b.telemetry.log_filter = "debug".into();
        b.quality.max_lag_seconds = 60;
        assert_eq!(a.restart_part(), b.restart_part());
        assert_eq!(a.with_live_part_of(&b), b);
    }

    #[test]
    fn what_the_engine_is_told_at_its_start_only_needs_a_restart() {
        let a = RecommenderConfig::default();
        let changes: [fn(&mut RecommenderConfig); 5] = [
            |c| c.model.neighbors = 5,
            |c| c.model.history_length = 5,
            |c| c.model.half_life = HumanDuration::from_days(1),
            |c| c.quality.max_events_per_minute = 5,
            |c| c.limits.max_customers = 5,
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut b = a.clone();
            change(&mut b);
            assert_ne!(a.restart_part(), b.restart_part(), "change {i}");
            assert_eq!(a.with_live_part_of(&b), a, "change {i}");
        }
    }
}
