//! Takes back what this pipeline made on a ksqlDB server: what was made last goes first, because later statements
//! read what earlier ones made. What is not listed is gone already.

use crate::apply::record::StatementRecord;
use crate::ksqldb::{KsqlClient, KsqlError, Listing, Source, SourceKind};
use crate::recorder::Note;

/// One thing to take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drop {
    /// Its key in the record: the stream or table, or the query of `INSERT INTO`.
    pub key: String,
    /// It is a query.
    pub insert: bool,
    /// Delete the topic too, which ksqlDB made.
    pub delete_topic: bool,
    /// The topic that ksqlDB made and that stays.
    pub leaves_topic: Option<String>,
}

impl Drop {
    /// What the record says about `key`. `delete_topics`: those that ksqlDB made go too.
    pub fn of(key: &str, record: &StatementRecord, delete_topics: bool) -> Self {
        let made = record.made_topic && !record.read_only;
        Self {
            key: key.to_owned(),
            insert: record.insert,
            delete_topic: made && delete_topics,
            leaves_topic: record.topic.clone().filter(|_| made && !delete_topics),
        }
    }

    /// The statement that takes it back; `None` if it is not there.
    pub fn statement(&self, listing: &Listing) -> Option<String> {
        if self.insert {
            let query = listing.queries.iter().find(|query| query.id == self.key)?;
            return Some(format!("TERMINATE {};", query.id.to_lowercase()));
        }
        let source = listing.sources.get(&self.key)?;
        Some(drop_statement(source, self.delete_topic))
    }
}

/// `DROP` for a listed source; its own query ends with it.
pub fn drop_statement(source: &Source, delete_topic: bool) -> String {
    let kind = match source.kind {
        SourceKind::Stream => "STREAM",
        SourceKind::Table => "TABLE",
    };
    let plain = source
        .name
        .chars()
        .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    // An unquoted name is read in upper case, any other needs its quotes.
    let name = if plain {
        source.name.to_lowercase()
    } else {
        format!("`{}`", source.name)
    };
    let topic = if delete_topic { " DELETE TOPIC" } else { "" };
    format!("DROP {kind} {name}{topic};")
}

/// How far it came.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Keys of what is gone now, or was before.
    pub gone: Vec<String>,
    /// What was done, as sentences for events.
    pub done: Vec<String>,
    /// What people should look at.
    pub warnings: Vec<Note>,
    /// The first that could not be taken back; what comes after it was not tried.
    pub failed: Option<(String, KsqlError)>,
}

/// Takes these back, in this order, up to the first that fails.
pub async fn drop_all(client: &KsqlClient, listing: &Listing, drops: &[Drop]) -> Dropped {
    let mut dropped = Dropped::default();
    for drop in drops {
        // DROP IF EXISTS of something absent would still write a command.
        let Some(statement) = drop.statement(listing) else {
            dropped.gone.push(drop.key.clone());
            continue;
        };
        let mut answer = client.execute(&statement, false).await;
        let mut left = drop.leaves_topic.clone();
        if let (Err(error), Some(source)) = (&answer, listing.sources.get(&drop.key))
            && error.is_shared_topic()
        {
            left = Some(source.topic.clone());
            answer = client.execute(&drop_statement(source, false), false).await;
        }
        match answer {
            Ok(_) => {
                tracing::info!(source = %drop.key, "dropped");
                dropped.done.push(format!("Dropped {}", drop.key));
                dropped.gone.push(drop.key.clone());
                dropped.warnings.extend(left.map(|topic| kept(&drop.key, &topic)));
            }
            // Somebody was faster.
            Err(error) if is_unknown(&error) => dropped.gone.push(drop.key.clone()),
            Err(error) => {
                tracing::warn!(source = %drop.key, %error, "cannot be dropped");
                dropped.failed = Some((drop.key.clone(), error));
                break;
            }
        }
    }
    dropped
}

fn kept(source: &str, topic: &str) -> Note {
    Note {
        warning: true,
        reason: "TopicKept".to_owned(),
        message: format!(
            "{source} was dropped; its topic {topic}, which ksqlDB made, stays: delete it with Kafka's tools if \
             nobody needs it (deletionPolicy Delete does it by itself, unless something else uses it)"
        ),
    }
}

fn is_unknown(error: &KsqlError) -> bool {
    matches!(error, KsqlError::Rejected { message, .. }
        if message.contains("Unknown queryId") || message.ends_with("does not exist."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_plain_are_quoted_when_dropped() {
        let source = |kind, name: &str| Source {
            kind,
            name: name.to_owned(),
            topic: String::new(),
        };
        assert_eq!(
            drop_statement(&source(SourceKind::Table, "A_1"), false),
            "DROP TABLE a_1;"
        );
        assert_eq!(
            drop_statement(&source(SourceKind::Stream, "lower"), true),
            "DROP STREAM `lower` DELETE TOPIC;"
        );
    }

    #[test]
    fn only_topics_that_ksqldb_made_go_and_only_where_that_is_asked_for() {
        let record = |made_topic, read_only| StatementRecord {
            topic: Some("T".to_owned()),
            made_topic,
            read_only,
            ..StatementRecord::default()
        };
        let fate = |record: &StatementRecord, delete| {
            let drop = Drop::of("S", record, delete);
            (drop.delete_topic, drop.leaves_topic.is_some())
        };
        assert_eq!(fate(&record(true, false), true), (true, false));
        assert_eq!(fate(&record(true, false), false), (false, true));
        assert_eq!(fate(&record(false, false), true), (false, false));
        // The server refuses DELETE TOPIC there (recorded).
        assert_eq!(fate(&record(true, true), true), (false, false));
    }
}
