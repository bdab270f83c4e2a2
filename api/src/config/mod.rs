//! The configuration that the operator renders into ConfigMap `<name>-config` (key `config.json`) and the
//! recommender reads. Secrets are never in it: it names files below the secrets folder
//! ([`crate::names::SECRETS_DIR`], or `--secrets-dir`), which the operator mounts.
//!
//! Every field has a default, so `{}` is a valid configuration. [`RecommenderConfig::restart_part`] is what a
//! running recommender cannot take up; the operator rolls the Deployment only when that changes.

mod kafka;
mod model;
mod serving;
mod stores;

use serde::{Deserialize, Serialize};

pub use self::kafka::{KafkaAuthenticationConfig, KafkaConfig, KafkaTlsConfig};
pub use self::model::{ModelConfig, OnnxConfig, RetrainConfig};
pub use self::serving::{
    AuthConfig, GmailConfig, HttpConfig, PrivacyConfig, PublishableKeyConfig, RateLimitsConfig,
    TelemetryConfig, WebhooksConfig, log_directives,
};
pub use self::stores::{KsqldbConfig, RedisConfig, SnapshotsConfig};
use crate::model::{Provision, PurchasedPolicy};
use crate::pipeline::recommender::{ExperimentSpec, Histories};

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
    /// Experiments between algorithms, as in the resource.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub experiments: Vec<ExperimentSpec>,
    /// Snapshots of the model; absent: every start reads the whole log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<SnapshotsConfig>,
    /// Where histories live.
    pub histories: Histories,
    /// Redis; absent: rate limits and caches are local.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisConfig>,
    /// ksqlDB's tables; absent: figures do without their totals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ksqldb: Option<KsqldbConfig>,
    /// Sign-in and tokens.
    pub auth: AuthConfig,
    /// HTTP behaviour.
    pub http: HttpConfig,
    /// Rate limits.
    pub rate_limits: RateLimitsConfig,
    /// Webhooks.
    pub webhooks: WebhooksConfig,
    /// Data protection.
    pub privacy: PrivacyConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
}

impl RecommenderConfig {
    /// What algorithms find to answer from.
    pub fn provision(&self) -> Provision {
        Provision {
            // Embedded, it fits for itself.
            store: self.kafka.is_none() || self.snapshots.is_some(),
            onnx: self.model.onnx.is_some(),
            rules: !self.model.knowledge.is_empty(),
            pairs: self.limits.neighbors != 0,
        }
    }
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
    /// Candidate neighbours counted per product: of more, the weaker half is let go; 0 counts none.
    pub neighbors: u32,
    /// Sessions per product that are looked at.
    pub postings: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_products: 1_000_000,
            max_customers: 10_000_000,
            neighbors: 4_096,
            postings: 1_000,
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

impl RecommenderConfig {
    /// The addresses of others that are called over HTTP, each with its field; those that are not set are left out.
    pub fn web_addresses(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let gmail = self.webhooks.gmail.as_ref();
        [
            ("auth.jwksUrl", Some(&self.auth.jwks_url)),
            ("webhooks.gmail.jwksUrl", gmail.map(|gmail| &gmail.jwks_url)),
            ("webhooks.gmail.tokenUrl", gmail.map(|gmail| &gmail.token_url)),
            ("webhooks.gmail.apiUrl", gmail.map(|gmail| &gmail.api_url)),
            ("telemetry.otlpEndpoint", Some(&self.telemetry.otlp_endpoint)),
        ]
        .into_iter()
        .filter_map(|(field, address)| Some((field, address?.as_str())))
        .filter(|(_, address)| !address.is_empty())
    }

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
                onnx: other.model.onnx.clone(),
                knowledge: other.model.knowledge.clone(),
                ..self.model.clone()
            },
            rules: other.rules.clone(),
            rate_limits: other.rate_limits.clone(),
            telemetry: TelemetryConfig {
                log_filter: other.telemetry.log_filter.clone(),
                ..self.telemetry.clone()
            },
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
    use crate::duration::HumanDuration;

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
        b.model.onnx = Some(OnnxConfig::default());
        b.model
            .knowledge
            .push(crate::pipeline::recommender::KnowledgeRule::default());
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
        let changes: [fn(&mut RecommenderConfig); 8] = [
            |c| c.model.neighbors = 5,
            |c| c.model.history_length = 5,
            |c| c.model.half_life = HumanDuration::from_days(1),
            |c| c.quality.max_events_per_minute = 5,
            |c| c.limits.max_customers = 5,
            |c| c.limits.neighbors = 500,
            |c| c.limits.postings = 5,
            |c| c.telemetry.otlp_endpoint = "http://collector:4317".into(),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut b = a.clone();
            change(&mut b);
            assert_ne!(a.restart_part(), b.restart_part(), "change {i}");
            assert_eq!(a.with_live_part_of(&b), a, "change {i}");
        }
    }
}
