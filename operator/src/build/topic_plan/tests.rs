use super::*;
use crate::fixtures::{QUICKSTART, validated};

const THREE: &str = "{kafka: {bootstrapServers: ['k:1']}, topics: [{name: customer_behavior, partitions: 12, replicationFactor: 3, config: {retention.ms: '1000'}}]}";

fn live(partitions: u32, replication_factor: u32, config: &[(&str, &str)]) -> LiveTopic {
    LiveTopic {
        partitions,
        replication_factor,
        config: std::sync::Arc::new(
            config
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        ),
        overridden: std::sync::Arc::new(config.iter().map(|(k, _)| (*k).to_owned()).collect()),
    }
}

fn view(topic: LiveTopic) -> ClusterView {
    ClusterView {
        cluster_id: Some("abc".into()),
        topics: [("customer_behavior".to_owned(), topic)].into(),
    }
}

fn events(spec: &str, view: &ClusterView, origin: Option<TopicOrigin>) -> TopicStep {
    let origins = origin
        .map(|origin| ("customer_behavior".to_owned(), origin))
        .into_iter()
        .collect();
    plan(
        &validated(spec),
        view,
        &origins,
        &BTreeMap::new(),
        &BTreeSet::new(),
    )
    .steps
    .remove(0)
}

#[test]
fn topics_that_are_absent_are_created_with_their_configuration() {
    let step = events(THREE, &ClusterView::default(), None);
    assert_eq!(step.origin, TopicOrigin::Created);
    let [TopicAction::Create(spec)] = &step.actions[..] else {
        panic!("{step:?}")
    };
    assert_eq!((spec.partitions, spec.replication_factor), (12, Some(3)));
    assert_eq!(
        spec.config["retention.ms"], "1000",
        "the user's value wins over the default"
    );
    assert_eq!(spec.config["cleanup.policy"], "delete");
}

#[test]
fn a_topic_that_was_there_is_adopted_and_its_unnamed_properties_are_left_alone() {
    let step = events(QUICKSTART, &view(live(3, 2, &[("retention.ms", "5")])), None);
    assert_eq!(
        (step.origin, step.actions, step.refusal),
        (TopicOrigin::Adopted, vec![], None)
    );
}

#[test]
fn partitions_grow_when_more_are_asked_for() {
    let step = events(THREE, &view(live(3, 3, &[("retention.ms", "1000")])), None);
    assert_eq!(step.actions, [TopicAction::Grow(12)]);
    assert_eq!(step.refusal, None);
}

#[test]
fn fewer_partitions_and_other_replicas_are_refused_with_what_to_do() {
    let step = events(THREE, &view(live(24, 3, &[("retention.ms", "1000")])), None);
    assert_eq!(step.refusal.unwrap().reason, reasons::PARTITION_DECREASE);
    let step = events(THREE, &view(live(12, 1, &[("retention.ms", "1000")])), None);
    let refusal = step.refusal.unwrap();
    assert_eq!(refusal.reason, reasons::REPLICATION_FACTOR_MISMATCH);
    assert!(
        refusal.message.contains("1 replicas and 3 are asked for"),
        "{}",
        refusal.message
    );
}

#[test]
fn declared_configuration_is_restored_and_other_keys_of_the_topic_are_kept() {
    let step = events(
        THREE,
        &view(live(12, 3, &[("retention.ms", "9"), ("segment.bytes", "7")])),
        None,
    );
    let [TopicAction::Configure(config)] = &step.actions[..] else {
        panic!("{step:?}")
    };
    assert_eq!(config["retention.ms"], "1000");
    assert_eq!(
        config["segment.bytes"], "7",
        "the admin client replaces all of a topic's own configuration"
    );
}

#[test]
fn the_default_configuration_is_kept_only_on_topics_that_the_operator_made() {
    let other = view(live(
        12,
        1,
        &[("retention.ms", "9"), ("cleanup.policy", "delete")],
    ));
    assert!(
        events(QUICKSTART, &other, Some(TopicOrigin::Adopted))
            .actions
            .is_empty()
    );
    let step = events(QUICKSTART, &other, Some(TopicOrigin::Created));
    assert!(
        matches!(&step.actions[..], [TopicAction::Configure(config)] if config["retention.ms"] == "7776000000")
    );
}

#[test]
fn a_topic_as_declared_is_left() {
    let same = view(live(
        12,
        1,
        &[("retention.ms", "7776000000"), ("cleanup.policy", "delete")],
    ));
    let step = events(QUICKSTART, &same, Some(TopicOrigin::Created));
    assert_eq!((step.actions, step.refusal, step.note), (vec![], None, None));
}

#[test]
fn personal_data_kept_longer_than_the_retention_is_told_and_not_changed() {
    let forever = view(live(12, 1, &[("retention.ms", "-1")]));
    let step = events(QUICKSTART, &forever, None);
    assert!(step.note.unwrap().contains("longer than privacy.retention"));
    assert!(step.actions.is_empty());
}

#[test]
fn another_cluster_than_the_named_one_is_not_touched() {
    let spec = "{kafka: {bootstrapServers: ['k:1'], clusterId: xyz}}";
    let plan = plan(
        &validated(spec),
        &view(live(1, 1, &[])),
        &BTreeMap::new(),
        &BTreeMap::new(),
        &BTreeSet::new(),
    );
    assert_eq!(plan.refused.unwrap().reason, reasons::CLUSTER_ID_MISMATCH);
    assert!(plan.steps.is_empty());
}

#[test]
fn a_topic_of_an_older_pipeline_is_not_touched() {
    let claims = BTreeMap::from([("customer_behavior".to_owned(), "a/older".to_owned())]);
    let step = plan(
        &validated(THREE),
        &view(live(1, 1, &[])),
        &BTreeMap::new(),
        &claims,
        &BTreeSet::new(),
    )
    .steps
    .remove(0);
    let refusal = step.refusal.unwrap();
    assert_eq!((refusal.reason, step.actions), (reasons::TOPIC_CONFLICT, vec![]));
    assert!(refusal.message.contains("a/older"));
}

#[test]
fn an_observed_topic_is_never_made() {
    let spec = "{kafka: {bootstrapServers: ['k:1']}, topics: [{name: customer_behavior, managementPolicy: Observe}]}";
    let step = events(spec, &ClusterView::default(), None);
    assert_eq!((step.origin, step.actions), (TopicOrigin::Observed, vec![]));
    assert!(step.refusal.is_some());
    assert!(events(spec, &view(live(1, 1, &[])), None).refusal.is_none());
}

#[test]
fn a_value_that_the_broker_spells_otherwise_is_not_set_again() {
    for (live, wanted) in [
        ("compact,delete", "compact, delete"),
        ("0.5", "0.50"),
        ("true", "True"),
        ("1000", "01000"),
    ] {
        assert!(same_value(live, wanted), "{live} {wanted}");
    }
    for (live, wanted) in [
        ("compact", "compact,delete"),
        ("0.5", "0.51"),
        ("true", "false"),
        ("9007199254740993", "9007199254740992"),
        ("lz4", "zstd"),
    ] {
        assert!(!same_value(live, wanted), "{live} {wanted}");
    }
}

#[test]
fn a_topic_that_was_only_looked_at_is_adopted_once_it_is_managed() {
    let there = view(live(12, 3, &[("retention.ms", "1000")]));
    let step = events(THREE, &there, Some(TopicOrigin::Observed));
    assert_eq!(step.origin, TopicOrigin::Adopted);
}

#[test]
fn a_topic_that_a_kafka_topic_describes_is_looked_at_and_never_fought_over() {
    let spec = "{kafka: {bootstrapServers: ['k:1']}, topics: [{name: customer_behavior, partitions: 9, config: {retention.ms: '5'}}]}";
    let strimzi = BTreeSet::from(["customer_behavior".to_owned()]);
    let planned = |view: &ClusterView| {
        plan(
            &validated(spec),
            view,
            &BTreeMap::new(),
            &BTreeMap::new(),
            &strimzi,
        )
        .steps
        .remove(0)
    };
    let absent = planned(&ClusterView::default());
    assert!(absent.actions.is_empty());
    assert!(absent.refusal.unwrap().message.contains("KafkaTopic"));
    let there = planned(&view(live(3, 1, &[])));
    assert_eq!(there.origin, TopicOrigin::Observed);
    assert!(there.actions.is_empty() && there.refusal.is_none());
    assert!(there.note.unwrap().contains("its KafkaTopic decides"));
}
