//! `recommender bench`: how many requests a second this machine answers, and how late, on a shop made up by a law.
//!
//! Server and clients share the machine, and other work on it shows: only figures of one run compare. Each is told
//! beside a route that does nothing, served by the same server, which is the most that HTTP itself allows here.

mod client;
mod engine;
mod shop;
mod stream;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::routing::get;
use recommendation_api::config::{RecommenderConfig, RedisConfig};
use recommendation_api::duration::HumanDuration;
use recommendation_api::model::Algorithm;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::client::{Figures, Load, Pace};
use super::{Output, print};
use crate::http::server::{Lifetime, serve};
use crate::http::tokens::{mint, read_key};
use crate::service::{Mode, Options, Service, embedded_key_file};
use crate::telemetry::LogFilter;

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
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("must be a whole number".into()),
    }
}

/// One line of the result.
#[derive(Serialize)]
struct Line {
    what: String,
    algorithm: String,
    cache: &'static str,
    token_check: bool,
    #[serde(flatten)]
    figures: Figures,
    /// Requests a second as a share of the route that does nothing.
    of_nothing: f64,
}

#[derive(Serialize)]
struct Report {
    customers: usize,
    products: usize,
    events: usize,
    connections: u16,
    cores: usize,
    resident_mb: u64,
    lines: Vec<Line>,
}

/// A folder that goes when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("recommender-bench-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A service on the shop's log.
struct Running {
    address: SocketAddr,
    end: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), crate::service::ServiceError>>,
}

impl Running {
    async fn start(folder: &Path, cached: bool) -> anyhow::Result<Self> {
        let mut config = RecommenderConfig::default();
        config.model.algorithm = Algorithm::Hybrid;
        if cached {
            // No Redis is there: what is measured is the layer in the process.
            config.redis = Some(RedisConfig {
                url: "redis://127.0.0.1:9".into(),
                ttl: HumanDuration::from_secs(600),
                ..RedisConfig::default()
            });
        }
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let service = Service::start(Options {
            config,
            config_file: None,
            secrets_dir: folder.to_owned(),
            mode: Mode::Embedded(folder.join("shop.db")),
            listen: any,
            internal_listen: any,
            drain: Duration::ZERO,
            max_connection_age: Duration::from_secs(3600),
            // No subscriber is installed: the log is off.
            log_filter: LogFilter::detached("off"),
        })
        .await?;
        let (address, internal, end) = (service.public(), service.internal(), CancellationToken::new());
        let task = tokio::spawn(service.run(end.clone()));
        let client = reqwest::Client::new();
        loop {
            let ready = client.get(format!("http://{internal}/readyz")).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(Self { address, end, task });
            }
            anyhow::ensure!(!task.is_finished(), "the service ended before it was ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.end.cancel();
        Ok(self.task.await??)
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(What::Engine(args)) = &args.what {
        return engine::run(args);
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
        nothing: 0.0,
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
        Output::Text => print(text(&report).as_bytes()),
    }
}

struct Asking {
    load: Load,
    shop: Arc<shop::Shop>,
    nothing: f64,
    lines: Vec<Line>,
}

impl Asking {
    async fn all(mut self, folder: &Path, args: &Args) -> anyhow::Result<(Vec<Line>, u64)> {
        self.nothing().await?;
        let service = Running::start(folder, false).await?;
        let resident = resident_mb();
        let key = read_key(&embedded_key_file(&folder.join("shop.db")))?;
        let scopes = ["recommendations:read".to_owned(), "events:write".to_owned()];
        let token = mint(&key, "bench", &scopes, "", Duration::from_secs(24 * 3600))?;
        let address = service.address;
        let mut hybrid = 0.0;
        for algorithm in ["ItemKnn", "SessionKnn", "Popularity", "Hybrid"] {
            hybrid = self
                .line(
                    address,
                    "personal",
                    algorithm,
                    "none",
                    Some(&token),
                    Pace::Full,
                    usize::MAX,
                )
                .await?;
        }
        self.line(
            address,
            "trending",
            "Popularity",
            "none",
            None,
            Pace::Full,
            usize::MAX,
        )
        .await?;
        // Half of the most, while events are learned.
        let live = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(shop::live(
            Arc::clone(&self.shop),
            address,
            token.clone(),
            args.live_events,
        )));
        let what = format!("half of that, {} events/s learned", args.live_events);
        self.line(
            address,
            &what,
            "Hybrid",
            "none",
            Some(&token),
            Pace::Rate(hybrid / 2.0),
            usize::MAX,
        )
        .await?;
        live.abort();
        service.stop().await?;
        let service = Running::start(folder, true).await?;
        let address = service.address;
        self.line(
            address,
            "personal, asked before",
            "Hybrid",
            "local",
            Some(&token),
            Pace::Full,
            2_000,
        )
        .await?;
        service.stop().await?;
        Ok((self.lines, resident))
    }

    /// A route that does nothing, on the same server without the service's layers.
    async fn nothing(&mut self) -> anyhow::Result<()> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let lifetime = Lifetime {
            max_age: Duration::from_secs(3600),
            draining: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        let router = Router::new().route("/nothing", get(|| async {}));
        let serving = tokio::spawn(serve(listener, router, lifetime.clone(), None));
        let paths = Arc::new(vec![client::request(address, "/nothing", None)]);
        let figures = self.load.run(address, paths, Pace::Full).await?;
        self.nothing = figures.per_second;
        self.lines.push(Line {
            what: "a route that does nothing".into(),
            algorithm: String::new(),
            cache: "none",
            token_check: false,
            of_nothing: 1.0,
            figures,
        });
        lifetime.stop.cancel();
        serving.await?;
        Ok(())
    }

    /// Asks one question of many customers; returns requests a second.
    #[allow(clippy::too_many_arguments, reason = "each is a column of the result")]
    async fn line(
        &mut self,
        address: SocketAddr,
        what: &str,
        algorithm: &str,
        cache: &'static str,
        token: Option<&str>,
        pace: Pace,
        customers: usize,
    ) -> anyhow::Result<f64> {
        eprintln!("asking: {what} {algorithm}");
        let path = |customer: &String| match token {
            Some(_) => format!("/v1/recommendations/{customer}?algorithm={algorithm}"),
            None => "/v1/trending".to_owned(),
        };
        let asked = self.shop.some_customers(customers.min(20_000));
        let requests = asked
            .iter()
            .map(|customer| client::request(address, &path(customer), token));
        let requests = Arc::new(requests.collect::<Vec<_>>());
        if cache != "none" {
            // Every answer once, so that what is measured is the cache.
            let once = Load {
                connections: self.load.connections,
                duration: Duration::from_secs(3),
            };
            once.run(address, Arc::clone(&requests), Pace::Full).await?;
        }
        let figures = self.load.run(address, requests, pace).await?;
        let per_second = figures.per_second;
        self.lines.push(Line {
            what: what.to_owned(),
            algorithm: algorithm.to_owned(),
            cache,
            token_check: token.is_some(),
            of_nothing: per_second / self.nothing,
            figures,
        });
        Ok(per_second)
    }
}

/// Resident memory of this process, megabytes; 0 where the system does not say.
fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}

fn text(report: &Report) -> String {
    let mut table = comfy_table::Table::new();
    table.set_header([
        "question",
        "model",
        "cache",
        "token",
        "req/s",
        "of nothing",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "bytes",
        "failed",
    ]);
    for line in &report.lines {
        let f = &line.figures;
        table.add_row([
            line.what.clone(),
            line.algorithm.clone(),
            line.cache.to_owned(),
            if line.token_check { "yes" } else { "no" }.to_owned(),
            format!("{:.0}", f.per_second),
            format!("{:.2}", line.of_nothing),
            format!("{:.2}", f.p50_ms),
            format!("{:.2}", f.p90_ms),
            format!("{:.2}", f.p99_ms),
            format!("{:.0}", f.bytes),
            f.failed.to_string(),
        ]);
    }
    format!(
        "{} customers, {} products, {} events; {} connections; {} cores shared by server and clients; log off\n\
         {} MB resident after loading, {:.0} MB for a million customers\n{table}\n",
        report.customers,
        report.products,
        report.events,
        report.connections,
        report.cores,
        report.resident_mb,
        report.resident_mb as f64 * 1e6 / report.customers.max(1) as f64,
    )
}
