//! `recommender snapshot` and `recommender model`: what is kept in the snapshot store.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use comfy_table::{Table, presets};
use recommendation_api::RecommenderConfig;
use recommendation_api::event::rfc3339;
use serde_json::{Value, json};

use super::place::Place;
use super::{Output, print};
use crate::clock::now_ms;
use crate::headless::Headless;
use crate::model;
use crate::service::{Mode, snapshots};
use crate::snapshot::keeper::upload;
use crate::snapshot::load::{KEPT, Snapshots};
use crate::snapshot::names::{Name, slot};
use crate::snapshot::read;
use crate::trainer::shelf::Shelf;
use crate::trainer::train;

#[derive(Subcommand)]
pub(super) enum SnapshotCommand {
    /// List snapshots, newest first
    List,
    /// Read a snapshot as a whole and check everything in it (the newest, if none is named)
    Verify {
        /// Its name, as `list` prints it
        name: Option<String>,
    },
    /// Read the log to its end and write a snapshot
    Create,
    /// Remove all but the newest
    Prune {
        /// How many to keep
        #[arg(long, default_value_t = KEPT)]
        keep: usize,
    },
}

#[derive(Subcommand)]
pub(super) enum ModelCommand {
    /// List fitted versions, newest first
    List,
    /// Answer with the version before again; replicas follow within half a minute
    Rollback,
    /// Read the newest snapshot and the log behind it, fit, and put the new version in front unless it is worse
    Train,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    recommender snapshot list --config config.json --secrets-dir ./secrets\n  \
    recommender snapshot verify --embedded ./shop.db")]
pub(super) struct SnapshotArgs {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: SnapshotCommand,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    recommender model train --config /etc/recommender/config/config.json --secrets-dir /etc/recommender/secrets\n  \
    recommender model list --embedded ./shop.db\n  \
    recommender model rollback --embedded ./shop.db")]
pub(super) struct ModelArgs {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: ModelCommand,
}

struct Opened {
    config: RecommenderConfig,
    secrets_dir: PathBuf,
    mode: Mode,
    snapshots: Snapshots,
    output: Output,
}

fn open(place: Place) -> anyhow::Result<Opened> {
    let config = place.config()?;
    crate::telemetry::install(crate::telemetry::LogFormat::Text, "warn")?;
    let mode = place.mode();
    let snapshots = snapshots(&config, &place.secrets_dir, &mode)?
        .context("the configuration names no snapshot store (snapshots.url)")?;
    Ok(Opened {
        config,
        secrets_dir: place.secrets_dir,
        mode,
        snapshots,
        output: place.output,
    })
}

impl Opened {
    async fn model(&self) -> anyhow::Result<Headless> {
        let (secrets, snapshots) = (&self.secrets_dir, self.snapshots.clone());
        let mut model = Headless::start(&self.config, secrets, &self.mode, Some(snapshots))?;
        model.caught_up().await?;
        Ok(model)
    }

    /// Rows for people, or one JSON array.
    fn table(&self, columns: &[&str], rows: &[Value]) -> anyhow::Result<ExitCode> {
        if self.output == Output::Json {
            return print(format!("{}\n", Value::from(rows)).as_bytes());
        }
        let mut table = Table::new();
        table
            .load_preset(presets::NOTHING)
            .set_header(columns.iter().map(|name| name.to_uppercase()));
        for row in rows {
            table.add_row(columns.iter().map(|name| match &row[*name] {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            }));
        }
        print(format!("{table}\n").as_bytes())
    }

    fn told(&self, text: String, json: &Value) -> anyhow::Result<ExitCode> {
        match self.output {
            Output::Text => print(format!("{text}\n").as_bytes()),
            Output::Json => print(format!("{json}\n").as_bytes()),
        }
    }
}

pub(super) async fn snapshot(args: SnapshotArgs) -> anyhow::Result<ExitCode> {
    let opened = open(args.place)?;
    let snapshots = &opened.snapshots;
    match args.command {
        SnapshotCommand::List => {
            let mut rows = Vec::new();
            for listed in snapshots.list().await? {
                let mut row = json!({"name": listed.name.to_string(), "bytes": listed.bytes});
                match snapshots.manifest(listed.name).await {
                    Ok(m) => {
                        row["created"] = rfc3339(m.created_ms).into();
                        row["events"] = m.events.into();
                        row["customers"] = m.customers.into();
                        row["products"] = m.products.into();
                        row["program"] = m.program.into();
                    }
                    Err(e) => row["problem"] = e.to_string().into(),
                }
                rows.push(row);
            }
            let columns = [
                "name",
                "created",
                "bytes",
                "events",
                "customers",
                "products",
                "program",
                "problem",
            ];
            opened.table(&columns, &rows)
        }
        SnapshotCommand::Verify { name } => {
            let name = match name {
                Some(text) => {
                    Name::parse(&text).with_context(|| format!("{text:?} is not a snapshot's name"))?
                }
                None => {
                    snapshots
                        .list()
                        .await?
                        .first()
                        .context("there are no snapshots")?
                        .name
                }
            };
            let (mut body, engine) = (snapshots.open(name), model::engine_config(&opened.config)?);
            let restored = tokio::task::spawn_blocking(move || read(engine, &mut body)).await?;
            let restored = restored.with_context(|| format!("snapshot {name} cannot be used"))?;
            let events = restored.manifest.events;
            opened.told(
                format!("{name} is whole: {events} events"),
                &json!({"name": name.to_string(), "events": events, "whole": true}),
            )
        }
        SnapshotCommand::Create => {
            let model = opened.model().await?;
            let frozen = model.freeze().await.context("the model has ended")?;
            model.stop().await;
            let (created_ms, events) = (frozen.manifest.created_ms, frozen.manifest.events);
            let interval = opened
                .config
                .snapshots
                .clone()
                .unwrap_or_default()
                .interval
                .as_millis();
            let name = Name {
                slot: slot(now_ms(), interval),
                created_ms,
            };
            let bytes = upload(snapshots, name, frozen).await?;
            opened.told(
                format!("{name}: {events} events, {bytes} bytes"),
                &json!({"name": name.to_string(), "events": events, "bytes": bytes}),
            )
        }
        SnapshotCommand::Prune { keep } => {
            if keep == 0 {
                bail!("--keep 0 would remove every snapshot; remove them in the store if that is meant");
            }
            let removed = snapshots.prune(keep, now_ms(), i64::MAX).await?;
            opened.told(format!("{removed} removed"), &json!({"removed": removed}))
        }
    }
}

pub(super) async fn model(args: ModelArgs) -> anyhow::Result<ExitCode> {
    let opened = open(args.place)?;
    let shelf = Shelf {
        store: opened.snapshots.store.clone(),
    };
    match args.command {
        ModelCommand::List => {
            let current = shelf.current().await?;
            let rows: Vec<Value> = shelf
                .list()
                .await?
                .into_iter()
                .map(|entry| {
                    json!({
                        "version": entry.version,
                        "current": if current.as_ref() == Some(&entry.version) { "yes" } else { "" },
                        "trained": rfc3339(entry.trained_ms),
                        "hitRateAt10": entry.hit_rate_at_10,
                        "models": entry.models.len(),
                    })
                })
                .collect();
            opened.table(&["version", "current", "trained", "hitRateAt10", "models"], &rows)
        }
        ModelCommand::Rollback => {
            let (from, to) = shelf.roll_back().await?;
            opened.told(
                format!("{to} answers instead of {from}"),
                &json!({"from": from, "to": to}),
            )
        }
        ModelCommand::Train => {
            let model = opened.model().await?;
            let report = train(
                (*model.reader).clone(),
                model::engine_config(&opened.config)?,
                &shelf,
            )
            .await;
            model.stop().await;
            let report = report?;
            let verdict = if report.accepted {
                "answers from now on"
            } else {
                "is worse and was not taken up"
            };
            let text = format!(
                "{} {verdict}: hit rate@10 {:.4} on {} questions (before: {}), {:.1} s",
                report.version,
                report.hit_rate_at_10,
                report.questions,
                report
                    .previous_hit_rate_at_10
                    .map_or("none".into(), |rate| format!("{rate:.4}")),
                report.seconds
            );
            opened.told(text, &serde_json::to_value(&report)?)
        }
    }
}
