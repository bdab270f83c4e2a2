//! Carries out a [`TopicPlan`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use recommendation_api::conditions::reasons;
use recommendation_api::pipeline::status::TopicOrigin;

use crate::build::topic_plan::{Refusal, TopicAction, TopicPlan, TopicStep};
use crate::kafka::{Cluster, ClusterView, KafkaError, LiveTopic};
use crate::recorder::Note;

/// A new topic is listed by every broker only after a moment.
const LISTED: (Duration, u32) = (Duration::from_millis(150), 20);

/// What became of the topics.
#[derive(Clone, Debug, Default)]
pub struct TopicsOutcome {
    /// Nothing is known of the cluster yet: the first look is on its way.
    pub pending: bool,
    /// Kafka cannot be used now, in its own words.
    pub unreachable: Option<String>,
    /// Nothing at all may be done.
    pub refused: Option<Refusal>,
    /// The cluster as it is afterwards; `None` if it was never seen.
    pub view: Option<Arc<ClusterView>>,
    /// By topic, in the order of the plan.
    pub topics: Vec<TopicOutcome>,
}

/// What became of one topic.
#[derive(Clone, Debug)]
pub struct TopicOutcome {
    /// Name.
    pub name: String,
    /// How the operator came to it.
    pub origin: TopicOrigin,
    /// It is not as declared.
    pub refusal: Option<Refusal>,
    /// What people should know.
    pub note: Option<String>,
    /// What was done, as sentences for events.
    pub done: Vec<String>,
    /// What people should look at, as events.
    pub warnings: Vec<Note>,
}

impl TopicsOutcome {
    /// Kafka cannot be used now.
    pub fn unreachable(message: String) -> Self {
        Self {
            unreachable: Some(message),
            ..Self::default()
        }
    }

    /// The cluster could not be looked at.
    pub fn unusable(error: &KafkaError) -> Self {
        match error {
            // Waiting does not mend it.
            KafkaError::Unauthorized { .. } | KafkaError::Login { .. } => Self {
                refused: Some(Refusal::new(reasons::AUTHORIZATION_FAILED, error.advice())),
                ..Self::default()
            },
            KafkaError::Credentials(_) => Self {
                refused: Some(Refusal::new(reasons::SECRET_NOT_FOUND, error.advice())),
                ..Self::default()
            },
            _ => Self {
                pending: matches!(error, KafkaError::Pending { .. }),
                ..Self::unreachable(error.advice())
            },
        }
    }

    /// The topics that statements may read and write: none of a cluster on which nothing may be done.
    pub fn live(&self) -> BTreeMap<String, LiveTopic> {
        let view = self.view.as_ref().filter(|_| self.refused.is_none());
        view.map(|view| view.topics.clone()).unwrap_or_default()
    }

    /// How the operator came to topics, for the record. A topic that Kafka refused to make is nobody's: if someone
    /// else makes it later, it must not go with this pipeline. Where no answer came it may have been made.
    pub fn origins(&self) -> impl Iterator<Item = (String, TopicOrigin)> {
        let made = self.topics.iter().filter(|topic| !self.is_nobodys(topic));
        made.map(|topic| (topic.name.clone(), topic.origin))
    }

    /// Topics whose announcement is to be taken back, because they were refused and are not there.
    pub fn withdrawn(&self) -> impl Iterator<Item = &str> {
        let refused = self.topics.iter().filter(|topic| self.is_nobodys(topic));
        refused.map(|topic| topic.name.as_str())
    }

    fn is_nobodys(&self, topic: &TopicOutcome) -> bool {
        let exists = |view: &Arc<ClusterView>| view.topics.contains_key(&topic.name);
        topic.refusal.is_some() && !self.view.as_ref().is_some_and(exists)
    }
}

/// Carries out the plan. Topics do not hide each other: one that Kafka refuses does not stop the next. `announced`: topics
/// that are to be made for the first time.
pub async fn apply(
    cluster: &Cluster,
    plan: TopicPlan,
    view: Arc<ClusterView>,
    announced: &[String],
) -> TopicsOutcome {
    let mut outcome = TopicsOutcome {
        refused: plan.refused,
        ..TopicsOutcome::default()
    };
    let mut changed = BTreeSet::new();
    for step in plan.steps {
        let (topic, unreachable) = carry_out(cluster, &step, announced.contains(&step.name)).await;
        if !topic.done.is_empty() {
            changed.insert(step.name);
        }
        outcome.topics.push(topic);
        if let Some(message) = unreachable {
            outcome.unreachable = Some(message);
            break;
        }
    }
    outcome.view = Some(if changed.is_empty() {
        view
    } else {
        refreshed(cluster, &changed, &outcome, view).await
    });
    outcome
}

async fn carry_out(cluster: &Cluster, step: &TopicStep, first: bool) -> (TopicOutcome, Option<String>) {
    let admin = cluster.admin();
    let mut outcome = TopicOutcome {
        name: step.name.clone(),
        origin: step.origin,
        refusal: step.refusal.clone(),
        note: step.note.clone(),
        done: Vec::new(),
        warnings: Vec::new(),
    };
    for action in &step.actions {
        let done = match action {
            TopicAction::Create(spec) => match admin.create(spec).await {
                Ok(true) => Ok(format!(
                    "Created topic {} with {} partitions",
                    spec.name, spec.partitions
                )),
                // An earlier attempt, of which no answer came, succeeded after all.
                Ok(false) if !first => Ok(format!("Created topic {}", spec.name)),
                // Someone was faster: then it is not this pipeline's own.
                Ok(false) => {
                    outcome.origin = TopicOrigin::Adopted;
                    Ok(format!("Adopted topic {}", spec.name))
                }
                Err(error) => Err(error),
            },
            TopicAction::Grow(total) => {
                let grown = admin.grow(&step.name, *total).await;
                grown.map(|()| {
                    outcome.warnings.push(keys_move(&step.name, *total));
                    format!("Grew topic {} to {total} partitions", step.name)
                })
            }
            TopicAction::Configure(config) => admin
                .set_config(&step.name, config)
                .await
                .map(|()| format!("Set the configuration of topic {}", step.name)),
        };
        match done {
            Ok(sentence) => {
                tracing::info!(topic = %step.name, "{sentence}");
                outcome.done.push(sentence);
            }
            Err(error @ (KafkaError::Unreachable { .. } | KafkaError::Tls { .. })) => {
                tracing::warn!(topic = %step.name, %error, "Kafka did not take a change");
                return (outcome, Some(error.advice()));
            }
            Err(error) => {
                let reason = match error {
                    KafkaError::Unauthorized { .. } | KafkaError::Login { .. } => {
                        reasons::AUTHORIZATION_FAILED
                    }
                    _ => reasons::TOPIC_REJECTED,
                };
                outcome.refusal = Some(Refusal::new(reason, format!("topic {}: {error}", step.name)));
                break;
            }
        }
    }
    (outcome, None)
}

fn keys_move(topic: &str, total: u32) -> Note {
    Note {
        warning: true,
        reason: "PartitionsAdded".to_owned(),
        message: format!(
            "topic {topic} has {total} partitions now: new records of a key may go to another partition than its old \
             ones, so the order of one customer's events is not kept across this moment, and ksqlDB's joins and \
             tables of that topic see both"
        ),
    }
}

/// The cluster after changes: its brokers learn of a new topic one after the other.
async fn refreshed(
    cluster: &Cluster,
    changed: &BTreeSet<String>,
    outcome: &TopicsOutcome,
    mut view: Arc<ClusterView>,
) -> Arc<ClusterView> {
    let names: BTreeSet<String> = outcome.topics.iter().map(|topic| topic.name.clone()).collect();
    for _ in 0..LISTED.1 {
        match cluster.look_again(&names).await {
            Ok(seen) => view = seen,
            Err(error) => {
                tracing::debug!(%error, "cannot look at the cluster after changing it");
                return view;
            }
        }
        if changed.iter().all(|name| view.topics.contains_key(name)) {
            return view;
        }
        tokio::time::sleep(LISTED.0).await;
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_kafka_refused_to_make_is_not_recorded_and_one_without_an_answer_is() {
        let topic = |name: &str, origin, refused: bool| TopicOutcome {
            name: name.to_owned(),
            origin,
            refusal: refused.then(|| Refusal::new(reasons::TOPIC_REJECTED, "no".to_owned())),
            note: None,
            done: Vec::new(),
            warnings: Vec::new(),
        };
        let outcome = TopicsOutcome {
            view: Some(Arc::new(ClusterView {
                cluster_id: None,
                topics: [("there".to_owned(), LiveTopic::default())].into(),
            })),
            topics: vec![
                topic("there", TopicOrigin::Adopted, true),
                topic("refused", TopicOrigin::Created, true),
                topic("no-answer", TopicOrigin::Created, false),
            ],
            ..TopicsOutcome::default()
        };
        let names: Vec<String> = outcome.origins().map(|(name, _)| name).collect();
        assert_eq!(names, ["there", "no-answer"]);
        assert_eq!(outcome.withdrawn().collect::<Vec<_>>(), ["refused"]);
    }

    #[test]
    fn no_statement_finds_its_topics_on_a_cluster_that_may_not_be_touched() {
        let view = ClusterView {
            cluster_id: Some("another".to_owned()),
            topics: [("there".to_owned(), LiveTopic::default())].into(),
        };
        let mut outcome = TopicsOutcome {
            view: Some(Arc::new(view)),
            ..TopicsOutcome::default()
        };
        assert!(outcome.live().contains_key("there"));
        let refusal = Refusal::new(reasons::CLUSTER_ID_MISMATCH, "another answered".to_owned());
        outcome.refused = Some(refusal);
        assert!(outcome.live().is_empty());
    }

    #[test]
    fn a_refused_client_is_told_from_a_broker_that_is_away_whose_message_does_not_move() {
        let refused = TopicsOutcome::unusable(&KafkaError::Unauthorized {
            step: "reading topic configurations",
            message: "Topic authorization failed".to_owned(),
        });
        assert_eq!(refused.refused.unwrap().reason, reasons::AUTHORIZATION_FAILED);
        let away = |message: &str| {
            let error = KafkaError::Unreachable {
                servers: "k:1".to_owned(),
                step: "reading the cluster's metadata",
                message: message.to_owned(),
            };
            TopicsOutcome::unusable(&error).unreachable.unwrap()
        };
        assert_eq!(away("BrokerTransportFailure"), away("OperationTimedOut"));
        let servers = "k:1".to_owned();
        assert!(TopicsOutcome::unusable(&KafkaError::Pending { servers }).pending);
    }
}
