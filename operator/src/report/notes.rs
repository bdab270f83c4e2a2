//! What is worth an Event: operations outside Kubernetes, and conditions that changed their mind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use recommendation_api::conditions::{reasons, types};

use crate::recorder::Note;

/// Reasons that every pipeline passes through.
const USUAL: [&str; 6] = [
    reasons::ROLLOUT_IN_PROGRESS,
    reasons::LOADING,
    reasons::STATUS_UNREACHABLE,
    reasons::WAITING_FOR_TOPICS,
    reasons::PROGRESSING,
    reasons::BLOCKED,
];

/// The notes of a reconcile: `done` in one, and each transition between the two lists of conditions once.
pub fn notes<'a>(
    done: impl Iterator<Item = &'a String>,
    before: &[Condition],
    after: &[Condition],
) -> Vec<Note> {
    // Events of one reason within minutes become a series that shows the first message only: one event for all.
    let done: Vec<&str> = done.map(String::as_str).collect();
    let mut notes = Vec::new();
    if !done.is_empty() {
        notes.push(Note {
            warning: false,
            reason: "Applied".to_owned(),
            message: done.join("; "),
        });
    }
    for condition in after {
        let old = before.iter().find(|old| old.type_ == condition.type_);
        let same = old.is_some_and(|old| old.status == condition.status && old.reason == condition.reason);
        // Ready repeats the reason of one of its parts, and kstatus' two repeat Ready.
        let ready = condition.type_ == types::READY;
        let repeats = (ready && condition.status != "True")
            || [types::RECONCILING, types::STALLED].contains(&condition.type_.as_str());
        let good = condition.status == "True";
        // That a part is well is news only if it was not.
        let expected = good
            && !ready
            && old.is_none_or(|old| old.status == "True" || USUAL.contains(&old.reason.as_str()));
        if same || repeats || expected || (!good && USUAL.contains(&condition.reason.as_str())) {
            continue;
        }
        notes.push(Note {
            warning: !good,
            reason: condition.reason.clone(),
            message: format!("{}: {}", condition.type_, condition.message),
        });
    }
    notes
}
