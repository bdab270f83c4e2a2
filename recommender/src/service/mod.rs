//! One running service: what `recommender serve` starts, and tests start in their own process.
//!
//! Every thread and task is waited for. If one ends before it was told to, the service ends with its name: a
//! half-dead replica that still counts as ready is worse than a restart.

mod error;
mod open;
mod state;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use arc_swap::ArcSwap;
use recommendation_api::config::{LimitsConfig, RecommenderConfig};
use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

pub use self::error::{ServiceError, StartError};
use self::open::{cache, histories, key_file, listen, open};
pub use self::open::{embedded_key_file, embedded_state_dir};
pub(crate) use self::open::{privacy, snapshots};
use crate::config::{Live, Watch};
use crate::directory::Directory;
use crate::http::auth::Auth;
use crate::http::console::Console;
use crate::http::gmail::PushTokens;
use crate::http::limiter::Limiter;
use crate::http::remote::Trusted;
use crate::http::server::Lifetime;
use crate::http::tls::Tls;
use crate::http::{App, internal_router, public_router, server};
use crate::impressions::Impressions;
use crate::ingest::{Elsewhere, Ingest, Lookups, Start};
use crate::insights::desk::Desk;
use crate::insights::ksqldb::Tables;
use crate::metrics::Metrics;
use crate::model;
use crate::onnx::Bringing;
use crate::quality::Scrape;
use crate::ratelimit::RedisWindows;
use crate::resilience::load::{Load, MAX_IN_FLIGHT};
use crate::secrets::{self, SecretError};
use crate::shown::Shown;
use crate::source::SourceError;
use crate::source::kafka::events_topic;
use crate::telemetry::LogFilter;
use crate::traces::Traces;

/// Where events come from and go to.
#[derive(Clone, Debug)]
pub enum Mode {
    /// The cluster that the configuration names.
    Kafka,
    /// The embedded log in this file.
    Embedded(PathBuf),
}

/// What a service is started with.
#[derive(Clone)]
pub struct Options {
    /// The configuration.
    pub config: RecommenderConfig,
    /// Its file, watched for changes.
    pub config_file: Option<PathBuf>,
    /// Where the files named in the configuration lie.
    pub secrets_dir: PathBuf,
    /// Kafka or embedded.
    pub mode: Mode,
    /// Public address; port 0 picks one.
    pub listen: SocketAddr,
    /// Internal address; port 0 picks one.
    pub internal_listen: SocketAddr,
    /// How long to serve on after the end was announced, so that load balancers notice.
    pub drain: Duration,
    /// Longest life of a connection.
    pub max_connection_age: Duration,
    /// The log filter.
    pub log_filter: LogFilter,
}

type Part = (&'static str, Result<(), SourceError>);

/// A running service.
pub struct Service {
    public: SocketAddr,
    internal: SocketAddr,
    app: Arc<App>,
    parts: JoinSet<Part>,
    drain: Duration,
    stop_serving: CancellationToken,
    stop: CancellationToken,
}

impl Service {
    /// Starts everything. Kafka and Redis need not be there: the service waits for the first and goes on
    /// without the second.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        crate::config::check(&options.config)?;
        let config = &options.config;
        let metrics = Arc::new(Metrics::new()?);
        let engine_config = model::engine_config(config)?;
        let live = Arc::new(ArcSwap::from_pointee(Live::new(config)?));
        let auth = Arc::new(Auth::new(
            &config.auth,
            key_file(&options)?,
            &options.secrets_dir,
        )?);
        let secret = |name: &Option<String>| -> Result<Option<SecretString>, SecretError> {
            let path = name
                .as_ref()
                .map(|name| secrets::below(&options.secrets_dir, name))
                .transpose()?;
            path.map(|path| secrets::read(&path)).transpose()
        };
        let redis = config.redis.as_ref();
        let password = secret(&redis.and_then(|redis| redis.password_file.clone()))?;
        let redis = redis
            .map(|redis| RedisWindows::new(&redis.url, &config.pipeline, password.as_ref()))
            .transpose()?;
        let products = engine_config.limits.learn_history;
        let histories = histories(config, password.as_ref(), products, &metrics)?;
        let webhook_key = secret(&config.webhooks.hmac_secret_file)?;
        let tls = match &config.http.tls_dir {
            Some(name) => Some(Arc::new(Tls::new(secrets::below(&options.secrets_dir, name)?)?)),
            None => None,
        };
        // Addresses before threads: a port that is taken must not leave threads behind.
        let (public_listener, public) = listen(options.listen).await?;
        let (internal_listener, internal) = listen(options.internal_listen).await?;

        let (writer, _) = recommender_engine::engine(engine_config.clone())?;
        let snapshots = snapshots(config, &options.secrets_dir, &options.mode)?;
        let traces = Traces::new(&config.telemetry.otlp_endpoint, &config.pipeline)?;
        let (log, source) = open(&options, &metrics, &traces)?;
        let (command, commands) = mpsc::channel();
        let default_type = events_topic(config).1;
        let max_lag = config.quality.max_lag_seconds;
        let (erased, to_sweep) = tokio::sync::mpsc::unbounded_channel();
        // Profiles are in the memory of every replica, wherever histories are.
        let profiles = match histories {
            Some(_) => config
                .limits
                .max_customers
                .max(LimitsConfig::default().max_customers),
            None => config.limits.max_customers,
        };
        let profiles = usize::try_from(profiles).unwrap_or(usize::MAX);
        let lookups = Lookups {
            directory: Arc::new(Directory::new(profiles)),
            privacy: Arc::new(privacy(config, &options.secrets_dir, &options.mode)?),
            erased: Some(erased),
            ..Lookups::default()
        };
        let elsewhere = histories.clone().map(|histories| {
            let retention_ms = config.privacy.retention.as_millis();
            Elsewhere::new(histories, Handle::current(), retention_ms)
        });
        let ingest = Ingest::new(
            source,
            writer,
            default_type,
            Arc::clone(&metrics),
            commands,
            max_lag,
            lookups.clone(),
        )
        .starting_from(snapshots.clone().map(|snapshots| Start {
            snapshots,
            engine: engine_config,
            runtime: Handle::current(),
        }))
        .keeping_elsewhere(elsewhere)
        .traced(traces.clone());
        let (stop_serving, stop) = (CancellationToken::new(), CancellationToken::new());
        let cache = cache(config, redis.as_ref(), &metrics);
        let figures = &metrics.resilience;
        let load = Arc::new(Load::new(
            MAX_IN_FLIGHT,
            figures.in_flight.clone(),
            figures.task_delay.clone(),
        ));
        let app = Arc::new(App {
            scrape: Scrape::default(),
            desk: Desk::new(command.clone(), ingest.reader()),
            tables: config
                .ksqldb
                .clone()
                .map(Tables::new)
                .transpose()
                .map_err(StartError::Ksqldb)?,
            impressions: Impressions::new(metrics.impressions.clone()),
            shown: Shown::default(),
            watching: lookups.watching,
            console: Console::new(&config.pipeline),
            cache: cache.clone(),
            histories,
            load: Arc::clone(&load),
            traces,
            reader: ingest.reader(),
            directory: lookups.directory,
            baskets: lookups.baskets,
            privacy: lookups.privacy,
            gmail: PushTokens::new(config.webhooks.gmail.as_ref(), &options.secrets_dir)?,
            log,
            auth: Arc::clone(&auth),
            limiter: Limiter::new(redis, Arc::clone(&metrics)),
            metrics: Arc::clone(&metrics),
            progress: ingest.progress(),
            live: Arc::clone(&live),
            trusted: Trusted::new(&config.http.trusted_proxies),
            webhook_key,
            log_filter: options.log_filter.clone(),
            draining: CancellationToken::new(),
        });

        let mut parts: JoinSet<Part> = JoinSet::new();
        let ingest_stop = stop.clone();
        let (done, ended) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("ingest".into())
            .spawn(move || {
                // What was learned may be shown some milliseconds later; an answer is waited for.
                crate::calm::give_way();
                // The service may be gone already, which is all that this failing would mean.
                let _ = done.send(ingest.run(&ingest_stop));
            })
            .map_err(StartError::Thread)?;
        parts.spawn(async move {
            let result = ended.await;
            // It has sent its result, or panicked: either way it ends now.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
            (
                "ingest thread",
                result.unwrap_or(Err(SourceError::Thread("ingest"))),
            )
        });
        let router = public_router(Arc::clone(&app), config);
        let lifetime = Lifetime {
            max_age: options.max_connection_age,
            draining: app.draining.clone(),
            stop: stop_serving.clone(),
        };
        let serving = server::serve(public_listener, router, lifetime.clone(), tls.clone());
        parts.spawn(async move {
            serving.await;
            ("public server", Ok(()))
        });
        let router = internal_router(Arc::clone(&app));
        let internal_lifetime = Lifetime {
            stop: stop.clone(),
            ..lifetime
        };
        let serving = server::serve(internal_listener, router, internal_lifetime, None);
        parts.spawn(async move {
            serving.await;
            ("internal server", Ok(()))
        });
        let (watched, watch_stop) = (Arc::clone(&app), stop.clone());
        parts.spawn(async move {
            watched.limiter.watch(watch_stop).await;
            ("Redis watch", Ok(()))
        });
        let (signing, keys_stop) = (Arc::clone(&auth), stop.clone());
        parts.spawn(async move {
            signing.watch(keys_stop).await;
            ("identity provider's keys", Ok(()))
        });
        let (pushed, keys_stop) = (Arc::clone(&app), stop.clone());
        parts.spawn(async move {
            match &pushed.gmail {
                Some(tokens) => tokens.watch(keys_stop).await,
                None => keys_stop.cancelled().await,
            }
            ("Gmail's keys", Ok(()))
        });
        let (filled, fill_stop) = (Arc::clone(&app), stop.clone());
        parts.spawn(async move {
            state::fill_lookups(filled, fill_stop).await;
            ("lookups", Ok(()))
        });
        let (showing, showing_stop) = (Arc::clone(&app), stop.clone());
        parts.spawn(async move {
            showing
                .impressions
                .run(Arc::clone(&showing.log), showing_stop)
                .await;
            ("impressions", Ok(()))
        });
        let bringing = Bringing {
            live: Arc::clone(&live),
            secrets_dir: options.secrets_dir.clone(),
            commands: command.clone(),
            metrics: Arc::clone(&metrics),
        };
        let bringing_stop = stop.clone();
        parts.spawn(async move {
            bringing.run(bringing_stop).await;
            ("the user's model", Ok(()))
        });
        if let Some(snapshots) = snapshots {
            state::spawn(&mut parts, snapshots, &options, &app, &command, &stop)?;
        }
        let load_stop = stop.clone();
        parts.spawn(async move {
            load.watch(load_stop).await;
            ("load watch", Ok(()))
        });
        let (sweep_cache, sweep_stop) = (cache.clone(), stop.clone());
        parts.spawn(async move {
            crate::privacy::sweep::run(to_sweep, sweep_cache, sweep_stop).await;
            ("sweep of caches", Ok(()))
        });
        if let Some(cache) = cache {
            let cache_stop = stop.clone();
            parts.spawn(async move {
                cache.run(cache_stop).await;
                ("cache writer", Ok(()))
            });
        }
        let watch = Watch {
            path: options.config_file.clone(),
            started_with: config.clone(),
            live,
            commands: command,
            auth,
            tls,
            log_filter: options.log_filter.clone(),
        };
        let watch_stop = stop.clone();
        parts.spawn(async move {
            watch.run(watch_stop).await;
            ("configuration watch", Ok(()))
        });
        tracing::info!(%public, %internal, version = env!("CARGO_PKG_VERSION"), "listening");
        Ok(Self {
            public,
            internal,
            app,
            parts,
            drain: options.drain,
            stop_serving,
            stop,
        })
    }

    /// The public address that is listened on.
    pub fn public(&self) -> SocketAddr {
        self.public
    }

    /// The internal address that is listened on.
    pub fn internal(&self) -> SocketAddr {
        self.internal
    }

    /// Other routes within the layers that every public request passes.
    pub(crate) fn within_layers(&self, routes: axum::Router) -> axum::Router {
        crate::http::within_layers(routes, &self.app)
    }

    /// Runs until `end` is cancelled, then ends in good order: not ready at once, serving on for the drain
    /// time, then the requests in flight, then the threads, then what is on its way to the log.
    pub async fn run(mut self, end: CancellationToken) -> Result<(), ServiceError> {
        let premature = tokio::select! {
            () = end.cancelled() => None,
            part = self.parts.join_next() => part,
        };
        self.app.draining.cancel();
        if premature.is_none() {
            tracing::info!(drain = ?self.drain, "ending: not ready, still serving");
            tokio::time::sleep(self.drain).await;
        }
        self.stop_serving.cancel();
        let outcome = |part: Result<Part, JoinError>| match part {
            Ok((name, Err(e))) => Err(ServiceError::Failed(name, e)),
            Ok((_, Ok(()))) => Ok(()),
            Err(e) => Err(ServiceError::Panicked(e)),
        };
        let mut result = match premature {
            None => Ok(()),
            Some(Ok((name, Ok(())))) => Err(ServiceError::Ended(name)),
            Some(part) => outcome(part),
        };
        // The public server first: its requests still append, and the internal port still tells about them.
        let mut public_ended = result.is_err();
        while !public_ended && let Some(part) = self.parts.join_next().await {
            public_ended = matches!(part, Ok(("public server", _)));
            result = result.and(outcome(part));
        }
        self.stop.cancel();
        while let Some(part) = self.parts.join_next().await {
            result = result.and(outcome(part));
        }
        self.app.log.close().await;
        let traces = self.app.traces.clone();
        // It blocks for some seconds where the collector is away.
        let _ = tokio::task::spawn_blocking(move || traces.close()).await;
        tracing::info!("ended");
        result
    }
}
