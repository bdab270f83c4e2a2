//! `recommender export`: what is recommended to every customer, for e-mail campaigns. A run that was broken off goes
//! on where it was: customers are written in the order of their ids, and a checkpoint tells the last one.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use recommendation_api::{RecommenderConfig, names};
use recommender_engine::{Query, Reader};
use serde::{Deserialize, Serialize};

use super::{Output, print};
use crate::clock::now_ms;
use crate::config::Live;
use crate::headless::Headless;
use crate::service::{Mode, snapshots};

/// Customers between two checkpoints.
const CHECKPOINT_EVERY: usize = 1_000;

#[derive(clap::Args)]
#[command(
    after_help = "Each line: {\"customer_id\", \"algorithm\", \"arm\", \"fallback\", \"items\": [{\"product_id\", \"title\", \"score\"}]}.\n\
    Run it again after it was broken off, and it goes on where it was; --restart begins anew.\n\n\
    Examples:\n  \
    recommender export campaign.jsonl --embedded ./shop.db --limit 5\n  \
    recommender export campaign.jsonl --config config.json --secrets-dir ./secrets --category kitchen"
)]
pub(super) struct Args {
    /// The file to write; beside it lies FILE.checkpoint until it is complete
    file: PathBuf,
    /// Configuration file; default: /etc/recommender/config/config.json, none with --embedded
    #[arg(long, value_name = "FILE", env = "RECOMMENDER_CONFIG")]
    config: Option<PathBuf>,
    /// Folder of the secrets that the configuration names
    #[arg(long, value_name = "DIR", env = "RECOMMENDER_SECRETS_DIR", default_value = names::SECRETS_DIR)]
    secrets_dir: PathBuf,
    /// Database of embedded mode
    #[arg(long, value_name = "FILE")]
    embedded: Option<PathBuf>,
    /// Products a customer
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
    limit: u16,
    /// Only products of this category
    #[arg(long, value_name = "NAME")]
    category: Option<String>,
    /// Begin anew, whatever was written before
    #[arg(long)]
    restart: bool,
    /// How to print the summary
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

/// How far an export is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Checkpoint {
    /// The last customer that is in the file.
    customer: String,
    /// The file's length with them.
    bytes: u64,
    /// Customers in it.
    customers: usize,
    /// What was asked: an export with other settings cannot go on with this file.
    limit: u16,
    category: Option<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    customer_id: &'a str,
    algorithm: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    arm: Option<Arc<str>>,
    fallback: recommender_engine::Fallback,
    items: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    product_id: Arc<str>,
    title: Arc<str>,
    score: f32,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let file = match (&args.config, &args.embedded) {
        (Some(path), _) => Some(path.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(Path::new(names::CONFIG_DIR).join(names::CONFIG_FILE)),
    };
    let config = match file {
        Some(path) => crate::config::load(&path).context("no usable configuration")?,
        None => RecommenderConfig::default(),
    };
    crate::telemetry::install(crate::telemetry::LogFormat::Text, "warn")?;
    let mode = args.embedded.clone().map_or(Mode::Kafka, Mode::Embedded);
    let store = snapshots(&config, &args.secrets_dir, &mode)?;
    let mut headless = Headless::start(&config, &args.secrets_dir, &mode, store)?;
    headless.caught_up().await?;
    let live = Live::new(&config)?;
    let reader = Reader::clone(&headless.reader);
    let done = tokio::task::spawn_blocking(move || export(&reader, &live, &args)).await?;
    headless.stop().await;
    done
}

fn export(reader: &Reader, live: &Live, args: &Args) -> anyhow::Result<ExitCode> {
    let mut customers: Vec<Arc<str>> = Vec::new();
    reader.each_customer(|customer, _| customers.push(Arc::clone(customer)));
    customers.sort_unstable();
    let bar = ProgressBar::new(customers.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} %  {pos} customers, {eta} left") {
        bar.set_style(style);
    }
    let written = write_all(reader, live, args, &customers, &bar)?;
    bar.finish_and_clear();
    match args.output {
        Output::Json => print(format!("{}\n", serde_json::json!({"customers": written})).as_bytes()),
        Output::Text => print(format!("{written} customers in {}\n", args.file.display()).as_bytes()),
    }
}

/// Writes what is not written yet; returns how many customers are in the file.
fn write_all(
    reader: &Reader,
    live: &Live,
    args: &Args,
    customers: &[Arc<str>],
    bar: &ProgressBar,
) -> anyhow::Result<usize> {
    let mut checkpoint = begin(args)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&args.file)
        .with_context(|| format!("cannot write {}", args.file.display()))?;
    // What was written after the checkpoint is written again.
    file.set_len(checkpoint.bytes)?;
    file.seek(SeekFrom::End(0))?;
    let mut out = BufWriter::with_capacity(1 << 18, file);
    let rest = &customers
        [customers.partition_point(|id| checkpoint.customers > 0 && **id <= *checkpoint.customer)..];
    bar.set_position((customers.len() - rest.len()) as u64);
    let now = now_ms();
    for chunk in rest.chunks(CHECKPOINT_EVERY) {
        for customer in chunk {
            let mut line = serde_json::to_vec(&line(reader, live, args, customer, now))?;
            line.push(b'\n');
            out.write_all(&line)?;
            checkpoint.bytes += line.len() as u64;
        }
        out.flush()?;
        out.get_ref().sync_data()?;
        checkpoint.customers += chunk.len();
        if let Some(last) = chunk.last() {
            checkpoint.customer = last.to_string();
        }
        keep(&checkpoint, &args.file)?;
        bar.inc(chunk.len() as u64);
    }
    remove(&checkpoint_file(&args.file))?;
    Ok(checkpoint.customers)
}

fn line<'a>(reader: &Reader, live: &Live, args: &Args, customer: &'a str, now_ms: i64) -> Line<'a> {
    let assigned = live.experiments.assign(customer);
    let found = reader.recommend(&Query {
        customer: Some(customer),
        limit: usize::from(args.limit),
        category: args.category.as_deref(),
        algorithm: assigned.as_ref().map(|assigned| assigned.algorithm),
        now_ms,
        ..Query::default()
    });
    let items = found.items.into_iter().map(|item| Item {
        title: item.title.unwrap_or_else(|| Arc::clone(&item.product)),
        product_id: item.product,
        score: item.score,
    });
    Line {
        customer_id: customer,
        algorithm: found.algorithm.name(),
        arm: assigned.map(|assigned| assigned.arm),
        fallback: found.fallback,
        items: items.collect(),
    }
}

fn checkpoint_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".checkpoint");
    PathBuf::from(name)
}

/// The checkpoint to go on from; of an export that begins, one before the first customer.
fn begin(args: &Args) -> anyhow::Result<Checkpoint> {
    let path = checkpoint_file(&args.file);
    let first = Checkpoint {
        customer: String::new(),
        bytes: 0,
        customers: 0,
        limit: args.limit,
        category: args.category.clone(),
    };
    if args.restart {
        remove(&path)?;
        return Ok(first);
    }
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let written = std::fs::metadata(&args.file).map(|meta| meta.len()).unwrap_or(0);
            if written > 0 {
                bail!(
                    "{} is there already: name another file, or begin anew with --restart",
                    args.file.display()
                );
            }
            return Ok(first);
        }
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let found: Checkpoint = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is no checkpoint; begin anew with --restart", path.display()))?;
    if (found.limit, &found.category) != (args.limit, &args.category) {
        bail!(
            "{} was begun with another limit or category; begin anew with --restart",
            args.file.display()
        );
    }
    let written = std::fs::metadata(&args.file).map(|meta| meta.len()).unwrap_or(0);
    if written < found.bytes {
        bail!(
            "{} is shorter than its checkpoint says; begin anew with --restart",
            args.file.display()
        );
    }
    Ok(found)
}

/// Replaces the checkpoint in one step.
fn keep(checkpoint: &Checkpoint, file: &Path) -> anyhow::Result<()> {
    let path = checkpoint_file(file);
    let mut new = path.clone().into_os_string();
    new.push(".new");
    let mut out = File::create(&new)?;
    out.write_all(&serde_json::to_vec(checkpoint)?)?;
    out.sync_data()?;
    std::fs::rename(&new, &path).with_context(|| format!("cannot write {}", path.display()))
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use recommender_engine::{EngineConfig, EventKind, Interaction, engine};

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(file: &Path, more: &[&str]) -> Args {
        let file = file.to_str().unwrap();
        Cli::parse_from([&["export", file], more].concat()).args
    }

    fn shop() -> Reader {
        let (mut writer, reader) = engine(EngineConfig::default()).unwrap();
        let now = now_ms();
        for n in 0..2_500 {
            for product in [n % 7, n % 5 + 10] {
                let (customer, product) = (format!("c{n}"), format!("p{product}"));
                writer.apply(&Interaction::new(&customer, &product, EventKind::View, now), now);
            }
        }
        writer.flush(now);
        reader
    }

    #[test]
    fn an_export_that_was_broken_off_goes_on_and_every_customer_is_there_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out.jsonl");
        let (reader, live) = (shop(), Live::new(&RecommenderConfig::default()).unwrap());
        let args = args(&file, &["--limit", "3"]);
        let mut customers: Vec<Arc<str>> = Vec::new();
        reader.each_customer(|customer, _| customers.push(Arc::clone(customer)));
        customers.sort_unstable();
        let bar = ProgressBar::hidden();
        // Broken off after two checkpoints, in the middle of a line.
        write_all(&reader, &live, &args, &customers[..2_000], &bar).unwrap();
        let bytes = std::fs::metadata(&file).unwrap().len();
        let at = Checkpoint {
            customer: customers[1_999].to_string(),
            bytes,
            customers: 2_000,
            limit: 3,
            category: None,
        };
        keep(&at, &file).unwrap();
        let mut broken = OpenOptions::new().append(true).open(&file).unwrap();
        broken.write_all(b"{\"customer_id\":\"c9").unwrap();
        assert_eq!(write_all(&reader, &live, &args, &customers, &bar).unwrap(), 2_500);
        let text = std::fs::read_to_string(&file).unwrap();
        let written: Vec<serde_json::Value> =
            text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert!(
            written
                .iter()
                .map(|l| l["customer_id"].as_str().unwrap())
                .eq(customers.iter().map(|c| &**c))
        );
        assert!(written.iter().all(|l| l["items"].as_array().unwrap().len() == 3));
        assert!(!checkpoint_file(&file).exists());
    }

    #[test]
    fn a_file_that_is_there_or_of_another_export_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out.jsonl");
        std::fs::write(&file, "important\n").unwrap();
        let error = |more: &[&str]| begin(&args(&file, more)).unwrap_err().to_string();
        assert!(error(&[]).contains("is there already"));
        let at = Checkpoint {
            customer: "c".into(),
            bytes: 5,
            customers: 1,
            limit: 10,
            category: None,
        };
        keep(&at, &file).unwrap();
        assert!(error(&["--limit", "3"]).contains("another limit"));
        assert_eq!(begin(&args(&file, &[])).unwrap(), at);
        keep(&Checkpoint { bytes: 500, ..at }, &file).unwrap();
        assert!(error(&[]).contains("shorter"));
        assert_eq!(begin(&args(&file, &["--restart"])).unwrap().customers, 0);
    }
}
