//! `recommender export`: what is recommended to every customer, for e-mail campaigns. A run that was broken off goes
//! on where it was: customers are written in the order of their ids, and a checkpoint tells the last one.

mod checkpoint;
mod jsonl;
mod parquet;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use recommendation_api::{RecommenderConfig, names};
use recommender_engine::{Query, Reader};
use serde::{Deserialize, Serialize};

use self::checkpoint::Checkpoint;
use super::{Output, print};
use crate::clock::now_ms;
use crate::config::Live;
use crate::headless::Headless;
use crate::http::VISIT_PREFIX;
use crate::service::{Mode, snapshots};

/// What is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// A JSON object a line
    #[default]
    Jsonl,
    /// A Parquet file, a row a customer, compressed by Snappy
    Parquet,
}

#[derive(clap::Args)]
#[command(
    after_help = "Each line or row: {\"customer_id\", \"algorithm\", \"arm\", \"fallback\", \"items\": [{\"product_id\", \"title\", \"score\"}]}.\n\
    Run it again after it was broken off, and it goes on where it was; --restart begins anew.\n\n\
    Examples:\n  \
    recommender export campaign.jsonl --embedded ./shop.db --limit 5\n  \
    recommender export campaign.parquet --format parquet --embedded ./shop.db\n  \
    recommender export campaign.jsonl --config config.json --secrets-dir ./secrets --category kitchen"
)]
pub(super) struct Args {
    /// The file to write; beside it lies FILE.checkpoint until it is complete, and what Parquet is made of, FILE.part-*
    file: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
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

/// How customers are written.
trait Form {
    /// Customers between two checkpoints.
    const CHECKPOINT_EVERY: usize;

    /// Writes customers for good, and notes in the checkpoint what that comes to.
    fn write(&mut self, lines: &[Line<'_>], checkpoint: &mut Checkpoint) -> anyhow::Result<()>;

    /// All customers are written.
    fn finish(self, checkpoint: &Checkpoint) -> anyhow::Result<()>;
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

/// Everybody in the order of their ids, but for anonymous visits: there is nobody to write to.
fn customers(reader: &Reader) -> Vec<Arc<str>> {
    let mut customers: Vec<Arc<str>> = Vec::new();
    reader.each_customer(|customer, _| {
        if !customer.starts_with(VISIT_PREFIX) {
            customers.push(Arc::clone(customer));
        }
    });
    customers.sort_unstable();
    customers
}

fn export(reader: &Reader, live: &Live, args: &Args) -> anyhow::Result<ExitCode> {
    let customers = customers(reader);
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
    let checkpoint = checkpoint::begin(args)?;
    match args.format {
        Format::Jsonl => {
            let form = jsonl::Lines::open(&args.file, &checkpoint)?;
            write_rest(form, checkpoint, reader, live, args, customers, bar)
        }
        Format::Parquet => {
            let form = parquet::Rows::new(&args.file)?;
            write_rest(form, checkpoint, reader, live, args, customers, bar)
        }
    }
}

fn write_rest<F: Form>(
    mut form: F,
    mut checkpoint: Checkpoint,
    reader: &Reader,
    live: &Live,
    args: &Args,
    customers: &[Arc<str>],
    bar: &ProgressBar,
) -> anyhow::Result<usize> {
    let rest = &customers
        [customers.partition_point(|id| checkpoint.customers > 0 && **id <= *checkpoint.customer)..];
    bar.set_position((customers.len() - rest.len()) as u64);
    let now = now_ms();
    for chunk in rest.chunks(F::CHECKPOINT_EVERY) {
        let mut lines = Vec::with_capacity(chunk.len());
        for customer in chunk {
            lines.push(line(reader, live, args, customer, now));
            bar.inc(1);
        }
        form.write(&lines, &mut checkpoint)?;
        checkpoint.customers += chunk.len();
        if let Some(last) = chunk.last() {
            checkpoint.customer = last.to_string();
        }
        checkpoint::keep(&checkpoint, &args.file)?;
    }
    form.finish(&checkpoint)?;
    checkpoint::end(&checkpoint, &args.file)?;
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

#[cfg(test)]
mod tests;
