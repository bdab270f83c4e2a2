//! What would be done to which topic, and why not: so that it can be tested, and shown, without touching anything.

use std::collections::{BTreeMap, BTreeSet};

use recommendation_api::conditions::reasons;
use recommendation_api::pipeline::TopicRole;
use recommendation_api::pipeline::status::TopicOrigin;

use crate::kafka::{ClusterView, LiveTopic, TopicSpec};
use crate::validate::{DesiredTopic, ValidatedPipeline};

/// What to do about all topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    /// Nothing at all may be done, and why.
    pub refused: Option<Refusal>,
    /// By topic.
    pub steps: Vec<TopicStep>,
}

/// What to do about one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStep {
    /// Name.
    pub name: String,
    /// What it is for.
    pub role: TopicRole,
    /// How the operator came to it, once the actions are done.
    pub origin: TopicOrigin,
    /// What to do, in order; empty = leave.
    pub actions: Vec<TopicAction>,
    /// What is asked for and cannot be done.
    pub refusal: Option<Refusal>,
    /// What people should know, although nothing is wrong.
    pub note: Option<String>,
}

/// One operation on a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicAction {
    /// Make it.
    Create(TopicSpec),
    /// Raise its partitions to this many.
    Grow(u32),
    /// Give it exactly this configuration of its own.
    Configure(BTreeMap<String, String>),
}

/// Something that is asked for and not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Condition reason.
    pub reason: &'static str,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(reason: &'static str, message: String) -> Self {
        Self { reason, message }
    }
}

/// Compares topics as they should be with the cluster. `origins`: what is known of how the operator came to topics.
/// `claims`: topics that an older pipeline owns, with that pipeline's name. `strimzi`: topics that a `KafkaTopic`
/// describes.
pub fn plan(
    pipeline: &ValidatedPipeline,
    view: &ClusterView,
    origins: &BTreeMap<String, TopicOrigin>,
    claims: &BTreeMap<String, String>,
    strimzi: &BTreeSet<String>,
) -> TopicPlan {
    if let (Some(wanted), Some(live)) = (&pipeline.cluster_id, &view.cluster_id)
        && wanted != live
    {
        let message = format!(
            "spec.kafka.clusterId is {wanted} but {live} answered: nothing was touched. Correct bootstrapServers"
        );
        return TopicPlan {
            refused: Some(Refusal::new(reasons::CLUSTER_ID_MISMATCH, message)),
            steps: Vec::new(),
        };
    }
    let steps = pipeline
        .topics
        .iter()
        .map(|topic| {
            let origin = origins.get(&topic.name).copied();
            if strimzi.contains(&topic.name) {
                return strimzis(topic, view.topics.get(&topic.name));
            }
            step(
                topic,
                view.topics.get(&topic.name),
                origin,
                claims.get(&topic.name),
                pipeline.retention_ms,
            )
        })
        .collect();
    TopicPlan { refused: None, steps }
}

/// A topic that a `KafkaTopic` describes is looked at: its partitions and configuration are what that says.
fn strimzis(topic: &DesiredTopic, live: Option<&LiveTopic>) -> TopicStep {
    let mut step = TopicStep {
        name: topic.name.clone(),
        role: topic.role,
        origin: TopicOrigin::Observed,
        actions: Vec::new(),
        refusal: None,
        note: None,
    };
    let Some(live) = live else {
        let message = format!(
            "topic {} does not exist yet: its KafkaTopic describes it, and Strimzi's topic operator makes it",
            topic.name
        );
        step.refusal = Some(Refusal::new(reasons::TOPIC_REJECTED, message));
        return step;
    };
    let other = topic.partitions.is_some_and(|wanted| wanted != live.partitions)
        || topic
            .replication_factor
            .is_some_and(|wanted| wanted != live.replication_factor)
        || drift(topic, live, false).is_some();
    step.note = other.then(|| {
        format!(
            "topic {} differs from spec.topics and stays so: its KafkaTopic decides, change it there",
            topic.name
        )
    });
    step
}

fn step(
    topic: &DesiredTopic,
    live: Option<&LiveTopic>,
    known: Option<TopicOrigin>,
    owner: Option<&String>,
    retention_ms: i64,
) -> TopicStep {
    let mut step = TopicStep {
        name: topic.name.clone(),
        role: topic.role,
        // One that was only looked at until now is found, not made.
        origin: known
            .filter(|origin| *origin == TopicOrigin::Created)
            .unwrap_or(TopicOrigin::Adopted),
        actions: Vec::new(),
        refusal: None,
        note: None,
    };
    if topic.observe {
        step.origin = TopicOrigin::Observed;
        if live.is_none() {
            let message = format!(
                "topic {} does not exist, and managementPolicy Observe makes none",
                topic.name
            );
            step.refusal = Some(Refusal::new(reasons::TOPIC_REJECTED, message));
        }
        return step;
    }
    if let Some(owner) = owner {
        step.origin = TopicOrigin::Observed;
        let message = format!(
            "topic {} belongs to the older pipeline {owner}: set namePrefix, or managementPolicy Observe",
            topic.name
        );
        step.refusal = Some(Refusal::new(reasons::TOPIC_CONFLICT, message));
        return step;
    }
    let Some(live) = live else {
        step.origin = TopicOrigin::Created;
        step.actions.push(TopicAction::Create(creation(topic)));
        return step;
    };
    let created = step.origin == TopicOrigin::Created;
    step.refusal = refusal(topic, live);
    if let Some(wanted) = topic.partitions
        && wanted > live.partitions
    {
        step.actions.push(TopicAction::Grow(wanted));
    }
    if let Some(config) = drift(topic, live, created) {
        step.actions.push(TopicAction::Configure(config));
    }
    step.note = kept_too_long(topic, live, created, retention_ms);
    step
}

/// A new topic: the user's configuration over the default one.
fn creation(topic: &DesiredTopic) -> TopicSpec {
    let mut config = topic.default_config.clone();
    config.extend(topic.config.clone());
    TopicSpec {
        name: topic.name.clone(),
        partitions: topic.partitions.unwrap_or(topic.default_partitions),
        replication_factor: topic.replication_factor,
        config,
    }
}

fn refusal(topic: &DesiredTopic, live: &LiveTopic) -> Option<Refusal> {
    if let Some(wanted) = topic.partitions
        && wanted < live.partitions
    {
        let message = format!(
            "topic {} has {} partitions and {wanted} are asked for: Kafka cannot remove partitions",
            topic.name, live.partitions
        );
        return Some(Refusal::new(reasons::PARTITION_DECREASE, message));
    }
    let wanted = topic.replication_factor?;
    (wanted != live.replication_factor).then(|| {
        let message = format!(
            "topic {} has {} replicas and {wanted} are asked for: reassign its partitions with Kafka's tools, or \
             leave replicationFactor out",
            topic.name, live.replication_factor
        );
        Refusal::new(reasons::REPLICATION_FACTOR_MISMATCH, message)
    })
}

/// The topic's own configuration as it should be, if it is not: the defaults count only where the operator made the
/// topic, and keys that nobody asked for stay as they are.
fn drift(topic: &DesiredTopic, live: &LiveTopic, created: bool) -> Option<BTreeMap<String, String>> {
    let mut wanted = if created {
        topic.default_config.clone()
    } else {
        BTreeMap::new()
    };
    wanted.extend(topic.config.clone());
    if wanted
        .iter()
        .all(|(key, value)| live.config.get(key).is_some_and(|found| same_value(found, value)))
    {
        return None;
    }
    let mut config: BTreeMap<String, String> = live
        .overridden
        .iter()
        .filter_map(|key| Some((key.clone(), live.config.get(key)?.clone())))
        .collect();
    config.extend(wanted);
    Some(config)
}

/// Whether the broker means the same by both: it answers with its own spelling of numbers, lists and booleans, and a
/// spelling of the user's own would be set again at every look.
fn same_value(live: &str, wanted: &str) -> bool {
    let (live, wanted) = (live.trim(), wanted.trim());
    if let (Ok(live), Ok(wanted)) = (live.parse::<i64>(), wanted.parse::<i64>()) {
        return live == wanted;
    }
    if let (Ok(live), Ok(wanted)) = (live.parse::<f64>(), wanted.parse::<f64>()) {
        return live.total_cmp(&wanted).is_eq();
    }
    if matches!(live, "true" | "false") {
        return live.eq_ignore_ascii_case(wanted);
    }
    live.split(',')
        .map(str::trim)
        .eq(wanted.split(',').map(str::trim))
}

/// `privacy.retention` is an upper bound; a topic that keeps records longer is reported, not changed.
fn kept_too_long(topic: &DesiredTopic, live: &LiveTopic, created: bool, retention_ms: i64) -> Option<String> {
    let ours = created && !topic.config.contains_key("retention.ms");
    let personal = matches!(
        topic.role,
        TopicRole::Events | TopicRole::Purchases | TopicRole::DeadLetter | TopicRole::Impressions
    );
    let value = topic
        .config
        .get("retention.ms")
        .or_else(|| live.config.get("retention.ms"))?;
    let kept: i64 = value.parse().ok()?;
    (personal && !ours && (kept < 0 || kept > retention_ms)).then(|| {
        format!(
            "topic {} keeps records longer than privacy.retention (retention.ms={value})",
            topic.name
        )
    })
}

#[cfg(test)]
mod tests;
