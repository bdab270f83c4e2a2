//! Which topics the pipeline needs, and what they should look like.

use std::collections::{BTreeMap, BTreeSet};

use recommendation_api::HumanDuration;
use recommendation_api::config::TopicNames;
use recommendation_api::pipeline::kafka::{ManagementPolicy, TopicSpec};
use recommendation_api::pipeline::{RecommendationPipelineSpec, TopicRole, defaults};

use super::InvalidSpec;
use crate::ksqldb::defaults::SINKS;

/// Kafka's own limit.
const LONGEST_NAME: usize = 249;
/// Erased data leaves compacted topics within a day.
const COMPACTION_LAG_MS: &str = "86400000";
/// Only closed segments are compacted.
const SEGMENT_MS: &str = "3600000";

/// A topic as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredTopic {
    /// Full name, with the prefix.
    pub name: String,
    /// Name in statement variables: that of its role's default topic, or its own without the prefix.
    pub key: String,
    /// What it is for.
    pub role: TopicRole,
    /// Partitions that the user asks for: a live topic is grown to it, and fewer are refused.
    pub partitions: Option<u32>,
    /// Partitions of a topic that is created without being told.
    pub default_partitions: u32,
    /// Replicas that the user asks for; `None` = the broker's default, and whatever a live topic has.
    pub replication_factor: Option<u32>,
    /// Configuration that the user asks for: kept so on every topic that is managed.
    pub config: BTreeMap<String, String>,
    /// Configuration of topics that the operator makes; never forced upon topics that it found.
    pub default_config: BTreeMap<String, String>,
    /// Only looked at.
    pub observe: bool,
}

struct Kind {
    role: TopicRole,
    partitions: i32,
    compact: bool,
}

const fn kind(role: TopicRole, partitions: i32, compact: bool) -> Kind {
    Kind {
        role,
        partitions,
        compact,
    }
}

/// The roles that every pipeline has, in the order of status. `Purchases` comes with ksqlDB's default statements.
const ROLES: [Kind; 7] = [
    kind(TopicRole::Events, defaults::PARTITIONS, false),
    kind(TopicRole::Catalog, defaults::CONTROL_PARTITIONS, true),
    kind(TopicRole::Profiles, defaults::CONTROL_PARTITIONS, true),
    kind(TopicRole::DeadLetter, defaults::CONTROL_PARTITIONS, false),
    kind(TopicRole::Erasures, defaults::CONTROL_PARTITIONS, true),
    kind(TopicRole::Salts, defaults::CONTROL_PARTITIONS, true),
    kind(TopicRole::Impressions, defaults::PARTITIONS, false),
];

const PURCHASES: Kind = kind(TopicRole::Purchases, defaults::PARTITIONS, false);

/// `privacy.retention` in milliseconds.
///
/// # Errors
/// [`InvalidSpec`] when it is zero.
pub fn retention_ms(spec: &RecommendationPipelineSpec) -> Result<i64, InvalidSpec> {
    let privacy = spec.recommender.as_ref().and_then(|r| r.privacy.as_ref());
    let retention = privacy
        .and_then(|p| p.retention)
        .unwrap_or_else(|| HumanDuration::from_days(defaults::RETENTION_DAYS))
        .as_millis();
    if retention == 0 {
        return Err(InvalidSpec::new(
            "spec.recommender.privacy.retention",
            "must be longer than 0s",
        ));
    }
    Ok(retention)
}

/// Every topic of the pipeline: its roles, ksqlDB's sinks, and what else `spec.topics` names.
///
/// # Errors
/// [`InvalidSpec`] for two topics of one role, two of one name, or a name that is too long for Kafka.
pub fn desired(spec: &RecommendationPipelineSpec) -> Result<Vec<DesiredTopic>, InvalidSpec> {
    let prefix = spec.name_prefix.as_deref().unwrap_or_default();
    let retention = retention_ms(spec)?.to_string();
    let declared = spec.topics.as_deref().unwrap_or_default();
    let default_statements = uses_default_statements(spec);
    let mut claimed: BTreeMap<TopicRole, usize> = BTreeMap::new();
    for (i, topic) in declared.iter().enumerate() {
        let role = role_of(topic);
        if role != TopicRole::Other
            && let Some(before) = claimed.insert(role, i)
        {
            return Err(InvalidSpec::new(
                format!("spec.topics[{i}].role"),
                format!("{role:?} is the role of spec.topics[{before}] already; one topic a role"),
            ));
        }
    }
    let mut topics = Vec::new();
    let with_purchases = default_statements || claimed.contains_key(&TopicRole::Purchases);
    for kind in ROLES.iter().chain(with_purchases.then_some(&PURCHASES)) {
        let key = default_name(kind.role);
        let spec = claimed.get(&kind.role).map(|i| &declared[*i]);
        topics.push(topic(prefix, key, kind, spec, kind_config(kind, &retention)));
    }
    for sink in SINKS.iter().filter(|_| default_statements) {
        let kind = kind(TopicRole::Other, sink.partitions, sink.cleanup != "delete");
        let mut config = BTreeMap::from([("cleanup.policy".to_owned(), sink.cleanup.to_owned())]);
        if sink.cleanup.contains("delete") {
            config.insert("retention.ms".to_owned(), retention.clone());
        }
        let spec = declared.iter().find(|topic| topic.name == sink.name);
        topics.push(topic(prefix, sink.name, &kind, spec, config));
    }
    for other in declared.iter().filter(|topic| role_of(topic) == TopicRole::Other) {
        if !topics
            .iter()
            .any(|known| known.name == format!("{prefix}{}", other.name))
        {
            let kind = kind(TopicRole::Other, defaults::CONTROL_PARTITIONS, false);
            let config = kind_config(&kind, &retention);
            topics.push(topic(prefix, &other.name, &kind, Some(other), config));
        }
    }
    let mut names = BTreeSet::new();
    for topic in &topics {
        if topic.name.len() > LONGEST_NAME {
            return Err(InvalidSpec::new(
                "spec.namePrefix",
                format!("topic {} has more than {LONGEST_NAME} characters", topic.name),
            ));
        }
        if !names.insert(&topic.name) {
            return Err(InvalidSpec::new(
                "spec.topics",
                format!("{} has two roles", topic.name),
            ));
        }
    }
    Ok(topics)
}

fn uses_default_statements(spec: &RecommendationPipelineSpec) -> bool {
    spec.ksqldb
        .as_ref()
        .is_some_and(|k| k.statements.is_none() && k.statements_from.is_none())
}

fn topic(
    prefix: &str,
    key: &str,
    kind: &Kind,
    declared: Option<&TopicSpec>,
    default_config: BTreeMap<String, String>,
) -> DesiredTopic {
    let positive = |n: i32| u32::try_from(n).unwrap_or(1);
    DesiredTopic {
        name: format!("{prefix}{}", declared.map_or(key, |topic| topic.name.as_str())),
        key: key.to_owned(),
        role: kind.role,
        partitions: declared.and_then(|topic| topic.partitions).map(positive),
        default_partitions: positive(kind.partitions),
        replication_factor: declared.and_then(|topic| topic.replication_factor).map(positive),
        config: declared
            .and_then(|topic| topic.config.clone())
            .unwrap_or_default(),
        default_config,
        observe: declared.and_then(|topic| topic.management_policy) == Some(ManagementPolicy::Observe),
    }
}

/// A topic without a role has the role of that name, else Other.
fn role_of(topic: &TopicSpec) -> TopicRole {
    topic.role.unwrap_or_else(|| {
        ROLES
            .iter()
            .chain([&PURCHASES])
            .map(|kind| kind.role)
            .find(|role| default_name(*role) == topic.name)
            .unwrap_or(TopicRole::Other)
    })
}

/// The unprefixed name of a role's default topic; the recommender's configuration has the same ones.
fn default_name(role: TopicRole) -> &'static str {
    match role {
        TopicRole::Events => "customer_behavior",
        TopicRole::Purchases => "customer_purchases",
        TopicRole::Catalog => "products",
        TopicRole::Profiles => "customer_profiles",
        TopicRole::Erasures => "customer_erasures",
        TopicRole::Salts => "customer_salts",
        TopicRole::Impressions => "recommendation_impressions",
        TopicRole::DeadLetter => "customer_behavior_dead_letter",
        TopicRole::Other => "",
    }
}

fn kind_config(kind: &Kind, retention: &str) -> BTreeMap<String, String> {
    let pairs: &[(&str, &str)] = match kind.role {
        // What erases people's data must take effect in bounded time.
        TopicRole::Profiles | TopicRole::Erasures | TopicRole::Salts => &[
            ("cleanup.policy", "compact"),
            ("max.compaction.lag.ms", COMPACTION_LAG_MS),
            ("segment.ms", SEGMENT_MS),
        ],
        _ if kind.compact => &[("cleanup.policy", "compact")],
        TopicRole::Other => &[],
        _ => &[("cleanup.policy", "delete"), ("retention.ms", retention)],
    };
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// Topic names as the recommender reads them.
pub fn names(topics: &[DesiredTopic], prefix: &str) -> TopicNames {
    let name = |role: TopicRole| {
        topics.iter().find(|topic| topic.role == role).map_or_else(
            || format!("{prefix}{}", default_name(role)),
            |topic| topic.name.clone(),
        )
    };
    TopicNames {
        events: name(TopicRole::Events),
        purchases: name(TopicRole::Purchases),
        catalog: name(TopicRole::Catalog),
        profiles: name(TopicRole::Profiles),
        erasures: name(TopicRole::Erasures),
        salts: name(TopicRole::Salts),
        impressions: name(TopicRole::Impressions),
        dead_letter: name(TopicRole::DeadLetter),
    }
}
