//! `run`: the controller, its health server, and the signals that end both.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use http::header::{HeaderValue, USER_AGENT};
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client;
use crate::controller::{self, Options};
use crate::deadline;
use crate::leader::{Candidate, Fence, Times};
use crate::server;
use crate::telemetry::{LogFilter, LogFormat};
use crate::traces::Traces;
use crate::validate::Settings;

/// Flags of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Act in these namespaces only, where Roles are enough [default: all].
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAME,…")]
    pub(super) watch_namespaces: Vec<String>,
    /// Address of /healthz, /readyz, /metrics and /loglevel.
    #[arg(long, default_value = "0.0.0.0:9090")]
    metrics_listen: SocketAddr,
    /// How logs are written; what is logged is chosen by RUST_LOG, and by PUT /loglevel while running.
    #[arg(long, value_enum, default_value = "json")]
    log_format: LogFormat,
    /// Send traces of what is done to this collector, by OTLP over HTTP: `http://collector:4318` [default: none].
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "URL",
        default_value = "",
        hide_default_value = true
    )]
    otlp_endpoint: String,
    /// Look at an idle pipeline this often, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    resync: u64,
    /// Give up a blocked cleanup this many seconds after a pipeline was deleted [default: never].
    #[arg(long)]
    cleanup_timeout: Option<u64>,
    /// Image of recommenders whose pipeline names none.
    #[arg(long, env = "RECOMMENDER_IMAGE", default_value = concat!("recommender:", env!("CARGO_PKG_VERSION")))]
    recommender_image: String,
    /// Namespace that the operator runs in; its Lease there lets one of several act [default: no election].
    #[arg(long, env = "POD_NAMESPACE")]
    lease_namespace: Option<String>,
    /// Name of this process in Events.
    #[arg(long, env = "POD_NAME", hide = true)]
    instance: Option<String>,
}

pub(super) async fn run(args: RunArgs) -> anyhow::Result<()> {
    let log_filter = Arc::new(LogFilter::install(args.log_format));
    let traces = Traces::new(&args.otlp_endpoint, args.instance.as_deref())?;
    let mut config = Config::infer()
        .await
        .context("no way to reach a Kubernetes API server")?;
    config
        .headers
        .push((USER_AGENT, user_agent(args.instance.as_deref())?));
    // Behind no fence: it is what closes it.
    let outside = Client::try_from(config.clone()).context("cannot make a Kubernetes client")?;
    let version = deadline::within(deadline::KUBERNETES, outside.apiserver_version())
        .await
        .map_err(anyhow::Error::from)
        .and_then(|answer| Ok(answer?))
        .context("the API server does not answer")?;
    tracing::info!(kubernetes = %version.git_version, operator = env!("CARGO_PKG_VERSION"), "starting");

    let mut options = Options::new()?;
    let candidate = args.lease_namespace.as_deref().map(|namespace| {
        options.fence = Fence::closed();
        // A pod that is started again in its place is another process.
        let pod = args.instance.as_deref().unwrap_or("operator");
        let identity = format!("{pod}_{:08x}", rand::random::<u32>());
        Candidate::new(
            outside,
            namespace,
            identity,
            Times::default(),
            options.fence.clone(),
        )
    });
    let client = client::connect(config, options.fence.clone(), Arc::clone(&options.metrics))
        .context("cannot make a Kubernetes client")?;
    let defaults = Settings::default();
    let prepared = controller::prepare(
        client,
        Options {
            namespaces: args.watch_namespaces,
            resync: Duration::from_secs(args.resync),
            cleanup_timeout: args.cleanup_timeout.map(Duration::from_secs),
            instance: args.instance,
            settings: Settings {
                recommender_image: args.recommender_image,
                namespace: args.lease_namespace.unwrap_or(defaults.namespace),
            },
            log_filter,
            traces: traces.clone(),
            ..options
        },
    )?;
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let health = server::serve(args.metrics_listen, prepared.context.clone(), stop.clone());
    tasks.spawn(async { ("health server", health.await.map_err(anyhow::Error::from)) });
    let (leading, drained) = (CancellationToken::new(), CancellationToken::new());
    match candidate {
        Some(candidate) => {
            let (leading, stop, drained) = (leading.clone(), stop.clone(), drained.clone());
            tasks.spawn(async move { ("election", elect(&candidate, &leading, &stop, &drained).await) });
        }
        None => leading.cancel(),
    }
    tasks.spawn({
        let stop = stop.clone();
        async move {
            tokio::select! {
                () = leading.cancelled() => prepared.run(stop).await,
                () = stop.cancelled() => {}
            }
            // Not before: what has begun is finished under the lease.
            drained.cancel();
            ("controller", Ok(()))
        }
    });
    let signals = stop_on_signal(stop.clone());
    tasks.spawn(async { ("signal handler", signals.await) });
    let outcome = join(tasks, &stop).await;
    // It waits, and the last spans are sent by a thread of their own.
    tokio::task::spawn_blocking(move || traces.close()).await?;
    tracing::info!("stopped");
    outcome
}

/// What the API server's audit log shows as the one who asked: of several replicas, which.
fn user_agent(instance: Option<&str>) -> anyhow::Result<HeaderValue> {
    let name = concat!("recommendation-operator/", env!("CARGO_PKG_VERSION"));
    let agent = instance.map_or_else(|| name.to_owned(), |pod| format!("{name} ({pod})"));
    HeaderValue::try_from(agent).context("the pod's name is no header")
}

/// Waits for the lease, tells so, and keeps it until the controller has come to its end.
async fn elect(
    candidate: &Candidate,
    leading: &CancellationToken,
    stop: &CancellationToken,
    drained: &CancellationToken,
) -> anyhow::Result<()> {
    if !candidate.acquire(stop).await {
        return Ok(());
    }
    leading.cancel();
    Ok(candidate.keep(drained).await?)
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
