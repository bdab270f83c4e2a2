use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DeploymentSpec, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use recommendation_api::conditions::reasons;
use recommendation_api::pipeline::status::{StatementStatus, TopicOrigin};
use recommendation_api::report::{DependencyState, DriftReport, ModelReport, Phase, StatusReport};

use super::*;
use crate::apply::topics::TopicOutcome;
use crate::build::topic_plan::Refusal;
use crate::dereference::ReplicaStatus;
use crate::fixtures::{QUICKSTART, validated};
use crate::kafka::{ClusterView, LiveTopic};
use crate::validate::InvalidSpec;

fn time(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

/// A Deployment of two replicas with this many of them available.
fn deployment(available: i32) -> Deployment {
    Deployment {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            generation: Some(1),
            ..Default::default()
        },
        spec: Some(DeploymentSpec {
            replicas: Some(2),
            ..DeploymentSpec::default()
        }),
        status: Some(DeploymentStatus {
            observed_generation: Some(1),
            replicas: Some(2),
            updated_replicas: Some(2),
            ready_replicas: Some(available),
            available_replicas: Some(available),
            ..DeploymentStatus::default()
        }),
    }
}

fn report(phase: Phase, lag_seconds: f64) -> StatusReport {
    StatusReport {
        version: "0.1.0".into(),
        phase,
        events: 10,
        lag_records: 0,
        lag_seconds,
        dead_letters: 0,
        model: ModelReport {
            algorithm: "Hybrid".into(),
            version: "1".into(),
            products: 3_677,
            customers: 4_372,
            trained_at: None,
            hit_rate_at_10: Some(0.1234),
        },
        log: DependencyState::Up,
        redis: DependencyState::Disabled,
        drift: None,
        notes: vec![],
    }
}

fn replica(ready: bool, report: Option<StatusReport>) -> ReplicaStatus {
    ReplicaStatus {
        pod: "shop-1".into(),
        ready,
        report,
    }
}

/// Everything as it should be.
fn healthy(pipeline: &ValidatedPipeline) -> Outcome<'_> {
    let topics: BTreeMap<String, LiveTopic> = pipeline
        .topics
        .iter()
        .map(|t| {
            (
                t.name.clone(),
                LiveTopic {
                    partitions: 12,
                    replication_factor: 3,
                    ..LiveTopic::default()
                },
            )
        })
        .collect();
    let outcome = |name: &String| TopicOutcome {
        name: name.clone(),
        origin: TopicOrigin::Created,
        refusal: None,
        note: None,
        done: vec![],
        warnings: vec![],
    };
    Outcome {
        pipeline,
        topics: TopicsOutcome {
            topics: topics.keys().map(outcome).collect(),
            view: Some(std::sync::Arc::new(ClusterView {
                cluster_id: Some("abc".into()),
                topics,
            })),
            ..TopicsOutcome::default()
        },
        statements: StatementsOutcome::default(),
        deployment: Ok(deployment(2)),
        replicas: Replicas {
            pods: vec![replica(true, Some(report(Phase::Serving, 0.0)))],
        },
        monitoring: vec![("serviceMonitor", Installed::Absent { required: false })],
        route: Installed::Disabled,
    }
}

fn condition<'a>(status: &'a RecommendationPipelineStatus, type_: &str) -> &'a Condition {
    status
        .conditions
        .iter()
        .find(|c| c.type_ == type_)
        .unwrap_or_else(|| panic!("no {type_}"))
}

fn has(status: &RecommendationPipelineStatus, type_: &str) -> bool {
    status.conditions.iter().any(|c| c.type_ == type_)
}

#[test]
fn a_healthy_pipeline_is_ready_with_every_column_filled() {
    let valid = validated(QUICKSTART);
    let mut status = status(None, &healthy(&valid), &time(1));
    status.model = figures(&healthy(&valid).replicas);
    insta::assert_yaml_snapshot!(status);
    assert!(is_ready(Some(&status)));
}

#[test]
fn the_same_outcome_later_is_the_same_status() {
    let valid = validated(QUICKSTART);
    let first = status(None, &healthy(&valid), &time(1));
    assert_eq!(status(Some(&first), &healthy(&valid), &time(2)), first);
}

#[test]
fn the_time_of_a_condition_moves_only_with_its_status() {
    let valid = validated(QUICKSTART);
    let first = status(None, &healthy(&valid), &time(1));
    let mut outcome = healthy(&valid);
    outcome.topics.topics[0].note = Some("kept long".into());
    outcome.replicas.pods.clear();
    let second = status(Some(&first), &outcome, &time(2));
    assert_eq!(condition(&second, "TopicsReady").message, "kept long");
    assert_eq!(condition(&second, "TopicsReady").last_transition_time, time(1));
    assert_eq!(condition(&second, "ModelReady").last_transition_time, time(2));
}

#[test]
fn a_paused_query_is_not_as_declared() {
    let pipeline = validated(QUICKSTART);
    let mut outcome = healthy(&pipeline);
    outcome.statements.configured = true;
    outcome.statements.statements = vec![StatementStatus {
        name: "purchases".into(),
        query_id: Some("CSAS_P_1".into()),
        state: "PAUSED".into(),
        ..StatementStatus::default()
    }];
    let status = status(None, &outcome, &time(0));
    let found = condition(&status, types::STATEMENTS_READY);
    assert_eq!(
        (found.status.as_str(), found.reason.as_str()),
        ("False", reasons::QUERY_FAILED)
    );
    assert!(found.message.contains("CSAS_P_1"), "{}", found.message);
}

#[test]
fn kafka_unreachable_is_unknown_and_keeps_what_was_last_seen() {
    let valid = validated(QUICKSTART);
    let before = status(None, &healthy(&valid), &time(1));
    let mut outcome = healthy(&valid);
    outcome.topics = TopicsOutcome::unreachable("no broker of kafka:9092 answers".into());
    let after = status(Some(&before), &outcome, &time(2));
    let topics = condition(&after, "TopicsReady");
    assert_eq!(
        (topics.status.as_str(), topics.reason.as_str()),
        ("Unknown", reasons::KAFKA_UNREACHABLE)
    );
    let ready = condition(&after, "Ready");
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("Unknown", reasons::KAFKA_UNREACHABLE)
    );
    assert_eq!(
        (after.topics, after.topics_summary),
        (before.topics, before.topics_summary)
    );
    assert!(
        has(&status(None, &outcome, &time(2)), "Reconciling"),
        "an outage passes: nothing for a person to do"
    );
}

#[test]
fn a_false_part_explains_ready_before_an_unknown_one() {
    let valid = validated(QUICKSTART);
    let mut outcome = healthy(&valid);
    outcome.replicas.pods.clear();
    outcome.topics.topics[2].refusal = Some(Refusal::new(
        reasons::REPLICATION_FACTOR_MISMATCH,
        "topic x has 1 replicas".into(),
    ));
    let status = status(None, &outcome, &time(1));
    let ready = condition(&status, "Ready");
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", reasons::REPLICATION_FACTOR_MISMATCH)
    );
    assert_eq!(status.topics_summary.as_deref(), Some("6/7"));
    assert!(
        has(&status, "Stalled") && !has(&status, "Reconciling"),
        "a person has to mend this"
    );
}

#[test]
fn unsupported_fields_and_missing_secrets_are_named() {
    let mut valid = validated("{kafka: {bootstrapServers: ['k:1']}}");
    valid.unsupported.push("spec.kafka.tls".to_owned());
    let status_ = status(None, &healthy(&valid), &time(1));
    let accepted = condition(&status_, "SpecAccepted");
    assert_eq!(
        (accepted.status.as_str(), accepted.reason.as_str()),
        ("False", reasons::UNSUPPORTED_FIELD)
    );
    assert!(accepted.message.contains("spec.kafka.tls"));
    let mut valid = validated(QUICKSTART);
    valid.missing_secrets = vec!["spec.x: there is no Secret y".into()];
    let status = status(None, &healthy(&valid), &time(1));
    assert_eq!(
        condition(&status, "SpecAccepted").reason,
        reasons::SECRET_NOT_FOUND
    );
}

#[test]
fn a_rollout_and_its_failures_are_told_apart() {
    let valid = validated(QUICKSTART);
    let reason = |deployment: Result<Deployment, String>| {
        let outcome = Outcome {
            deployment,
            ..healthy(&valid)
        };
        condition(&status(None, &outcome, &time(1)), "RecommenderAvailable")
            .reason
            .clone()
    };
    assert_eq!(reason(Ok(deployment(2))), reasons::AVAILABLE);
    assert_eq!(reason(Ok(deployment(1))), reasons::ROLLOUT_IN_PROGRESS);
    assert_eq!(
        reason(Ok(Deployment {
            status: None,
            ..deployment(0)
        })),
        reasons::ROLLOUT_IN_PROGRESS
    );
    assert_eq!(reason(Err("refused".into())), reasons::APPLY_FAILED);
    let with = |type_: &str, why: &str, message: &str| {
        let mut d = deployment(1);
        let condition = k8s_openapi::api::apps::v1::DeploymentCondition {
            type_: type_.into(),
            status: "True".into(),
            reason: Some(why.into()),
            message: Some(message.into()),
            ..Default::default()
        };
        d.status.as_mut().unwrap().conditions = Some(vec![condition]);
        Ok(d)
    };
    assert_eq!(
        reason(with("ReplicaFailure", "FailedCreate", "exceeded quota: q")),
        reasons::QUOTA_EXCEEDED
    );
    assert_eq!(
        reason(with("Progressing", "ProgressDeadlineExceeded", "")),
        reasons::MINIMUM_REPLICAS_UNAVAILABLE
    );
}

#[test]
fn the_worst_ready_replica_speaks_for_the_model() {
    let valid = validated(QUICKSTART);
    let model = |pods: Vec<ReplicaStatus>| {
        let outcome = Outcome {
            replicas: Replicas { pods },
            ..healthy(&valid)
        };
        let status = status(None, &outcome, &time(1));
        let c = condition(&status, "ModelReady");
        (c.status.clone(), c.reason.clone())
    };
    let serving = || replica(true, Some(report(Phase::Serving, 1.0)));
    let pair = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());
    assert_eq!(model(vec![serving()]), pair("True", reasons::SERVING));
    assert_eq!(
        model(vec![serving(), replica(false, None)]),
        pair("True", reasons::SERVING)
    );
    assert_eq!(model(vec![]), pair("Unknown", reasons::STATUS_UNREACHABLE));
    assert_eq!(
        model(vec![serving(), replica(true, None)]),
        pair("Unknown", reasons::STATUS_UNREACHABLE)
    );
    assert_eq!(
        model(vec![replica(false, Some(report(Phase::Loading, 0.0)))]),
        pair("False", reasons::LOADING)
    );
    let stale = replica(true, Some(report(Phase::Serving, 31.0)));
    assert_eq!(model(vec![serving(), stale]), pair("False", reasons::STALE));
}

#[test]
fn a_drifted_replica_is_told_beside_ready_and_not_by_it() {
    let valid = validated(QUICKSTART);
    let drifting = |drifted| {
        let mut told = report(Phase::Serving, 1.0);
        told.drift = Some(DriftReport {
            products: 0.4,
            event_types: 0.01,
            since_fit: None,
            threshold: 0.2,
            drifted,
        });
        replica(true, Some(told))
    };
    let told = |pods: Vec<ReplicaStatus>| {
        let outcome = Outcome {
            replicas: Replicas { pods },
            ..healthy(&valid)
        };
        status(None, &outcome, &time(1))
    };
    // One of two is enough: the other may have read less of the log.
    let status = told(vec![drifting(false), drifting(true)]);
    let drifted = condition(&status, "ModelDrifted");
    assert_eq!(
        (drifted.status.as_str(), drifted.reason.as_str()),
        ("True", reasons::DRIFTED)
    );
    assert!(is_ready(Some(&status)));
    assert!(!has(&told(vec![drifting(false)]), "ModelDrifted"));
    assert!(!has(&told(vec![replica(true, None)]), "ModelDrifted"));
}

#[test]
fn an_invalid_spec_stalls_and_leaves_the_other_conditions_as_they_are() {
    let valid = validated(QUICKSTART);
    let before = status(None, &healthy(&valid), &time(1));
    let error = InvalidSpec {
        path: "spec.topics[1].role".into(),
        problem: "twice".into(),
    };
    let found = conditions::invalid(&before.conditions, &error);
    let merged = conditions::merge(&before.conditions, &found, 4, &time(2));
    let status = RecommendationPipelineStatus {
        conditions: merged,
        ..before
    };
    assert_eq!(condition(&status, "Ready").reason, reasons::INVALID_SPEC);
    assert_eq!(condition(&status, "TopicsReady").status, "True");
    assert!(has(&status, "Stalled"));
}

#[test]
fn a_suspended_pipeline_keeps_the_value_of_ready() {
    let valid = validated(QUICKSTART);
    let before = status(None, &healthy(&valid), &time(1));
    let merged = conditions::merge(
        &before.conditions,
        &conditions::suspended(&before.conditions),
        4,
        &time(2),
    );
    let ready = merged.iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("True", reasons::SUSPENDED)
    );
    assert!(
        merged
            .iter()
            .any(|c| c.type_ == "Suspended" && c.status == "True")
    );
    assert!(merged.iter().any(|c| c.type_ == "ModelReady"));
}

#[test]
fn events_tell_transitions_once_and_not_what_every_pipeline_passes_through() {
    let valid = validated(QUICKSTART);
    let good = status(None, &healthy(&valid), &time(1)).conditions;
    let mut outcome = healthy(&valid);
    outcome.topics = TopicsOutcome::unreachable("no broker answers".into());
    let bad = status(None, &outcome, &time(2)).conditions;
    let reasons_of = |before: &[Condition], after: &[Condition]| {
        notes(std::iter::empty(), before, after)
            .into_iter()
            .map(|n| (n.warning, n.reason))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        reasons_of(&good, &bad),
        [(true, reasons::KAFKA_UNREACHABLE.to_owned())]
    );
    assert_eq!(reasons_of(&bad, &bad), []);
    let back = reasons_of(&bad, &good);
    assert_eq!(
        back,
        [
            (false, reasons::READY.to_owned()),
            (false, reasons::TOPICS_AS_DECLARED.to_owned())
        ]
    );
    let done = ["Created topic a".to_owned(), "Created topic b".to_owned()];
    assert_eq!(
        notes(done.iter(), &good, &good)[0].message,
        "Created topic a; Created topic b"
    );
}

#[test]
fn messages_hold_nothing_that_moves() {
    let valid = validated(QUICKSTART);
    let mut slow = healthy(&valid);
    slow.replicas.pods[0].report = Some(report(Phase::Serving, 45.0));
    let mut slower = healthy(&valid);
    slower.replicas.pods[0].report = Some(report(Phase::Serving, 99.0));
    let first = status(None, &slow, &time(1));
    assert_eq!(status(Some(&first), &slower, &time(2)), first);
}
