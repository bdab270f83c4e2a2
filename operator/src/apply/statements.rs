//! Carries out a plan for ksqlDB: in order, one at a time, and no further than the first that fails, because later
//! statements read what earlier ones make.

use recommendation_api::conditions::reasons;
use recommendation_api::pipeline::status::StatementStatus;

use super::record::{AppliedRecord, StatementRecord};
use crate::build::statement_plan::{StatementAction, StatementStep};
use crate::build::topic_plan::Refusal;
use crate::ksqldb::{Applied, KsqlClient, KsqlError};
use crate::recorder::Note;

/// What became of the statements.
#[derive(Clone, Debug, Default)]
pub struct StatementsOutcome {
    /// `spec.ksqldb` is set.
    pub configured: bool,
    /// ksqlDB cannot be used now, in words.
    pub unreachable: Option<String>,
    /// The first statement that is not as declared.
    pub refusal: Option<Refusal>,
    /// For status.
    pub statements: Vec<StatementStatus>,
    /// What was done, as sentences for events.
    pub done: Vec<String>,
    /// What people should look at, as events.
    pub warnings: Vec<Note>,
    /// Records to keep, by source.
    pub records: Vec<(String, StatementRecord)>,
    /// The statement that was sent and refused by the server.
    pub rejected: Option<String>,
    /// Sources whose announcement is to be taken back, because the server refused them.
    pub withdrawn: Vec<String>,
}

impl StatementsOutcome {
    /// ksqlDB cannot be used now.
    pub fn unreachable(message: String) -> Self {
        Self {
            configured: true,
            unreachable: Some(message),
            ..Self::default()
        }
    }
}

/// What the plan will send that makes a new stream or table: that is recorded before it is sent. Nothing after a
/// refusal is sent.
pub fn creates(plan: &[StatementStep]) -> impl Iterator<Item = &StatementStep> {
    plan.iter()
        .take_while(|step| !matches!(step.action, StatementAction::Refuse(_)))
        .filter(|step| matches!(step.action, StatementAction::Create(_)))
}

/// Carries out the plan. `known`: what was recorded before.
pub async fn apply(
    client: &KsqlClient,
    plan: &[StatementStep],
    earliest: bool,
    known: &AppliedRecord,
) -> StatementsOutcome {
    let mut outcome = StatementsOutcome {
        configured: true,
        ..StatementsOutcome::default()
    };
    for step in plan {
        let stopped = outcome.refusal.is_some() || outcome.unreachable.is_some();
        let (state, query_id, sequence) = match &step.action {
            StatementAction::Leave(_) if on_its_way(known, step).is_some() => {
                arrive(client, step, known, &mut outcome).await
            }
            StatementAction::Leave(query) => {
                let sequence = known
                    .statements
                    .get(&step.source)
                    .and_then(|record| record.sequence);
                outcome
                    .records
                    .push((step.source.clone(), record(step, sequence)));
                match query {
                    Some((id, state)) => (state.clone(), Some(id.clone()), sequence),
                    None => ("Applied".to_owned(), None, sequence),
                }
            }
            StatementAction::Refuse(refusal) => {
                let refusal = refusal.clone();
                outcome.refusal.get_or_insert(refusal);
                ("Refused".to_owned(), None, None)
            }
            _ if stopped => ("Waiting".to_owned(), None, None),
            StatementAction::Create(sql) | StatementAction::Replace(sql) => {
                let replaces = matches!(step.action, StatementAction::Replace(_));
                match client.execute(sql, earliest && step.query).await {
                    Ok(applied) => sent(step, replaces, applied, &mut outcome),
                    Err(error) => failed(step, replaces, &error, &mut outcome),
                }
            }
        };
        outcome.statements.push(StatementStatus {
            name: step.name.clone(),
            sql_hash: step.hash.clone(),
            query_id,
            state,
            command_sequence_number: sequence,
        });
    }
    outcome
}

/// The record of a statement that the server took without telling what became of it.
fn on_its_way<'a>(known: &'a AppliedRecord, step: &StatementStep) -> Option<(&'a StatementRecord, &'a str)> {
    let record = known.statements.get(&step.source)?;
    Some((record, record.command.as_deref()?))
}

async fn arrive(
    client: &KsqlClient,
    step: &StatementStep,
    known: &AppliedRecord,
    outcome: &mut StatementsOutcome,
) -> Line {
    let Some((before, command)) = on_its_way(known, step) else {
        return ("Waiting".to_owned(), None, None);
    };
    let sequence = before.sequence;
    let answer = client.outcome(command, sequence.unwrap_or(-1)).await;
    let query_id = match answer {
        Ok(query_id) => query_id,
        // A server that lost its command topic: whether the stream is there shows at the next look.
        Err(KsqlError::Rejected { code: 40400, .. }) => None,
        Err(error) => {
            outcome.records.push((step.source.clone(), before.clone()));
            if let KsqlError::Rejected { message, .. } = &error {
                let message = format!("statement {}: {message}", step.name);
                let refusal = Refusal::new(reasons::STATEMENT_REJECTED, message);
                outcome.refusal.get_or_insert(refusal);
                return ("Refused".to_owned(), None, sequence);
            }
            outcome.unreachable.get_or_insert(error.to_string());
            return ("Waiting".to_owned(), None, sequence);
        }
    };
    outcome
        .records
        .push((step.source.clone(), record(step, sequence)));
    outcome.done.push(format!("Applied statement {}", step.name));
    let state = if query_id.is_some() { "RUNNING" } else { "Applied" };
    (state.to_owned(), query_id, sequence)
}

type Line = (String, Option<String>, Option<i64>);

fn sent(step: &StatementStep, replaces: bool, applied: Applied, outcome: &mut StatementsOutcome) -> Line {
    if applied.already_existed && !replaces {
        // Listed as absent a moment ago: someone else made it in between, perhaps with another definition.
        let message = format!(
            "{} was made by someone else just now: set namePrefix, or drop it",
            step.source
        );
        outcome.refusal = Some(Refusal::new(reasons::STATEMENT_CONFLICT, message));
        outcome.withdrawn.push(step.source.clone());
        return ("Refused".to_owned(), None, None);
    }
    let verb = if replaces { "Replaced" } else { "Applied" };
    outcome.done.push(format!("{verb} statement {}", step.name));
    tracing::info!(statement = %step.name, source = %step.source, "{verb} a statement");
    outcome
        .records
        .push((step.source.clone(), record(step, applied.sequence)));
    let state = if applied.query_id.is_some() {
        "RUNNING"
    } else {
        "Applied"
    };
    (state.to_owned(), applied.query_id, applied.sequence)
}

fn failed(step: &StatementStep, replaces: bool, error: &KsqlError, outcome: &mut StatementsOutcome) -> Line {
    tracing::warn!(statement = %step.name, %error, "ksqlDB did not take a statement");
    match error {
        KsqlError::Unreachable { .. } | KsqlError::Protocol { .. } => {
            outcome.unreachable = Some(error.to_string());
            ("Waiting".to_owned(), None, None)
        }
        KsqlError::Unfinished {
            command, sequence, ..
        } => {
            outcome.unreachable = Some(error.to_string());
            let record = StatementRecord {
                applied: false,
                command: Some(command.clone()),
                ..record(step, Some(*sequence))
            };
            outcome.records.push((step.source.clone(), record));
            ("Waiting".to_owned(), None, Some(*sequence))
        }
        KsqlError::Unauthorized { .. } | KsqlError::Rejected { .. } => {
            let reason = if replaces && error.is_not_upgradeable() {
                reasons::UPGRADE_NOT_SUPPORTED
            } else {
                reasons::STATEMENT_REJECTED
            };
            outcome.refusal = Some(Refusal::new(reason, format!("statement {}: {error}", step.name)));
            outcome.rejected = Some(step.name.clone());
            if !replaces {
                outcome.withdrawn.push(step.source.clone());
            }
            ("Refused".to_owned(), None, None)
        }
    }
}

fn record(step: &StatementStep, sequence: Option<i64>) -> StatementRecord {
    StatementRecord {
        statement: step.name.clone(),
        hash: step.hash.clone(),
        applied: true,
        topic: step.topic.clone(),
        command: None,
        sequence,
    }
}
