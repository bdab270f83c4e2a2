//! `recommender serve`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use recommendation_api::{RecommenderConfig, names};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::service::{Mode, Options, Service};
use crate::telemetry::{self, LogFormat};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    recommender serve --embedded ./shop.db\n  \
    recommender serve --config config.json --secrets-dir ./secrets --listen 0.0.0.0:8080")]
pub(super) struct Args {
    /// Keep events and catalogue in this SQLite file instead of Kafka (./shop.db if no file is named)
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "./shop.db")]
    embedded: Option<PathBuf>,
    /// Configuration file; default: /etc/recommender/config/config.json in Kafka mode, none with --embedded
    #[arg(long, value_name = "FILE", env = "RECOMMENDER_CONFIG")]
    config: Option<PathBuf>,
    /// Folder of the secrets that the configuration names
    #[arg(long, value_name = "DIR", env = "RECOMMENDER_SECRETS_DIR", default_value = names::SECRETS_DIR)]
    secrets_dir: PathBuf,
    /// Public address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Internal address: health, status, metrics, console
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    internal_listen: SocketAddr,
    /// How to write the log; default: json in Kafka mode, text with --embedded
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// Seconds to serve on after SIGTERM, so that load balancers notice; default: 5, and 0 with --embedded
    #[arg(long, value_name = "SECONDS")]
    drain_seconds: Option<u64>,
    /// Longest life of a connection in seconds, so that a Service balances long-lived ones
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    max_connection_age_seconds: u64,
}

impl Args {
    #[cfg(test)]
    pub(super) fn embedded(&self) -> Option<&Path> {
        self.embedded.as_deref()
    }

    /// The configuration file: the one named; else the default one, in Kafka mode.
    fn config_file(&self) -> Option<PathBuf> {
        match (&self.config, &self.embedded) {
            (Some(path), _) => Some(path.clone()),
            (None, Some(_)) => None,
            (None, None) => Some(Path::new(names::CONFIG_DIR).join(names::CONFIG_FILE)),
        }
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config_file = args.config_file();
    let config = match &config_file {
        Some(path) => crate::config::load(path)
            .context("no usable configuration; `recommender serve --embedded` needs none")?,
        None => RecommenderConfig::default(),
    };
    let embedded = args.embedded.is_some();
    let format = args.log_format.unwrap_or(if embedded {
        LogFormat::Text
    } else {
        LogFormat::Json
    });
    let log_filter = telemetry::install(format, &config.telemetry.log_filter)?;
    // Before anything is started: a SIGTERM that comes early must end it in good order too.
    let end = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let service = Service::start(Options {
        config,
        config_file,
        secrets_dir: args.secrets_dir,
        mode: args.embedded.clone().map_or(Mode::Kafka, Mode::Embedded),
        listen: args.listen,
        internal_listen: args.internal_listen,
        drain: Duration::from_secs(args.drain_seconds.unwrap_or(if embedded { 0 } else { 5 })),
        max_connection_age: Duration::from_secs(args.max_connection_age_seconds),
        log_filter,
    })
    .await?;
    if let Some(database) = &args.embedded {
        let (public, database) = (service.public(), database.display());
        tracing::info!("try: curl http://{public}/v1/trending");
        tracing::info!(
            "a token: recommender token --embedded {database} --user CUSTOMER --scope recommendations:read"
        );
        tracing::info!(
            "the console: http://{}/ (a token for it: recommender token --embedded {database} --user you --scope customers:read)",
            service.internal()
        );
    }
    let ending = end.clone();
    let signals = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        ending.cancel();
    };
    let running = service.run(end);
    tokio::pin!(running);
    tokio::select! {
        result = &mut running => result?,
        () = signals => running.await?,
    }
    Ok(ExitCode::SUCCESS)
}
