//! Conditions from outcomes. Messages say what to do and hold nothing that moves: no counters, times or request ids.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use recommendation_api::conditions::{reasons, types};

use super::{Installed, Outcome, model, workload};
use crate::apply::statements::StatementsOutcome;
use crate::apply::topics::TopicsOutcome;
use crate::build::topic_plan::Refusal;
use crate::validate::{InvalidSpec, ValidatedPipeline};

/// The value of one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// CamelCase reason, never empty.
    pub reason: String,
    /// What to know and do.
    pub message: String,
}

impl Finding {
    /// It is so.
    pub fn yes(reason: &str, message: impl Into<String>) -> Self {
        Self {
            status: "True",
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// It is not so.
    pub fn no(reason: &str, message: impl Into<String>) -> Self {
        Self {
            status: "False",
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// It cannot be told.
    pub fn unknown(reason: &str, message: impl Into<String>) -> Self {
        Self {
            status: "Unknown",
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// A condition's type with its value.
pub type Typed = (&'static str, Finding);

/// Every condition of a pipeline whose spec is valid.
pub fn all(outcome: &Outcome<'_>) -> Vec<Typed> {
    let parts = vec![
        (
            types::SPEC_ACCEPTED,
            spec_accepted(outcome.pipeline, &outcome.route),
        ),
        (types::TOPICS_READY, topics_ready(&outcome.topics)),
        (types::STATEMENTS_READY, statements_ready(&outcome.statements)),
        (types::RECOMMENDER_AVAILABLE, available(outcome)),
        (
            types::MODEL_READY,
            model::ready(&outcome.replicas, outcome.pipeline.config.quality.max_lag_seconds),
        ),
        (types::MONITORING_READY, monitoring_ready(&outcome.monitoring)),
    ];
    // Abnormal when true, and nothing that the pipeline is not ready for.
    let drifted = model::drifted(&outcome.replicas).map(|finding| (types::MODEL_DRIFTED, finding));
    summarised(parts).into_iter().chain(drifted).collect()
}

/// The conditions of a pipeline whose spec cannot be acted on: the others keep what they say.
pub fn invalid(before: &[Condition], error: &InvalidSpec) -> Vec<Typed> {
    let mut parts = vec![(
        types::SPEC_ACCEPTED,
        Finding::no(reasons::INVALID_SPEC, error.to_string()),
    )];
    for type_ in PARTS.into_iter().skip(1) {
        let standing = before.iter().find(|condition| condition.type_ == type_);
        let finding = standing.map_or_else(
            || Finding::unknown(reasons::BLOCKED, "not looked at: the spec is not valid"),
            |condition| Finding {
                status: status(&condition.status),
                reason: condition.reason.clone(),
                message: condition.message.clone(),
            },
        );
        parts.push((type_, finding));
    }
    summarised(parts)
}

/// The conditions of a suspended pipeline: everything keeps what it says, Ready with the reason Suspended.
pub fn suspended(before: &[Condition]) -> Vec<Typed> {
    let mut kept: Vec<Typed> = Vec::new();
    let ready = before
        .iter()
        .find(|c| c.type_ == types::READY)
        .map_or("Unknown", |c| status(&c.status));
    kept.push((
        types::READY,
        Finding {
            status: ready,
            reason: reasons::SUSPENDED.to_owned(),
            message: "spec.suspend is true: the operator does not act; the children stay as they are"
                .to_owned(),
        },
    ));
    for type_ in PARTS {
        if let Some(condition) = before.iter().find(|condition| condition.type_ == type_) {
            let finding = Finding {
                status: status(&condition.status),
                reason: condition.reason.clone(),
                message: condition.message.clone(),
            };
            kept.push((type_, finding));
        }
    }
    kept.push((
        types::SUSPENDED,
        Finding::yes(reasons::SUSPENDED, "spec.suspend is true"),
    ));
    kept
}

/// The conditions of a pipeline whose deletion waits: everything keeps what it says.
pub fn cleanup_blocked(before: &[Condition], refusal: &Refusal) -> Vec<Typed> {
    let kept = [types::READY].into_iter().chain(PARTS).filter_map(|type_| {
        let condition = before.iter().find(|condition| condition.type_ == type_)?;
        let finding = Finding {
            status: status(&condition.status),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        };
        Some((type_, finding))
    });
    kept.chain([(
        types::CLEANUP_BLOCKED,
        Finding::yes(refusal.reason, refusal.message.clone()),
    )])
    .collect()
}

/// The conditions at first sight, before anything was done: an empty status reads as done to kstatus.
pub fn first_sight() -> Vec<Typed> {
    let message = "the pipeline was seen and is being looked at";
    vec![
        (types::READY, Finding::unknown(reasons::PROGRESSING, message)),
        (types::RECONCILING, Finding::yes(reasons::PROGRESSING, message)),
    ]
}

/// The parts of Ready, in the order in which they explain it.
const PARTS: [&str; 6] = [
    types::SPEC_ACCEPTED,
    types::TOPICS_READY,
    types::STATEMENTS_READY,
    types::RECOMMENDER_AVAILABLE,
    types::MODEL_READY,
    types::MONITORING_READY,
];

/// Reasons that pass only when a person does something.
const STALLED: [&str; 17] = [
    reasons::INVALID_SPEC,
    reasons::SECRET_NOT_FOUND,
    reasons::UNSUPPORTED_FIELD,
    reasons::PARTITION_DECREASE,
    reasons::REPLICATION_FACTOR_MISMATCH,
    reasons::TOPIC_CONFLICT,
    reasons::TOPIC_REJECTED,
    reasons::AUTHORIZATION_FAILED,
    reasons::CLUSTER_ID_MISMATCH,
    reasons::STATEMENT_REJECTED,
    reasons::STATEMENT_CONFLICT,
    reasons::UPGRADE_NOT_SUPPORTED,
    reasons::QUERY_FAILED,
    reasons::QUOTA_EXCEEDED,
    reasons::MINIMUM_REPLICAS_UNAVAILABLE,
    reasons::APPLY_FAILED,
    reasons::CRD_NOT_INSTALLED,
];

/// Ready before its parts, then the two that kstatus reads.
fn summarised(parts: Vec<Typed>) -> Vec<Typed> {
    let worst = parts
        .iter()
        .find(|(_, finding)| finding.status == "False")
        .or_else(|| parts.iter().find(|(_, finding)| finding.status == "Unknown"));
    let ready = worst.map_or_else(
        || Finding::yes(reasons::READY, "the pipeline is as declared and serves"),
        |(type_, finding)| Finding {
            message: format!("{type_}: {}", finding.message),
            ..finding.clone()
        },
    );
    let stalled = parts
        .iter()
        .find(|(_, finding)| finding.status == "False" && STALLED.contains(&finding.reason.as_str()))
        .map(|(type_, finding)| {
            let message = format!("{type_}: {}", finding.message);
            (
                types::STALLED,
                Finding {
                    status: "True",
                    reason: finding.reason.clone(),
                    message,
                },
            )
        });
    // kstatus: one or the other; what a person must mend first is not in progress.
    let reconciling = (ready.status != "True" && stalled.is_none()).then(|| {
        (
            types::RECONCILING,
            Finding {
                status: "True",
                reason: ready.reason.clone(),
                message: ready.message.clone(),
            },
        )
    });
    std::iter::once((types::READY, ready))
        .chain(parts)
        .chain(reconciling)
        .chain(stalled)
        .collect()
}

fn available(outcome: &Outcome<'_>) -> Finding {
    match &outcome.route {
        Installed::Failed(message) => Finding::no(reasons::APPLY_FAILED, message.clone()),
        _ => workload::available(&outcome.deployment),
    }
}

fn spec_accepted(pipeline: &ValidatedPipeline, route: &Installed) -> Finding {
    if !pipeline.missing_secrets.is_empty() {
        return Finding::no(reasons::SECRET_NOT_FOUND, pipeline.missing_secrets.join("; "));
    }
    if !pipeline.unsupported.is_empty() {
        let fields = pipeline.unsupported.join(", ");
        let message =
            format!("this version does not act on {fields}: remove it; everything else is acted on");
        return Finding::no(reasons::UNSUPPORTED_FIELD, message);
    }
    if matches!(route, Installed::Absent { .. }) {
        return Finding::no(
            reasons::CRD_NOT_INSTALLED,
            "spec.recommender.httpRoute: install the Gateway API's CRDs, or remove it; everything else is acted on",
        );
    }
    Finding::yes(reasons::ACCEPTED, "every field is valid and acted on")
}

fn topics_ready(outcome: &TopicsOutcome) -> Finding {
    let refused = outcome
        .refused
        .iter()
        .chain(outcome.topics.iter().filter_map(|topic| topic.refusal.as_ref()));
    let refused: Vec<_> = refused.collect();
    if let Some(first) = refused.first() {
        let messages: Vec<&str> = refused.iter().map(|refusal| refusal.message.as_str()).collect();
        return Finding::no(first.reason, messages.join("; "));
    }
    if let Some(message) = &outcome.unreachable {
        return Finding::unknown(reasons::KAFKA_UNREACHABLE, message.clone());
    }
    let missing: Vec<&str> = outcome
        .topics
        .iter()
        .filter(|topic| {
            !outcome
                .view
                .as_ref()
                .is_some_and(|view| view.topics.contains_key(&topic.name))
        })
        .map(|topic| topic.name.as_str())
        .collect();
    if !missing.is_empty() {
        let message = format!("the brokers do not list {} yet", missing.join(", "));
        return Finding::unknown(reasons::KAFKA_UNREACHABLE, message);
    }
    let notes: Vec<&str> = outcome
        .topics
        .iter()
        .filter_map(|topic| topic.note.as_deref())
        .collect();
    let message = if notes.is_empty() {
        "every topic is as declared".to_owned()
    } else {
        notes.join("; ")
    };
    Finding::yes(reasons::TOPICS_AS_DECLARED, message)
}

fn statements_ready(outcome: &StatementsOutcome) -> Finding {
    if !outcome.configured {
        return Finding::yes(reasons::NOT_CONFIGURED, "spec.ksqldb is not set");
    }
    if let Some(refusal) = &outcome.refusal {
        return Finding::no(refusal.reason, refusal.message.clone());
    }
    if let Some(message) = &outcome.unreachable {
        return Finding::unknown(reasons::KSQLDB_UNREACHABLE, message.clone());
    }
    if let Some(paused) = outcome.statements.iter().find(|s| s.state == "PAUSED") {
        let query = paused.query_id.as_deref().unwrap_or("its query");
        let message = format!("statement {}: query {query} is paused: RESUME it", paused.name);
        return Finding::no(reasons::QUERY_FAILED, message);
    }
    Finding::yes(
        reasons::STATEMENTS_APPLIED,
        "every statement is applied and its query runs",
    )
}

fn monitoring_ready(parts: &[(&'static str, Installed)]) -> Finding {
    let failed = parts.iter().find_map(|(_, part)| match part {
        Installed::Failed(message) => Some(message.clone()),
        _ => None,
    });
    if let Some(message) = failed {
        return Finding::no(reasons::APPLY_FAILED, message);
    }
    let named = |wanted: &dyn Fn(&Installed) -> bool| -> Vec<&str> {
        let found = parts.iter().filter(|(_, part)| wanted(part));
        found.map(|(name, _)| *name).collect()
    };
    let required = named(&|part| matches!(part, Installed::Absent { required: true }));
    if !required.is_empty() {
        let fields: Vec<String> = required
            .iter()
            .map(|name| format!("spec.monitoring.{name}.policy"))
            .collect();
        let message = format!(
            "install the Prometheus operator's CRDs, or set {} to IfAvailable",
            fields.join(" and ")
        );
        return Finding::no(reasons::CRD_NOT_INSTALLED, message);
    }
    let applied = named(&|part| *part == Installed::Applied);
    let absent = named(&|part| matches!(part, Installed::Absent { .. }));
    match (applied.is_empty(), absent.is_empty()) {
        (_, false) => Finding::yes(
            reasons::NOT_INSTALLED,
            format!(
                "the Prometheus operator's CRDs are not installed; not applied: {}",
                absent.join(", ")
            ),
        ),
        (true, true) => Finding::yes(reasons::NOT_CONFIGURED, "monitoring is disabled"),
        (false, true) => Finding::yes(
            reasons::MONITORING_APPLIED,
            format!("applied: {}", applied.join(", ")),
        ),
    }
}

/// New conditions with the times of the old: `lastTransitionTime` moves only with `status`.
pub fn merge(before: &[Condition], findings: &[Typed], generation: i64, now: &Time) -> Vec<Condition> {
    findings
        .iter()
        .map(|(type_, finding)| {
            let old = before
                .iter()
                .find(|c| c.type_ == *type_ && c.status == finding.status);
            Condition {
                type_: (*type_).to_owned(),
                status: finding.status.to_owned(),
                reason: finding.reason.clone(),
                message: shortened(&finding.message),
                last_transition_time: old.map_or_else(|| now.clone(), |c| c.last_transition_time.clone()),
                observed_generation: Some(generation),
            }
        })
        .collect()
}

/// The API server takes 32,768 characters; people take less.
fn shortened(message: &str) -> String {
    const LONGEST: usize = 4_000;
    if message.chars().count() <= LONGEST {
        return message.to_owned();
    }
    message.chars().take(LONGEST).chain("…".chars()).collect()
}

fn status(text: &str) -> &'static str {
    match text {
        "True" => "True",
        "False" => "False",
        _ => "Unknown",
    }
}
