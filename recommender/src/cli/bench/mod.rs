//! `recommender bench`: how many requests a second this machine answers, and how late, on a shop made up by a law.
//!
//! Server and clients share the machine, and other work on it shows: only figures of one run compare. Each is told
//! beside a route that does nothing, behind the same layers on the same server (an id, metrics, CORS, compression,
//! shedding of load, rates, the deadline, the net under panics), which is the most that HTTP itself allows here.

mod client;
mod engine;
mod report;
mod running;
mod serve;
mod serving;
mod shop;
mod start;
mod stream;
mod topic;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use self::client::Load;
use self::report::Report;
use self::running::Folder;
use self::serving::Asking;
use super::{Output, print};

#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  recommender bench --customers 100000 --products 20000 --seconds 5"
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Customers of the shop that is made up
    #[arg(long, default_value_t = 100_000)]
    customers: usize,
    /// Its products
    #[arg(long, default_value_t = 20_000)]
    products: usize,
    /// Events that they have made before
    #[arg(long, default_value_t = 1_000_000)]
    events: usize,
    /// Connections that ask at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// Seconds that each question is asked
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Events a second that are learned while latency is measured
    #[arg(long, default_value_t = 20_000)]
    live_events: usize,
    /// Form of the result
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(clap::Subcommand)]
enum What {
    /// The engine alone, on one core: learning, memory, answers by model
    Engine(engine::Args),
    /// From nothing to the first answer: from the log, and from a snapshot
    Start(start::Args),
    /// A shop of sessions, served for a load generator of your own
    Serve(serve::Args),
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("must be a whole number".into()),
    }
}

pub(super) async fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    match args.what.take() {
        Some(What::Engine(args)) => return engine::run(&args),
        Some(What::Start(args)) => return start::run(args).await,
        Some(What::Serve(args)) => return serve::run(args).await,
        None => {}
    }
    let folder = Folder::new().context("no folder for the shop's log")?;
    let shop = Arc::new(shop::Shop {
        customers: args.customers.max(1),
        products: args.products.max(1),
    });
    eprintln!("making up {} events", args.events);
    shop.write(&folder.0.join("shop.db"), args.events).await?;
    let ask = Asking {
        load: Load {
            connections: args.connections,
            duration: Duration::from_secs(args.seconds),
        },
        shop: Arc::clone(&shop),
        lines: Vec::new(),
    };
    let (lines, resident_mb) = ask.all(&folder.0, &args).await?;
    let report = Report {
        customers: args.customers,
        products: args.products,
        events: args.events,
        connections: args.connections,
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        resident_mb,
        lines,
    };
    match args.output {
        Output::Json => print(&[serde_json::to_vec(&report)?, b"\n".to_vec()].concat()),
        Output::Text => print(report::text(&report).as_bytes()),
    }
}
