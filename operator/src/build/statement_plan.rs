//! What would be done about which statement. The server's own texts are rewritten, so nothing is compared with them:
//! a hash of what was sent, kept in the record, says whether a statement changed.

use std::collections::{BTreeMap, BTreeSet};

use recommendation_api::conditions::reasons;

use super::short_hash;
use super::topic_plan::Refusal;
use crate::apply::drops::Drop;
use crate::apply::record::{AppliedRecord, StatementRecord};
use crate::kafka::LiveTopic;
use crate::ksqldb::parse::{self, Kind, Parsed};
use crate::ksqldb::{Listing, variables};
use crate::validate::{DesiredKsqldb, DesiredStatement, DesiredTopic};

/// What to do about one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementStep {
    /// Name in the spec.
    pub name: String,
    /// The stream or table that it makes, or `INSERT INTO`'s query; empty if its text could not be read.
    pub source: String,
    /// Hash of its text, names filled in; the shapes of topics do not count.
    pub hash: String,
    /// The Kafka topic of what it made, as the server lists it.
    pub topic: Option<String>,
    /// It runs a query, which starts to read somewhere.
    pub query: bool,
    /// It is `INSERT INTO`.
    pub insert: bool,
    /// It is `CREATE SOURCE`.
    pub read_only: bool,
    /// The topic that it writes is not there: ksqlDB will make it.
    pub makes_topic: bool,
    /// What it reads and writes of other statements.
    pub needs: Vec<String>,
    /// What makes it from nothing; `None` while the shapes of its topics are not known.
    pub create: Option<String>,
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
    /// It cannot be replaced in place, and the policy says to drop it and make it again.
    Recreate,
    /// It is there. With the query that runs it: id and state.
    Leave(Option<(String, String)>),
    /// It cannot be done.
    Refuse(Refusal),
}

impl StatementStep {
    /// What the server lists of it already.
    pub fn is_listed(&self, listing: &Listing) -> bool {
        if self.insert {
            listing.query(&self.source).is_some()
        } else {
            listing.sources.contains_key(&self.source)
        }
    }
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
    let view = View {
        unshaped: names(ksqldb, topics)
            .into_iter()
            .chain(placeholders(topics))
            .collect(),
        shaped: names(ksqldb, topics)
            .into_iter()
            .chain(shapes(topics, live))
            .collect(),
        waits_for: missing.map(|topic| topic.name.as_str()),
        recreate: ksqldb.recreate,
        topics: live,
        record,
        listing,
    };
    let mut hashes = BTreeMap::new();
    let steps = ordered(&ksqldb.statements, &view.unshaped)
        .into_iter()
        .map(|statement| {
            let step = step(statement, &view, &hashes);
            hashes.insert(step.source.clone(), step.hash.clone());
            step
        });
    steps.collect()
}

/// Each statement after those that it needs, otherwise as they were written. What cannot be read and what goes round in
/// a circle stays in its place, and the server says what is wrong with it.
fn ordered<'a>(
    statements: &'a [DesiredStatement],
    variables: &BTreeMap<String, String>,
) -> Vec<&'a DesiredStatement> {
    let read = |statement: &DesiredStatement| {
        let text = variables::substitute(&statement.template, variables).ok()?;
        parse::parse(&text).ok()
    };
    let parsed: Vec<Option<Parsed>> = statements.iter().map(read).collect();
    let mut waiting: Vec<usize> = (0..statements.len()).collect();
    let mut order = Vec::new();
    while !waiting.is_empty() {
        let made_later = |i: usize, name: &String| {
            let others = waiting.iter().filter(|other| **other != i);
            let mut makes = others.filter_map(|other| parsed[*other].as_ref());
            makes.any(|other| other.kind != Kind::Insert && other.source == *name)
        };
        let free = |i: &usize| {
            let needs = parsed[*i].as_ref().map(|statement| statement.needs.as_slice());
            !needs.unwrap_or_default().iter().any(|name| made_later(*i, name))
        };
        let next = waiting.iter().position(free).unwrap_or(0);
        order.push(&statements[waiting.remove(next)]);
    }
    order
}

/// What was applied and is no longer wanted, in the order in which it goes. A statement that cannot be read may be the
/// one that makes it: then nothing goes.
pub fn removed(record: &AppliedRecord, plan: &[StatementStep], delete_topics: bool) -> Vec<Drop> {
    if plan.iter().any(|step| step.source.is_empty()) {
        return Vec::new();
    }
    let wanted: BTreeSet<&str> = plan.iter().map(|step| step.source.as_str()).collect();
    let mut gone: Vec<_> = record
        .statements
        .iter()
        .filter(|(key, _)| !wanted.contains(key.as_str()))
        .collect();
    gone.sort_by_key(|(_, statement)| std::cmp::Reverse((statement.position, statement.sequence)));
    let drops = gone
        .into_iter()
        .map(|(key, statement)| Drop::of(key, statement, delete_topics));
    drops.collect()
}

/// `source` and every step that needs it, directly or through others.
pub fn downstream(plan: &[StatementStep], source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::from([source.to_owned()]);
    // Statements are in an order in which each finds what it needs.
    for step in plan {
        if step.needs.iter().any(|name| found.contains(name)) {
            found.insert(step.source.clone());
        }
    }
    found
}

/// What every step is compared with.
struct View<'a> {
    /// Variables, shapes of topics left in place: what is hashed, because a topic that grows must not replace a stream,
    /// which ksqlDB refuses.
    unshaped: BTreeMap<String, String>,
    /// Everything filled in: what is sent.
    shaped: BTreeMap<String, String>,
    /// A topic that is not there yet.
    waits_for: Option<&'a str>,
    recreate: bool,
    topics: &'a BTreeMap<String, LiveTopic>,
    record: &'a AppliedRecord,
    listing: &'a Listing,
}

fn step(statement: &DesiredStatement, view: &View<'_>, hashes: &BTreeMap<String, String>) -> StatementStep {
    let name = statement.name.clone();
    let unshaped = variables::substitute(&statement.template, &view.unshaped).map_err(|e| e.to_string());
    let parsed = unshaped.and_then(|text| Ok((parse::parse(&text).map_err(|e| e.to_string())?, text)));
    let (parsed, text) = match parsed {
        Ok(parsed) => parsed,
        Err(problem) => return unreadable(name, &problem),
    };
    let mut step = StatementStep {
        hash: hash(&parsed, &text, hashes),
        topic: view
            .listing
            .sources
            .get(&parsed.source)
            .map(|source| source.topic.clone()),
        query: parsed.query,
        insert: parsed.kind == Kind::Insert,
        read_only: parsed.read_only,
        makes_topic: parsed.kind != Kind::Insert && !view.topics.contains_key(parsed.topic()),
        needs: parsed.needs.clone(),
        create: variables::substitute(&statement.template, &view.shaped).ok(),
        source: parsed.source.clone(),
        action: StatementAction::Recreate,
        name,
    };
    step.action = action(statement, &step, &parsed, view);
    step
}

fn unreadable(name: String, problem: &str) -> StatementStep {
    let message = format!("statement {name}: {problem}");
    StatementStep {
        name,
        source: String::new(),
        hash: String::new(),
        topic: None,
        query: false,
        insert: false,
        read_only: false,
        makes_topic: false,
        needs: Vec::new(),
        create: None,
        action: StatementAction::Refuse(Refusal::new(reasons::STATEMENT_REJECTED, message)),
    }
}

/// `SELECT *` means other columns once what it reads has others: it is then another statement, of the same text.
fn hash(parsed: &Parsed, text: &str, hashes: &BTreeMap<String, String>) -> String {
    let mut whole = text.to_owned();
    if parsed.star {
        for hash in parsed.needs.iter().filter_map(|name| hashes.get(name)) {
            whole.push('\n');
            whole.push_str(hash);
        }
    }
    short_hash(whole.as_bytes())
}

fn action(
    statement: &DesiredStatement,
    step: &StatementStep,
    parsed: &Parsed,
    view: &View<'_>,
) -> StatementAction {
    let listed = step.is_listed(view.listing);
    let Some(known) = view.record.statements.get(&step.source) else {
        if listed {
            let message = format!(
                "{} exists on the ksqlDB server and this pipeline did not make it: set namePrefix, or drop it",
                step.source
            );
            return StatementAction::Refuse(Refusal::new(reasons::STATEMENT_CONFLICT, message));
        }
        return send(statement, view, false);
    };
    let same = known.hash == step.hash;
    // On its way: whether it arrived is asked, sending it again would be another statement.
    if same && known.command.is_some() {
        return StatementAction::Leave(None);
    }
    match (listed, same) {
        (false, _) if step.insert && known.applied && same && !view.recreate => {
            let message = format!(
                "statement {}: query {} is gone. Bring it back by hand, or set upgradePolicy Recreate, which reads \
                 everything once more",
                statement.name, step.source
            );
            StatementAction::Refuse(Refusal::new(reasons::QUERY_FAILED, message))
        }
        (false, _) => send(statement, view, false),
        (true, true) => leave(statement, step, view),
        (true, false) if parsed.kind == Kind::Insert => insert_again(statement, view),
        (true, false) => send(statement, view, true),
    }
}

/// There is no OR REPLACE of `INSERT INTO`.
fn insert_again(statement: &DesiredStatement, view: &View<'_>) -> StatementAction {
    if !view.recreate {
        let message = format!(
            "statement {}: INSERT INTO cannot be replaced in place. Give its query another QUERY_ID, or set \
             upgradePolicy Recreate, which reads everything once more",
            statement.name
        );
        return StatementAction::Refuse(Refusal::new(reasons::UPGRADE_NOT_SUPPORTED, message));
    }
    match send(statement, view, false) {
        StatementAction::Create(_) => StatementAction::Recreate,
        other => other,
    }
}

/// The text to send; it waits for topics whose shapes it may name.
fn send(statement: &DesiredStatement, view: &View<'_>, replace: bool) -> StatementAction {
    let refuse = |reason, problem: String| {
        StatementAction::Refuse(Refusal::new(
            reason,
            format!("statement {}: {problem}", statement.name),
        ))
    };
    if let Some(topic) = view.waits_for {
        return refuse(reasons::WAITING_FOR_TOPICS, format!("waits for topic {topic}"));
    }
    let sql = match variables::substitute(&statement.template, &view.shaped) {
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

fn leave(statement: &DesiredStatement, step: &StatementStep, view: &View<'_>) -> StatementAction {
    if !step.query {
        return StatementAction::Leave(None);
    }
    let query = if step.insert {
        view.listing.query(&step.source)
    } else {
        view.listing.writer(&step.source)
    };
    let Some(query) = query else {
        // IF NOT EXISTS would not bring the query back, and OR REPLACE starts it with new offsets.
        if view.recreate {
            return send(statement, view, true);
        }
        let message = format!(
            "statement {}: the query that writes {} is gone. Run the statement again with CREATE OR REPLACE, drop {}, \
             or set upgradePolicy Recreate; each reads everything once more",
            statement.name, step.source, step.source
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
pub fn pending(step: &StatementStep, position: usize) -> StatementRecord {
    StatementRecord {
        statement: step.name.clone(),
        hash: step.hash.clone(),
        applied: false,
        made_topic: step.makes_topic,
        read_only: step.read_only,
        insert: step.insert,
        position: u32::try_from(position).unwrap_or(u32::MAX),
        ..StatementRecord::default()
    }
}

#[cfg(test)]
mod tests;
