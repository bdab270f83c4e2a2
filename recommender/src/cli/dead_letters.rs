//! `recommender dead-letters`: what could not be understood, and sending it again.

use std::collections::HashSet;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use comfy_table::{Table, presets};
use rdkafka::message::{Headers as _, Message as _};
use recommendation_api::event::rfc3339;
use recommendation_api::records::dead_letter;
use recommendation_api::{Event, RecommenderConfig};
use serde_json::{Map, Value, json};

use super::place::Place;
use super::whole::Topics;
use super::{Output, print};
use crate::log::Log;
use crate::log::embedded::{EmbeddedLog, connect};
use crate::log::kafka::KafkaLog;

/// Characters of a value that a table shows.
const SHOWN: usize = 60;
/// Letters sent at once.
const CHUNK: usize = 500;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    recommender dead-letters list --config config.json --reason MissingField\n  \
    recommender dead-letters replay --embedded ./shop.db --set event_type=view --dry-run\n  \
    recommender dead-letters replay --config config.json --since 2026-01-31T00:00:00Z --yes")]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    /// Only letters of this reason: NotJson, MissingField, InvalidField
    #[arg(long, value_name = "REASON", global = true)]
    reason: Option<String>,
    /// Only letters written since then (RFC 3339)
    #[arg(long, value_name = "TIME", global = true)]
    since: Option<jiff::Timestamp>,
    /// Only the letter of this record, as `list` prints it (topic/partition/offset)
    #[arg(long, value_name = "ID", global = true)]
    id: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", global = true)]
    limit: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List letters, oldest first
    List,
    /// Send letters to the events again: as they are, or with fields set. A letter counts once, however often it
    /// is sent
    Replay {
        /// Set a field before sending (`--set event_type=view`); may be repeated
        #[arg(long, value_name = "FIELD=VALUE", value_parser = assignment)]
        set: Vec<(String, String)>,
        /// Only say what would be sent
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (field, value) = text.split_once('=').ok_or("is not FIELD=VALUE")?;
    Ok((field.to_owned(), value.to_owned()))
}

struct Letter {
    /// Where its record stands: topic/partition/offset.
    id: String,
    time_ms: i64,
    reason: String,
    message: String,
    value: Vec<u8>,
    truncated: bool,
}

impl Letter {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.value).into_owned()
    }

    /// As an event that can be sent; the error says why it cannot.
    fn repaired(&self, set: &[(String, String)]) -> Result<Event, String> {
        if self.truncated {
            return Err("only its beginning was kept".into());
        }
        let value: Value = serde_json::from_slice(&self.value).map_err(|e| format!("not JSON: {e}"))?;
        let Value::Object(mut fields) = value else {
            return Err("not a JSON object".into());
        };
        assign(&mut fields, set);
        // Sent twice it counts once; an id of its own stays.
        fields
            .entry("event_id")
            .or_insert_with(|| format!("dead-letter/{}", self.id).into());
        let mut event = Event::from_map(fields, None).map_err(|e| e.to_string())?;
        // It happened when it was written, not now.
        event.timestamp_ms.get_or_insert(self.time_ms);
        Ok(event)
    }
}

/// The last assignment of a field wins; one that stands there in upper case is replaced.
fn assign(fields: &mut Map<String, Value>, set: &[(String, String)]) {
    for (field, value) in set {
        fields.remove(&field.to_ascii_uppercase());
        fields.insert(field.clone(), value.as_str().into());
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = args.place.config()?;
    let (read_config, secrets) = (config.clone(), args.place.secrets_dir.clone());
    let database = args.place.embedded.clone();
    let letters = tokio::task::spawn_blocking(move || match database {
        Some(path) => of_embedded(&path),
        None => of_kafka(&read_config, &secrets),
    })
    .await??;
    let letters: Vec<Letter> = letters
        .into_iter()
        .filter(|letter| {
            args.reason
                .as_ref()
                .is_none_or(|reason| letter.reason.eq_ignore_ascii_case(reason))
        })
        .filter(|letter| {
            args.since
                .is_none_or(|since| letter.time_ms >= since.as_millisecond())
        })
        .filter(|letter| args.id.as_ref().is_none_or(|id| letter.id == *id))
        .take(args.limit.unwrap_or(usize::MAX))
        .collect();
    match &args.command {
        Command::List => list(&letters, args.place.output),
        Command::Replay { set, dry_run, yes } => {
            let log = open_log(&args, &config)?;
            let code = replay(&letters, set, *dry_run, *yes, args.place.output, &*log).await;
            log.close().await;
            code
        }
    }
}

fn open_log(args: &Args, config: &RecommenderConfig) -> anyhow::Result<Box<dyn Log>> {
    if let Some(path) = &args.place.embedded {
        return Ok(Box::new(EmbeddedLog::open(path)?));
    }
    let kafka = config
        .kafka
        .as_ref()
        .context("the configuration names no Kafka (kafka.bootstrapServers)")?;
    let client = crate::kafka::client(kafka, &args.place.secrets_dir, "recommender-dead-letters")?;
    Ok(Box::new(KafkaLog::new(&client, &config.topics)?))
}

fn list(letters: &[Letter], output: Output) -> anyhow::Result<ExitCode> {
    if output == Output::Json {
        let rows: Vec<Value> = letters
            .iter()
            .map(|letter| {
                json!({
                    "id": letter.id, "time": rfc3339(letter.time_ms), "reason": letter.reason,
                    "message": letter.message, "value": letter.text(), "truncated": letter.truncated,
                })
            })
            .collect();
        return print(format!("{}\n", Value::from(rows)).as_bytes());
    }
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(["ID", "WRITTEN", "REASON", "MESSAGE", "VALUE"]);
    for letter in letters {
        let clean = |text: &str| -> String { text.chars().filter(|c| !c.is_control()).take(SHOWN).collect() };
        table.add_row([
            letter.id.clone(),
            rfc3339(letter.time_ms),
            letter.reason.clone(),
            clean(&letter.message),
            clean(&letter.text()),
        ]);
    }
    print(format!("{table}\n{} dead letters\n", letters.len()).as_bytes())
}

async fn replay(
    letters: &[Letter],
    set: &[(String, String)],
    dry_run: bool,
    yes: bool,
    output: Output,
    log: &dyn Log,
) -> anyhow::Result<ExitCode> {
    let mut events = Vec::new();
    let mut refused = 0;
    for letter in letters {
        match letter.repaired(set) {
            Ok(event) => events.push(event),
            Err(problem) => {
                refused += 1;
                eprintln!("{}: still malformed: {problem}", letter.id);
            }
        }
    }
    if !dry_run && !yes && !events.is_empty() {
        if !std::io::stdin().is_terminal() {
            bail!(
                "{} letters would be sent; say --yes to send them without being asked",
                events.len()
            );
        }
        eprint!("Send {} letters to the events again? [y/N] ", events.len());
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if !answer.trim().eq_ignore_ascii_case("y") {
            bail!("nothing was sent");
        }
    }
    let bar = indicatif::ProgressBar::new(events.len() as u64);
    let (mut sent, mut failed) = (0, 0);
    for chunk in events.chunks(CHUNK).filter(|_| !dry_run) {
        for result in log.append(chunk).await {
            match result {
                Ok(()) => sent += 1,
                Err(e) => {
                    failed += 1;
                    bar.suspend(|| eprintln!("not sent: {e}"));
                }
            }
        }
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    let what = if dry_run { "would be sent" } else { "sent" };
    let n = if dry_run { events.len() } else { sent };
    match output {
        Output::Text => {
            print(format!("{n} {what}, {refused} still malformed, {failed} failed\n").as_bytes())?
        }
        Output::Json => {
            let summary =
                json!({"sent": sent, "wouldSend": events.len(), "malformed": refused, "failed": failed});
            print(format!("{summary}\n").as_bytes())?
        }
    };
    Ok(if failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn of_embedded(path: &Path) -> anyhow::Result<Vec<Letter>> {
    let connection = connect(path)?;
    let mut rows = connection
        .prepare("SELECT offset, time_ms, reason, message, value FROM dead_letters ORDER BY offset")?;
    let letters = rows.query_map([], |row| {
        Ok(Letter {
            id: format!("events/0/{}", row.get::<_, i64>(0)?),
            time_ms: row.get(1)?,
            reason: row.get(2)?,
            message: row.get(3)?,
            value: row.get(4)?,
            truncated: false,
        })
    })?;
    Ok(letters.collect::<Result<_, _>>()?)
}

/// Reads the dead-letter topic from its start to where it ends now.
fn of_kafka(config: &RecommenderConfig, secrets_dir: &Path) -> anyhow::Result<Vec<Letter>> {
    let topics = Topics::open(config, secrets_dir, "recommender-dead-letters-list")?;
    let mut letters = Vec::new();
    let mut seen = HashSet::new();
    topics.read(&config.topics.dead_letter, |message| {
        let header = |name: &str| -> String {
            let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
            let value = headers
                .filter(|header| header.key == name)
                .find_map(|header| header.value);
            value
                .map(|value| String::from_utf8_lossy(value).into_owned())
                .unwrap_or_default()
        };
        let at = [dead_letter::TOPIC, dead_letter::PARTITION, dead_letter::OFFSET].map(header);
        let id = at.join("/");
        // A letter whose writer died before it could note so stands there twice.
        if seen.insert(id.clone()) {
            letters.push(Letter {
                id,
                time_ms: message.timestamp().to_millis().unwrap_or(0),
                reason: header(dead_letter::REASON),
                message: header(dead_letter::MESSAGE),
                value: message.payload().unwrap_or_default().to_vec(),
                truncated: !header(dead_letter::TRUNCATED).is_empty(),
            });
        }
    })?;
    letters.sort_by_key(|letter| letter.time_ms);
    Ok(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(value: &str) -> Letter {
        Letter {
            id: "events/0/7".into(),
            time_ms: 1_700_000_000_000,
            reason: "MissingField".into(),
            message: "event_type is required".into(),
            value: value.as_bytes().to_vec(),
            truncated: false,
        }
    }

    #[test]
    fn a_repaired_letter_has_its_own_time_and_an_id_by_which_it_counts_once() {
        let set = [("event_type".to_owned(), "view".to_owned())];
        let event = letter(r#"{"customer_id":"c","product_id":"p","EVENT_TYPE":5}"#)
            .repaired(&set)
            .unwrap();
        assert_eq!(event.event_id.as_deref(), Some("dead-letter/events/0/7"));
        assert_eq!(event.timestamp_ms, Some(1_700_000_000_000));
        let own = letter(r#"{"customer_id":"c","product_id":"p","event_id":"e","timestamp":5}"#);
        let event = own.repaired(&set).unwrap();
        assert_eq!(
            (event.event_id.as_deref(), event.timestamp_ms),
            (Some("e"), Some(5))
        );
    }

    #[test]
    fn what_is_still_malformed_is_not_sent() {
        for value in ["not json", "[]", r#"{"customer_id":"c"}"#] {
            assert!(letter(value).repaired(&[]).is_err(), "{value}");
        }
        let mut cut = letter(r#"{"customer_id":"c","product_id":"p","event_type":"view"}"#);
        assert!(cut.repaired(&[]).is_ok());
        cut.truncated = true;
        assert!(cut.repaired(&[]).is_err());
    }

    #[tokio::test]
    async fn letters_of_an_embedded_log_are_listed_and_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.db");
        connect(&path)
            .unwrap()
            .execute(
                "INSERT INTO dead_letters VALUES (3, 5, 'MissingField', 'event_type is required', ?1)",
                [br#"{"customer_id":"c","product_id":"p"}"#.as_slice()],
            )
            .unwrap();
        let letters = of_embedded(&path).unwrap();
        assert_eq!((letters.len(), &*letters[0].id), (1, "events/0/3"));
        let log = EmbeddedLog::open(&path).unwrap();
        let set = [("event_type".to_owned(), "view".to_owned())];
        replay(&letters, &set, true, true, Output::Text, &log)
            .await
            .unwrap();
        let count = || -> i64 {
            let count = "SELECT COUNT(*) FROM events";
            connect(&path)
                .unwrap()
                .query_row(count, [], |row| row.get(0))
                .unwrap()
        };
        assert_eq!(count(), 0, "a dry run");
        replay(&letters, &set, false, true, Output::Text, &log)
            .await
            .unwrap();
        assert_eq!(count(), 1);
        log.close().await;
    }
}
