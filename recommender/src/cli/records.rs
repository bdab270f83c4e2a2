//! `recommender records`: what the log holds of one customer, record by record (GDPR art. 15).
//!
//! A replica knows what it concluded from the log, not the records; to find one customer's, all of the log is read.

use std::collections::BTreeSet;
use std::process::ExitCode;

use comfy_table::{Table, presets};
use rdkafka::message::Message as _;
use recommendation_api::config::TopicNames;
use recommendation_api::event::rfc3339;
use serde::Deserialize;
use serde_json::{Value, json};

use super::place::Place;
use super::whole::Topics;
use super::{Output, print};
use crate::directory::Directory;
use crate::log::embedded::connect;
use crate::privacy::salts::Salts;
use crate::privacy::{Privacy, Subject};
use crate::service::privacy;

/// Characters of a value that a table shows.
const SHOWN: usize = 100;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    recommender records 17850 --embedded ./shop.db\n  \
    recommender records ann --config /etc/recommender/config/config.json --output json > ann.json\n\n\
    Aliases and the pseudonym are found by the records of the log itself. `GET /v1/customers/{id}` tells what was \
    concluded from them.")]
pub(super) struct Args {
    /// The customer's id
    customer: String,
    #[command(flatten)]
    place: Place,
}

/// One record of the customer.
struct Found {
    /// topic/partition/offset, or table/offset.
    place: String,
    time_ms: Option<i64>,
    value: Vec<u8>,
}

impl Found {
    /// As it was written, where that was JSON; as text otherwise.
    fn value(&self) -> Value {
        serde_json::from_slice(&self.value)
            .unwrap_or_else(|_| String::from_utf8_lossy(&self.value).into_owned().into())
    }
}

/// A record of the log.
struct Read<'a> {
    /// See [`Found`].
    place: String,
    time_ms: Option<i64>,
    key: &'a [u8],
    value: &'a [u8],
}

/// Reads records; a log of either kind.
trait Source {
    /// Hands over every record of these; none where they are not kept.
    fn read(&self, of: Of, take: &mut dyn FnMut(Read<'_>)) -> anyhow::Result<()>;
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Profiles,
    Salts,
    Events,
    Purchases,
    DeadLetters,
    Impressions,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = args.place.config()?;
    let output = args.place.output;
    let (names, found) = tokio::task::spawn_blocking(move || {
        let key = privacy(&config, &args.place.secrets_dir, &args.place.mode())?;
        let source: Box<dyn Source> = match &args.place.embedded {
            Some(path) => Box::new(Database(connect(path)?)),
            None => Box::new(Cluster {
                topics: Topics::open(&config, &args.place.secrets_dir, "recommender-records")?,
                names: config.topics,
            }),
        };
        find(&*source, &key, &args.customer)
    })
    .await??;
    tell(&names, &found, output)
}

/// Every name by which the log calls the customer, and the records.
fn find(
    source: &dyn Source,
    privacy: &Privacy,
    customer: &str,
) -> anyhow::Result<(BTreeSet<String>, Vec<Found>)> {
    // As replicas read them: what was deleted is not known any more, though it stands there until it is compacted.
    let (directory, salts) = (Directory::default(), Salts::default());
    source.read(Of::Profiles, &mut |record| {
        if let Ok(id) = std::str::from_utf8(record.key) {
            directory.set_profile(id, serde_json::from_slice(record.value).ok());
        }
    })?;
    source.read(Of::Salts, &mut |record| {
        if let Some(subject) = Subject::parse(record.key) {
            salts.take(subject, Some(record.value).filter(|value| !value.is_empty()));
        }
    })?;
    let mut names = BTreeSet::new();
    let mut new = vec![customer.to_owned()];
    // An alias may have aliases and a pseudonym, and a pseudonym may be somebody's alias.
    while let Some(name) = new.pop() {
        new.extend(directory.canonical(&name).map(|id| id.to_string()));
        new.extend(directory.aliases(&name).iter().map(ToString::to_string));
        new.extend(salts.pseudonym(&privacy.subject(&name)));
        names.insert(name);
        new.retain(|name| !names.contains(name));
    }
    let mut found = Vec::new();
    for of in [
        Of::Profiles,
        Of::Events,
        Of::Purchases,
        Of::DeadLetters,
        Of::Impressions,
    ] {
        source.read(of, &mut |record| {
            if is_theirs(&names, record.key, record.value) {
                found.push(Found {
                    place: record.place,
                    time_ms: record.time_ms,
                    value: record.value.to_vec(),
                });
            }
        })?;
    }
    Ok((names, found))
}

/// The part of a record that tells whose it is. ksqlDB's plain statements write names in upper case.
#[derive(Deserialize)]
struct Whose {
    #[serde(default, alias = "CUSTOMER_ID", alias = "Customer_id")]
    customer_id: Value,
}

fn is_theirs(names: &BTreeSet<String>, key: &[u8], value: &[u8]) -> bool {
    // A record without a value removes the one before.
    if value.is_empty() {
        return false;
    }
    match serde_json::from_slice::<Whose>(value).map(|whose| whose.customer_id) {
        Ok(Value::String(customer)) => names.contains(&customer),
        // Malformed ones are kept too: a number is no id, but it may be meant as one.
        Ok(Value::Number(number)) => names.contains(&number.to_string()),
        _ => std::str::from_utf8(key).is_ok_and(|key| names.contains(key)),
    }
}

struct Database(rusqlite::Connection);

impl Source for Database {
    fn read(&self, of: Of, take: &mut dyn FnMut(Read<'_>)) -> anyhow::Result<()> {
        let (table, columns) = match of {
            Of::Profiles => ("profiles", "seq, NULL, customer_id, value"),
            Of::Salts => ("salts", "seq, NULL, key, value"),
            Of::Events => ("events", "offset, time_ms, '', value"),
            Of::Purchases => return Ok(()),
            Of::DeadLetters => ("dead_letters", "offset, time_ms, '', value"),
            Of::Impressions => ("impressions", "offset, time_ms, customer_id, value"),
        };
        let mut statement = self
            .0
            .prepare(&format!("SELECT {columns} FROM {table} ORDER BY 1"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (offset, time_ms): (i64, Option<i64>) = (row.get(0)?, row.get(1)?);
            let key: String = row.get(2)?;
            let value: Option<Vec<u8>> = row.get(3)?;
            take(Read {
                place: format!("{table}/{offset}"),
                time_ms,
                key: key.as_bytes(),
                value: &value.unwrap_or_default(),
            });
        }
        Ok(())
    }
}

struct Cluster {
    topics: Topics,
    names: TopicNames,
}

impl Source for Cluster {
    fn read(&self, of: Of, take: &mut dyn FnMut(Read<'_>)) -> anyhow::Result<()> {
        let names = &self.names;
        let topic = match of {
            Of::Profiles => &names.profiles,
            Of::Salts => &names.salts,
            Of::Events => &names.events,
            Of::Purchases => &names.purchases,
            Of::DeadLetters => &names.dead_letter,
            Of::Impressions => &names.impressions,
        };
        // Without events there is nothing to tell, and a wrong configuration is likely; the others need not be there.
        if of != Of::Events && !self.topics.has(topic) {
            return Ok(());
        }
        self.topics.read(topic, |message| {
            take(Read {
                place: format!("{topic}/{}/{}", message.partition(), message.offset()),
                time_ms: message.timestamp().to_millis(),
                key: message.key().unwrap_or_default(),
                value: message.payload().unwrap_or_default(),
            });
        })
    }
}

fn tell(names: &BTreeSet<String>, found: &[Found], output: Output) -> anyhow::Result<ExitCode> {
    if output == Output::Json {
        let record = |found: &Found| json!({"place": found.place, "time": found.time_ms.map(rfc3339), "record": found.value()});
        let records: Vec<Value> = found.iter().map(record).collect();
        return print(format!("{}\n", json!({"customer_ids": names, "records": records})).as_bytes());
    }
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(["PLACE", "WRITTEN", "RECORD"]);
    for record in found {
        let text = record.value().to_string();
        let shown: String = text.chars().take(SHOWN).collect();
        let cut = if shown.len() < text.len() { "…" } else { "" };
        table.add_row([
            record.place.clone(),
            record.time_ms.map(rfc3339).unwrap_or_default(),
            format!("{shown}{cut}"),
        ]);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let count = found.len();
    print(format!("{table}\n{count} records of {}\n", names.join(", ")).as_bytes())
}

#[cfg(test)]
mod tests {
    use recommendation_api::records::Salt;

    use super::*;

    #[test]
    fn whose_a_record_is_stands_in_it_or_in_its_key() {
        let names = BTreeSet::from(["ann".to_owned(), "17".to_owned()]);
        for (key, value) in [
            ("", r#"{"customer_id":"ann"}"#),
            ("bob", r#"{"CUSTOMER_ID":"\u0061nn","EVENT_TYPE":"view"}"#),
            ("", r#"{"customer_id":17}"#),
            ("ann", "not json"),
            ("ann", r#"{"email":"a@b.example"}"#),
        ] {
            assert!(is_theirs(&names, key.as_bytes(), value.as_bytes()), "{value}");
        }
        for (key, value) in [
            ("ann", r#"{"customer_id":"bob"}"#),
            ("bob", "ann"),
            ("ann", ""),
            ("", "{}"),
        ] {
            assert!(!is_theirs(&names, key.as_bytes(), value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn aliases_and_pseudonyms_lead_to_all_of_a_customers_records() {
        let dir = tempfile::tempdir().unwrap();
        let database = connect(&dir.path().join("shop.db")).unwrap();
        let privacy = Privacy::default();
        let salt = |pseudonym: &str| {
            let pseudonym = pseudonym.to_owned();
            serde_json::to_vec(&Salt {
                salt: "00".repeat(32),
                pseudonym,
            })
            .unwrap()
        };
        let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| database.execute(sql, values).unwrap();
        run(
            "INSERT INTO profiles VALUES ('visit', 1, ?1), ('bob', 2, x'7b7d')",
            &[&r#"{"alias_of":"ann"}"#.as_bytes()],
        );
        for (seq, (name, pseudonym)) in [("visit", "pseudonym:1"), ("bob", "pseudonym:2")]
            .iter()
            .enumerate()
        {
            run(
                "INSERT INTO salts VALUES (?1, ?2, ?3)",
                &[&privacy.subject(name).hex(), &(seq as i64), &salt(pseudonym)],
            );
        }
        run(
            "INSERT INTO salts VALUES (?1, 9, NULL)",
            &[&privacy.subject("ann").hex()],
        );
        for customer in ["ann", "pseudonym:1", "pseudonym:2", "bob"] {
            let value = json!({"customer_id": customer}).to_string().into_bytes();
            run("INSERT INTO events (time_ms, value) VALUES (1, ?1)", &[&value]);
            run(
                "INSERT INTO impressions (time_ms, customer_id, value) VALUES (2, ?1, ?2)",
                &[&customer, &value],
            );
        }
        run(
            "INSERT INTO dead_letters VALUES (9, 3, 'NotJson', '', ?1)",
            &[&b"ann".as_slice()],
        );
        let (names, found) = find(&Database(database), &privacy, "ann").unwrap();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(names, ["ann", "pseudonym:1", "visit"]);
        let places: Vec<&str> = found.iter().map(|found| &*found.place).collect();
        let expected = [
            "profiles/1",
            "events/1",
            "events/2",
            "impressions/1",
            "impressions/2",
        ];
        assert_eq!(places, expected);
    }
}
