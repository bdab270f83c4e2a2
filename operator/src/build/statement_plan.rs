//! What would be done about which statement. The server's own texts are rewritten, so nothing is compared with them:
//! a hash of what was sent, kept in the record, says whether a statement changed.

use std::collections::BTreeMap;

use recommendation_api::conditions::reasons;

use super::short_hash;
use super::topic_plan::Refusal;
use crate::apply::record::{AppliedRecord, StatementRecord};
use crate::kafka::LiveTopic;
use crate::ksqldb::parse::{self, Parsed};
use crate::ksqldb::{Listing, variables};
use crate::validate::{DesiredKsqldb, DesiredStatement, DesiredTopic};

/// What to do about one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementStep {
    /// Name in the spec.
    pub name: String,
    /// The stream or table that it makes; empty if its text could not be read.
    pub source: String,
    /// Hash of its text, names filled in; the shapes of topics do not count.
    pub hash: String,
    /// It runs a query, which starts to read somewhere.
    pub query: bool,
    /// What to do.
    pub action: StatementAction,
}

/// What to do about a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatementAction {
    /// Send this text.
    Create(String),
    /// Send this text, which says OR REPLACE.
    Replace(String),
    /// It is there. With the query that runs it: id and state.
    Leave(Option<(String, String)>),
    /// It cannot be done.
    Refuse(Refusal),
}

/// Compares the statements with what was applied and what the server lists.
pub fn plan(
    ksqldb: &DesiredKsqldb,
    topics: &[DesiredTopic],
    live: &BTreeMap<String, LiveTopic>,
    record: &AppliedRecord,
    listing: &Listing,
) -> Vec<StatementStep> {
    let names = names(ksqldb, topics);
    let shapes = shapes(topics, live);
    ksqldb
        .statements
        .iter()
        .map(|statement| step(statement, &names, &shapes, record, listing))
        .collect()
}

fn step(
    statement: &DesiredStatement,
    names: &BTreeMap<String, String>,
    shapes: &BTreeMap<String, String>,
    record: &AppliedRecord,
    listing: &Listing,
) -> StatementStep {
    let refused = |source: String, hash: String, reason, message| StatementStep {
        name: statement.name.clone(),
        source,
        hash,
        query: false,
        action: StatementAction::Refuse(Refusal { reason, message }),
    };
    let reject = |message: String| {
        let message = format!("statement {}: {message}", statement.name);
        refused(String::new(), String::new(), reasons::STATEMENT_REJECTED, message)
    };
    let mut all = names.clone();
    all.extend(shapes.clone());
    let sql = match variables::substitute(&statement.template, &all) {
        Ok(sql) => sql,
        Err(error) => return reject(error.to_string()),
    };
    let parsed = match parse::parse(&sql) {
        Ok(parsed) => parsed,
        Err(error) => return reject(error.to_string()),
    };
    // Shapes are left in place for the hash: a topic that grows must not replace a stream, which ksqlDB refuses.
    let named = all.keys().map(|key| {
        (
            key.clone(),
            names.get(key).cloned().unwrap_or_else(|| format!("${{{key}}}")),
        )
    });
    let hashed = variables::substitute(&statement.template, &named.collect()).unwrap_or_else(|_| sql.clone());
    let hash = short_hash(hashed.as_bytes());
    let known = record.statements.get(&parsed.source);
    let action = match (listing.sources.get(&parsed.source), known) {
        (None, _) => StatementAction::Create(sql),
        (Some(_), None) => {
            let message = format!(
                "{} exists on the ksqlDB server and this pipeline did not make it: set namePrefix, or drop it",
                parsed.source
            );
            return refused(parsed.source, hash, reasons::STATEMENT_CONFLICT, message);
        }
        (Some(_), Some(known)) if known.hash == hash => leave(statement, &parsed, listing),
        (Some(_), Some(_)) => StatementAction::Replace(parsed.replacing),
    };
    StatementStep {
        name: statement.name.clone(),
        source: parsed.source,
        hash,
        query: parsed.query,
        action,
    }
}

fn leave(statement: &DesiredStatement, parsed: &Parsed, listing: &Listing) -> StatementAction {
    if !parsed.query {
        return StatementAction::Leave(None);
    }
    let Some(query) = listing.writer(&parsed.source) else {
        // IF NOT EXISTS would not bring the query back, and OR REPLACE would start it with new offsets: a person
        // decides.
        let message = format!(
            "statement {}: the query that writes {} is gone. Run the statement again with CREATE OR REPLACE, or drop {}",
            statement.name, parsed.source, parsed.source
        );
        return StatementAction::Refuse(Refusal::new(reasons::QUERY_FAILED, message));
    };
    let state = query.effective_state();
    if state == "ERROR" {
        let message = format!(
            "statement {}: query {} is in state ERROR; see ksqlDB's log",
            statement.name, query.id
        );
        return StatementAction::Refuse(Refusal::new(reasons::QUERY_FAILED, message));
    }
    StatementAction::Leave(Some((query.id.clone(), state.to_owned())))
}

/// Variables that name things: topics, the default streams and tables, and the user's own.
fn names(ksqldb: &DesiredKsqldb, topics: &[DesiredTopic]) -> BTreeMap<String, String> {
    let topics = topics
        .iter()
        .map(|topic| (format!("{}_topic", topic.key), topic.name.clone()));
    topics.chain(ksqldb.variables.clone()).collect()
}

/// Variables that tell the shape of topics: a sink's statement must say exactly what its topic has.
fn shapes(topics: &[DesiredTopic], live: &BTreeMap<String, LiveTopic>) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for topic in topics {
        let Some(found) = live.get(&topic.name) else {
            continue;
        };
        values.insert(format!("{}_partitions", topic.key), found.partitions.to_string());
        values.insert(
            format!("{}_replicas", topic.key),
            found.replication_factor.to_string(),
        );
        let retention = found
            .config
            .get("retention.ms")
            .cloned()
            .unwrap_or_else(|| "-1".to_owned());
        values.insert(format!("{}_retention_ms", topic.key), retention);
    }
    values
}

/// A record of a statement that is about to be sent: should the operator die in between, what it finds is its own.
pub fn pending(step: &StatementStep) -> StatementRecord {
    StatementRecord {
        statement: step.name.clone(),
        hash: step.hash.clone(),
        applied: false,
        ..StatementRecord::default()
    }
}

#[cfg(test)]
mod tests;
