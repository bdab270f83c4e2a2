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
    /// The Kafka topic of what it made, as the server lists it.
    pub topic: Option<String>,
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

/// Compares the statements with what was applied and what the server lists. Nothing is sent before every topic is
/// `live`; what is applied already does not care: with Kafka away it goes on.
pub fn plan(
    ksqldb: &DesiredKsqldb,
    topics: &[DesiredTopic],
    live: &BTreeMap<String, LiveTopic>,
    record: &AppliedRecord,
    listing: &Listing,
) -> Vec<StatementStep> {
    let missing = topics.iter().find(|topic| !live.contains_key(&topic.name));
    let texts = Texts {
        unshaped: names(ksqldb, topics)
            .into_iter()
            .chain(placeholders(topics))
            .collect(),
        shaped: names(ksqldb, topics)
            .into_iter()
            .chain(shapes(topics, live))
            .collect(),
        waits_for: missing.map(|topic| topic.name.as_str()),
    };
    ksqldb
        .statements
        .iter()
        .map(|statement| step(statement, &texts, record, listing))
        .collect()
}

/// The two readings of a template.
struct Texts<'a> {
    /// Shapes of topics left in place: what is hashed, because a topic that grows must not replace a stream, which
    /// ksqlDB refuses.
    unshaped: BTreeMap<String, String>,
    /// Everything filled in: what is sent.
    shaped: BTreeMap<String, String>,
    /// A topic that is not there yet.
    waits_for: Option<&'a str>,
}

fn step(
    statement: &DesiredStatement,
    texts: &Texts<'_>,
    record: &AppliedRecord,
    listing: &Listing,
) -> StatementStep {
    let name = statement.name.clone();
    let unshaped = variables::substitute(&statement.template, &texts.unshaped).map_err(|e| e.to_string());
    let parsed = unshaped.and_then(|text| Ok((parse::parse(&text).map_err(|e| e.to_string())?, text)));
    let (parsed, text) = match parsed {
        Ok(parsed) => parsed,
        Err(problem) => {
            let message = format!("statement {name}: {problem}");
            let action = StatementAction::Refuse(Refusal::new(reasons::STATEMENT_REJECTED, message));
            return StatementStep {
                name,
                source: String::new(),
                hash: String::new(),
                topic: None,
                query: false,
                action,
            };
        }
    };
    let hash = short_hash(text.as_bytes());
    let known = record.statements.get(&parsed.source);
    let topic = listing
        .sources
        .get(&parsed.source)
        .map(|source| source.topic.clone());
    let action = match (listing.sources.get(&parsed.source), known) {
        (Some(_), None) => {
            let message = format!(
                "{} exists on the ksqlDB server and this pipeline did not make it: set namePrefix, or drop it",
                parsed.source
            );
            StatementAction::Refuse(Refusal::new(reasons::STATEMENT_CONFLICT, message))
        }
        // On its way: whether it arrived is asked, sending it again would be another statement.
        (_, Some(known)) if known.hash == hash && known.command.is_some() => StatementAction::Leave(None),
        (Some(_), Some(known)) if known.hash == hash => leave(statement, &parsed, listing),
        (listed, _) => send(statement, texts, listed.is_some()),
    };
    StatementStep {
        name,
        source: parsed.source,
        hash,
        topic,
        query: parsed.query,
        action,
    }
}

/// The text to send; it waits for topics whose shapes it may name.
fn send(statement: &DesiredStatement, texts: &Texts<'_>, replace: bool) -> StatementAction {
    let refuse = |reason, problem: String| {
        StatementAction::Refuse(Refusal::new(
            reason,
            format!("statement {}: {problem}", statement.name),
        ))
    };
    if let Some(topic) = texts.waits_for {
        return refuse(reasons::WAITING_FOR_TOPICS, format!("waits for topic {topic}"));
    }
    let sql = match variables::substitute(&statement.template, &texts.shaped) {
        Ok(sql) => sql,
        Err(error) => return refuse(reasons::STATEMENT_REJECTED, error.to_string()),
    };
    if !replace {
        return StatementAction::Create(sql);
    }
    match parse::parse(&sql) {
        Ok(parsed) => StatementAction::Replace(parsed.replacing),
        Err(error) => refuse(reasons::STATEMENT_REJECTED, error.to_string()),
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
        let retention = found.config.get("retention.ms").map_or("-1", String::as_str);
        values.insert(format!("{}_partitions", topic.key), found.partitions.to_string());
        values.insert(
            format!("{}_replicas", topic.key),
            found.replication_factor.to_string(),
        );
        values.insert(format!("{}_retention_ms", topic.key), retention.to_owned());
    }
    values
}

/// The same variables, each standing for itself.
fn placeholders(topics: &[DesiredTopic]) -> BTreeMap<String, String> {
    let names = topics.iter().flat_map(|topic| {
        ["partitions", "replicas", "retention_ms"].map(|shape| format!("{}_{shape}", topic.key))
    });
    names.map(|name| (name.clone(), format!("${{{name}}}"))).collect()
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
