//! A service to be measured, and the folder that it works in.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use recommendation_api::config::{RecommenderConfig, RedisConfig};
use recommendation_api::duration::HumanDuration;
use recommendation_api::model::Algorithm;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::http::server::{Lifetime, serve};
use crate::service::{Mode, Options, Service, ServiceError};
use crate::telemetry::LogFilter;

/// A folder that goes when this is dropped, and when the process is told to end: which it then does.
pub(super) struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("recommender-bench-{}", uuid::Uuid::new_v4()));
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        std::fs::create_dir(&path)?;
        let folder = path.clone();
        // On its own: what is measured may not come back to the runtime for a while.
        tokio::spawn(async move {
            let signal = tokio::select! {
                _ = terminate.recv() => SignalKind::terminate(),
                _ = interrupt.recv() => SignalKind::interrupt(),
            };
            let _ = std::fs::remove_dir_all(folder);
            // As a shell tells that a signal ended it.
            std::process::exit(128 + signal.as_raw_value());
        });
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What is measured, unless told otherwise: Hybrid on an embedded log; `cached` keeps answers in the process.
pub(super) fn config(cached: bool) -> RecommenderConfig {
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
    config
}

/// A running service.
pub(super) struct Running {
    pub address: SocketAddr,
    /// Serves a route that does nothing behind the layers that every request of the service passes.
    pub nothing: Router,
    end: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), ServiceError>>,
}

impl Running {
    /// Starts one and waits until it is ready.
    pub async fn start(folder: &Path, mode: Mode, config: RecommenderConfig) -> anyhow::Result<Self> {
        Self::start_at(folder, mode, config, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// The same on an address of one's choice.
    pub async fn start_at(
        folder: &Path,
        mode: Mode,
        config: RecommenderConfig,
        listen: SocketAddr,
    ) -> anyhow::Result<Self> {
        let service = Service::start(Options {
            config,
            config_file: None,
            secrets_dir: folder.to_owned(),
            mode,
            listen,
            internal_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            drain: Duration::ZERO,
            max_connection_age: Duration::from_secs(3600),
            // No subscriber is installed: the log is off.
            log_filter: LogFilter::detached("off"),
        })
        .await?;
        let (address, internal, end) = (service.public(), service.internal(), CancellationToken::new());
        let nothing = service.within_layers(does_nothing());
        let task = tokio::spawn(service.run(end.clone()));
        let client = reqwest::Client::new();
        loop {
            let ready = client.get(format!("http://{internal}/readyz")).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(Self {
                    address,
                    nothing,
                    end,
                    task,
                });
            }
            anyhow::ensure!(!task.is_finished(), "the service ended before it was ready");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        self.end.cancel();
        self.stopped().await
    }

    /// Returns once the service has ended.
    pub async fn stopped(self) -> anyhow::Result<()> {
        Ok(self.task.await??)
    }
}

/// A route that does nothing, [`NOTHING`].
pub(super) fn does_nothing() -> Router {
    Router::new().route(NOTHING, axum::routing::get(|| async {}))
}

/// Path of the route that does nothing.
pub(super) const NOTHING: &str = "/nothing";

/// Routes on an address of their own, by the service's own server.
pub(super) struct Served {
    pub address: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    pub async fn start(router: Router) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let lifetime = Lifetime {
            max_age: Duration::from_secs(3600),
            draining: CancellationToken::new(),
            stop: stop.clone(),
        };
        let task = tokio::spawn(serve(listener, router, lifetime, None));
        Ok(Self { address, stop, task })
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        Ok(self.task.await?)
    }
}

/// Resident memory of this process, megabytes; 0 where the system does not say.
pub(super) fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}
