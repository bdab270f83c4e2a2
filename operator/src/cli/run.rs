//! `run`: the controller, its health server, and the signals that end both.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use super::LogFormat;
use crate::controller::{self, Options};
use crate::deadline;
use crate::server;
use crate::validate::Settings;

/// Flags of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Watch this namespace only [default: all].
    #[arg(long, env = "WATCH_NAMESPACE")]
    namespace: Option<String>,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, default_value = "0.0.0.0:9090")]
    metrics_listen: SocketAddr,
    /// How logs are written; what is logged is chosen by RUST_LOG.
    #[arg(long, value_enum, default_value = "json")]
    log_format: LogFormat,
    /// Look at an idle pipeline this often, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    resync: u64,
    /// Give up a blocked cleanup this many seconds after a pipeline was deleted [default: never].
    #[arg(long)]
    cleanup_timeout: Option<u64>,
    /// Image of recommenders whose pipeline names none.
    #[arg(long, env = "RECOMMENDER_IMAGE", default_value = concat!("recommender:", env!("CARGO_PKG_VERSION")))]
    recommender_image: String,
    /// Name of this process in Events.
    #[arg(long, env = "POD_NAME", hide = true)]
    instance: Option<String>,
}

pub(super) async fn run(args: RunArgs) -> anyhow::Result<()> {
    logging(args.log_format);
    let config = Config::infer()
        .await
        .context("no way to reach a Kubernetes API server")?;
    let client = Client::try_from(config).context("cannot make a Kubernetes client")?;
    let version = deadline::within(deadline::KUBERNETES, client.apiserver_version())
        .await
        .map_err(anyhow::Error::from)
        .and_then(|answer| Ok(answer?))
        .context("the API server does not answer")?;
    tracing::info!(kubernetes = %version.git_version, operator = env!("CARGO_PKG_VERSION"), "starting");

    let options = Options {
        namespace: args.namespace,
        resync: Duration::from_secs(args.resync),
        cleanup_timeout: args.cleanup_timeout.map(Duration::from_secs),
        instance: args.instance,
        settings: Settings {
            recommender_image: args.recommender_image,
        },
    };
    let prepared = controller::prepare(client, options)?;
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let health = server::serve(args.metrics_listen, prepared.context.clone(), stop.clone());
    tasks.spawn(async { ("health server", health.await.map_err(anyhow::Error::from)) });
    let controller = prepared.run(stop.clone());
    tasks.spawn(async {
        controller.await;
        ("controller", Ok(()))
    });
    let signals = stop_on_signal(stop.clone());
    tasks.spawn(async { ("signal handler", signals.await) });
    let outcome = join(tasks, &stop).await;
    tracing::info!("stopped");
    outcome
}

/// Waits for every task. One that ends before it was told to takes the others with it: a dead part must not look
/// alive.
async fn join(
    mut tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let told = stop.is_cancelled();
        stop.cancel();
        let failure = match ended {
            Ok((name, Err(error))) => Some(error.context(format!("the {name} failed"))),
            Ok((name, Ok(()))) if !told => Some(anyhow!("the {name} ended by itself")),
            Ok(_) => None,
            Err(panic) => Some(anyhow!(panic)),
        };
        if let Some(error) = failure {
            outcome = outcome.and(Err(error));
        }
    }
    outcome
}

async fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: finishing what has begun"),
        _ = interrupt.recv() => tracing::info!("SIGINT: finishing what has begun"),
        () = stop.cancelled() => {}
    }
    stop.cancel();
    Ok(())
}

fn logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,rdkafka=off,librdkafka=off"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.init(),
    }
}
