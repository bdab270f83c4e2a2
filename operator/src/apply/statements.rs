//! Carries out a plan for ksqlDB: in order, one at a time, and no further than the first that fails, because later
//! statements read what earlier ones make.

use std::collections::BTreeSet;

use recommendation_api::conditions::reasons;
use recommendation_api::pipeline::status::StatementStatus;

use super::drops::{self, Drop};
use super::record::{AppliedRecord, StatementRecord};
use crate::build::statement_plan::{StatementAction, StatementStep, downstream, pending};
use crate::build::topic_plan::Refusal;
use crate::ksqldb::{Applied, KsqlClient, KsqlError, Listing};
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
    /// Sources that were dropped, because no statement makes them any more.
    pub removed: Vec<String>,
    /// Sources whose query was replaced just now.
    pub replaced: Vec<String>,
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

    /// The server could not be looked at.
    pub fn unusable(error: &KsqlError) -> Self {
        let reason = match error {
            KsqlError::Unauthorized { .. } => reasons::AUTHORIZATION_FAILED,
            KsqlError::Credentials(_) | KsqlError::Client(_) => reasons::SECRET_NOT_FOUND,
            _ => return Self::unreachable(error.to_string()),
        };
        Self {
            configured: true,
            refusal: Some(Refusal::new(reason, error.advice())),
            ..Self::default()
        }
    }
}

/// What the plan will send that makes a new stream or table: that is recorded before it is sent. Nothing after a
/// refusal is sent.
pub fn creates(plan: &[StatementStep]) -> impl Iterator<Item = (usize, &StatementStep)> {
    plan.iter()
        .enumerate()
        .take_while(|(_, step)| !matches!(step.action, StatementAction::Refuse(_)))
        .filter(|(_, step)| matches!(step.action, StatementAction::Create(_)))
}

/// Carries out the plan. `known`: what was recorded before; `removed`: what is no longer wanted, in the order in which
/// it goes.
pub async fn apply(
    client: &KsqlClient,
    plan: &[StatementStep],
    removed: &[Drop],
    wanted: Policy,
    known: &AppliedRecord,
    listing: &Listing,
) -> StatementsOutcome {
    let mut run = Run {
        client,
        plan,
        policy: wanted,
        known,
        listing,
        again: BTreeSet::new(),
        outcome: StatementsOutcome {
            configured: true,
            ..StatementsOutcome::default()
        },
    };
    // First what nobody reads any more: a statement of another name may want its topic. What a statement still reads
    // goes after that statement was replaced.
    let rest = run.take_back(removed, true).await;
    for (position, step) in plan.iter().enumerate() {
        let (state, query_id, sequence) = run.step(step, position).await;
        run.outcome.statements.push(StatementStatus {
            name: step.name.clone(),
            sql_hash: step.hash.clone(),
            query_id,
            state,
            command_sequence_number: sequence,
        });
    }
    run.take_back(&rest, false).await;
    run.outcome
}

/// What the spec says about how statements are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// New queries read from the oldest record.
    pub earliest: bool,
    /// What cannot be replaced in place is dropped and made again.
    pub recreate: bool,
    /// Topics that ksqlDB made go with what is dropped.
    pub delete_topics: bool,
}

/// One plan being carried out.
struct Run<'a> {
    client: &'a KsqlClient,
    plan: &'a [StatementStep],
    policy: Policy,
    known: &'a AppliedRecord,
    listing: &'a Listing,
    /// Dropped in order to be made again.
    again: BTreeSet<String>,
    outcome: StatementsOutcome,
}

impl Run<'_> {
    fn stopped(&self) -> bool {
        self.outcome.refusal.is_some() || self.outcome.unreachable.is_some()
    }

    async fn step(&mut self, step: &StatementStep, position: usize) -> Line {
        if self.again.contains(&step.source) {
            return self.create(step, position).await;
        }
        match &step.action {
            StatementAction::Leave(_) if self.on_its_way(step).is_some() => self.arrive(step, position).await,
            StatementAction::Leave(query) => {
                let sequence = self.recorded(step).and_then(|record| record.sequence);
                self.keep(step, position, sequence);
                match query {
                    Some((id, state)) => (state.clone(), Some(id.clone()), sequence),
                    None => ("Applied".to_owned(), None, sequence),
                }
            }
            StatementAction::Refuse(refusal) => {
                let refusal = refusal.clone();
                self.outcome.refusal.get_or_insert(refusal);
                ("Refused".to_owned(), None, None)
            }
            _ if self.stopped() => waiting(),
            StatementAction::Recreate => self.recreate(step, position).await,
            StatementAction::Create(sql) => {
                let answer = self.client.execute(sql, self.policy.earliest && step.query).await;
                match answer {
                    Ok(applied) => self.sent(step, position, "Applied", applied),
                    Err(error) => self.failed(step, position, false, &error),
                }
            }
            StatementAction::Replace(sql) => {
                let answer = self.client.execute(sql, self.policy.earliest && step.query).await;
                match answer {
                    Ok(applied) => self.sent(step, position, "Replaced", applied),
                    Err(error) if error.is_not_upgradeable() && self.policy.recreate => {
                        self.recreate(step, position).await
                    }
                    Err(error) => self.failed(step, position, true, &error),
                }
            }
        }
    }

    /// Drops the statement's stream and those of this pipeline that read it, last first; they are made again when
    /// their turn comes.
    async fn recreate(&mut self, step: &StatementStep, position: usize) -> Line {
        let set = downstream(self.plan, &step.source);
        let drops: Vec<Drop> = self
            .plan
            .iter()
            .rev()
            .filter(|other| set.contains(&other.source) && other.is_listed(self.listing))
            .filter_map(|other| {
                let record = self.known.statements.get(&other.source)?;
                let mut drop = Drop::of(&other.source, record, self.policy.delete_topics);
                // It is used again at once.
                drop.leaves_topic = None;
                Some(drop)
            })
            .collect();
        let dropped = drops::drop_all(self.client, self.listing, &drops).await;
        self.again.extend(dropped.gone.iter().cloned());
        self.outcome.warnings.extend(dropped.warnings);
        if let Some((key, error)) = dropped.failed {
            if error.is_passing() {
                self.outcome.unreachable = Some(error.to_string());
                return waiting();
            }
            let message = format!(
                "statement {}: {key} cannot be dropped in order to be made again: {error}",
                step.name
            );
            self.outcome.refusal = Some(Refusal::new(reasons::UPGRADE_NOT_SUPPORTED, message));
            self.outcome.rejected = Some(step.name.clone());
            return ("Refused".to_owned(), None, None);
        }
        let names: Vec<&str> = dropped.gone.iter().map(String::as_str).collect();
        self.outcome.warnings.push(Note {
            warning: true,
            reason: "StatementRecreated".to_owned(),
            message: format!(
                "{} dropped and made again (upgradePolicy Recreate): their queries read {} once more",
                names.join(", "),
                if self.policy.earliest {
                    "everything"
                } else {
                    "from now on"
                }
            ),
        });
        self.create(step, position).await
    }

    /// Makes what was dropped a moment ago.
    async fn create(&mut self, step: &StatementStep, position: usize) -> Line {
        if self.stopped() {
            return waiting();
        }
        let Some(sql) = &step.create else {
            return waiting();
        };
        let answer = self.client.execute(sql, self.policy.earliest && step.query).await;
        match answer {
            Ok(applied) => self.sent(step, position, "Recreated", applied),
            Err(error) => self.failed(step, position, true, &error),
        }
    }

    /// Drops what is no longer wanted; what could not be. `first`: what something still reads is no refusal yet.
    async fn take_back(&mut self, drops: &[Drop], first: bool) -> Vec<Drop> {
        if drops.is_empty() || self.outcome.unreachable.is_some() {
            return drops.to_vec();
        }
        let dropped = drops::drop_all(self.client, self.listing, drops).await;
        self.outcome.done.extend(dropped.done);
        self.outcome.warnings.extend(dropped.warnings);
        if let Some((key, error)) = dropped.failed {
            if error.is_passing() {
                self.outcome.unreachable = Some(error.to_string());
            } else if !(first && error.is_still_used()) {
                let message = format!("{key} is no longer declared and cannot be dropped: {error}");
                let refusal = Refusal::new(reasons::STATEMENT_REJECTED, message);
                self.outcome.refusal.get_or_insert(refusal);
            }
        }
        let rest = drops.iter().filter(|drop| !dropped.gone.contains(&drop.key));
        let rest = rest.cloned().collect();
        self.outcome.removed.extend(dropped.gone);
        rest
    }

    fn recorded(&self, step: &StatementStep) -> Option<&StatementRecord> {
        self.known.statements.get(&step.source)
    }

    /// The record of a statement that the server took without telling what became of it.
    fn on_its_way(&self, step: &StatementStep) -> Option<(&StatementRecord, &str)> {
        let record = self.recorded(step)?;
        Some((record, record.command.as_deref()?))
    }

    async fn arrive(&mut self, step: &StatementStep, position: usize) -> Line {
        let Some((before, command)) = self.on_its_way(step) else {
            return waiting();
        };
        let (before, sequence) = (before.clone(), before.sequence);
        let answer = self.client.outcome(command, sequence.unwrap_or(-1)).await;
        let query_id = match answer {
            Ok(query_id) => query_id,
            // A server that lost its command topic: whether the stream is there shows at the next look.
            Err(KsqlError::Rejected { code: 40400, .. }) => None,
            Err(error) => {
                self.outcome.records.push((step.source.clone(), before));
                if let KsqlError::Rejected { message, .. } = &error {
                    let message = format!("statement {}: {message}", step.name);
                    let refusal = Refusal::new(reasons::STATEMENT_REJECTED, message);
                    self.outcome.refusal.get_or_insert(refusal);
                    return ("Refused".to_owned(), None, sequence);
                }
                self.outcome.unreachable.get_or_insert(error.to_string());
                return ("Waiting".to_owned(), None, sequence);
            }
        };
        self.keep(step, position, sequence);
        self.outcome.done.push(format!("Applied statement {}", step.name));
        let state = if query_id.is_some() { "RUNNING" } else { "Applied" };
        (state.to_owned(), query_id, sequence)
    }

    fn sent(&mut self, step: &StatementStep, position: usize, verb: &str, applied: Applied) -> Line {
        if applied.already_existed && verb == "Applied" {
            // Listed as absent a moment ago: someone else made it in between, perhaps with another definition.
            let message = format!(
                "{} was made by someone else just now: set namePrefix, or drop it",
                step.source
            );
            self.outcome.refusal = Some(Refusal::new(reasons::STATEMENT_CONFLICT, message));
            self.outcome.withdrawn.push(step.source.clone());
            return ("Refused".to_owned(), None, None);
        }
        self.outcome.done.push(format!("{verb} statement {}", step.name));
        if verb == "Replaced" && step.query {
            self.outcome.replaced.push(step.source.clone());
        }
        tracing::info!(statement = %step.name, source = %step.source, "{verb} a statement");
        self.keep(step, position, applied.sequence);
        let state = if applied.query_id.is_some() {
            "RUNNING"
        } else {
            "Applied"
        };
        (state.to_owned(), applied.query_id, applied.sequence)
    }

    fn failed(&mut self, step: &StatementStep, position: usize, replaces: bool, error: &KsqlError) -> Line {
        tracing::warn!(statement = %step.name, %error, "ksqlDB did not take a statement");
        if let KsqlError::Unfinished {
            command, sequence, ..
        } = error
        {
            self.outcome.unreachable = Some(error.to_string());
            let record = StatementRecord {
                applied: false,
                command: Some(command.clone()),
                ..self.record(step, position, Some(*sequence))
            };
            self.outcome.records.push((step.source.clone(), record));
            return ("Waiting".to_owned(), None, Some(*sequence));
        }
        if error.is_passing() {
            self.outcome.unreachable = Some(error.to_string());
            return waiting();
        }
        let reason = match error {
            KsqlError::Unauthorized { .. } => reasons::AUTHORIZATION_FAILED,
            _ if replaces && error.is_not_upgradeable() => reasons::UPGRADE_NOT_SUPPORTED,
            _ => reasons::STATEMENT_REJECTED,
        };
        let message = format!("statement {}: {}", step.name, error.advice());
        self.outcome.refusal = Some(Refusal::new(reason, message));
        self.outcome.rejected = Some(step.name.clone());
        if !replaces {
            self.outcome.withdrawn.push(step.source.clone());
        }
        ("Refused".to_owned(), None, None)
    }

    fn keep(&mut self, step: &StatementStep, position: usize, sequence: Option<i64>) {
        let record = self.record(step, position, sequence);
        self.outcome.records.push((step.source.clone(), record));
    }

    fn record(&self, step: &StatementStep, position: usize, sequence: Option<i64>) -> StatementRecord {
        let before = self.recorded(step);
        StatementRecord {
            applied: true,
            topic: step.topic.clone().or_else(|| before?.topic.clone()),
            made_topic: before.map_or(step.makes_topic, |before| before.made_topic),
            sequence,
            ..pending(step, position)
        }
    }
}

fn waiting() -> Line {
    ("Waiting".to_owned(), None, None)
}

type Line = (String, Option<String>, Option<i64>);
