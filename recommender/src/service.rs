//! One running service: what `recommender serve` starts, and tests start in their own process.
//!
//! Every thread and task is waited for. If one ends before it was told to, the service ends with its name: a
//! half-dead replica that still counts as ready is worse than a restart.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use arc_swap::ArcSwap;
use recommendation_api::config::RecommenderConfig;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::cache::{AnswerCache, SharedAnswers};
use crate::config::{ConfigError, Live, Watch};
use crate::directory::Directory;
use crate::http::auth::Auth;
use crate::http::gmail::PushTokens;
use crate::http::limiter::Limiter;
use crate::http::remote::Trusted;
use crate::http::server::Lifetime;
use crate::http::tls::{Tls, TlsError};
use crate::http::tokens::AuthError;
use crate::http::{App, internal_router, public_router, server};
use crate::ingest::{Ingest, Lookups, Start};
use crate::log::Log;
use crate::log::embedded::{EmbeddedLog, OpenError, trim_covered};
use crate::log::kafka::KafkaLog;
use crate::metrics::Metrics;
use crate::model::{self, ModelError};
use crate::onnx::Bringing;
use crate::quality::Scrape;
use crate::ratelimit::{RedisError, RedisWindows};
use crate::resilience::breaker::{Breaker, Settings};
use crate::resilience::guarded_log::GuardedLog;
use crate::resilience::load::{Load, MAX_IN_FLIGHT};
use crate::secrets::{self, SecretError};
use crate::snapshot::keeper::Keeper;
use crate::snapshot::load::Snapshots;
use crate::source::embedded::EmbeddedSource;
use crate::source::kafka::{KafkaSource, events_topic};
use crate::source::{Source, SourceError};
use crate::store::{Store, StoreError};
use crate::telemetry::LogFilter;
use crate::traces::{TraceError, Traces};
use crate::trainer::follow::Follow;
use crate::trainer::schedule;
use crate::trainer::shelf::Shelf;

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

/// Why a service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is refused.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The model's configuration is refused.
    #[error("configuration: {0}")]
    Model(#[from] ModelError),
    /// Kafka mode without Kafka.
    #[error("configuration: kafka.bootstrapServers is required unless --embedded is given")]
    NoKafka,
    /// Kafka mode without a key to check tokens with.
    #[error("configuration: auth.jwtSecretFile is required unless --embedded is given")]
    NoKey,
    /// Keys cannot be used.
    #[error("authentication: {0}")]
    Auth(#[from] AuthError),
    /// A secret cannot be used.
    #[error("{0}")]
    Secret(#[from] SecretError),
    /// The cluster's part of the configuration cannot be used.
    #[error("configuration: {0}")]
    Cluster(#[from] crate::kafka::ClientError),
    /// TLS cannot be served.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// The Kafka client refuses its settings.
    #[error("Kafka client: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// The source cannot be started.
    #[error("{0}")]
    Source(#[from] SourceError),
    /// The embedded log cannot be opened.
    #[error("embedded log: {0}")]
    Embedded(#[from] OpenError),
    /// The training schedule is refused.
    #[error("configuration: {0}")]
    Schedule(#[from] schedule::ScheduleError),
    /// The snapshot store cannot be used.
    #[error("configuration: {0}")]
    Store(#[from] StoreError),
    /// Redis cannot be used.
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Traces cannot be sent.
    #[error("configuration: {0}")]
    Traces(#[from] TraceError),
    /// Metrics contradict each other.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The engine refuses its configuration.
    #[error("engine: {0}")]
    Engine(#[from] recommender_engine::ConfigError),
    /// The ingest thread cannot be started.
    #[error("cannot start the ingest thread: {0}")]
    Thread(std::io::Error),
}

/// Why a running service ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A part ended that should not.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
    /// A part failed.
    #[error("{0} failed: {1}")]
    Failed(&'static str, SourceError),
    /// A task panicked.
    #[error("a task panicked: {0}")]
    Panicked(#[from] JoinError),
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

type Ends = (Arc<dyn Log>, Box<dyn Source>);

/// The log and the source of a mode.
fn open(options: &Options, metrics: &Arc<Metrics>, traces: &Traces) -> Result<Ends, StartError> {
    let config = &options.config;
    match &options.mode {
        Mode::Embedded(path) => {
            let log = EmbeddedLog::open(path)?;
            let source = EmbeddedSource::open(path, log.committed(), Arc::clone(metrics))?;
            Ok((Arc::new(log), Box::new(source)))
        }
        Mode::Kafka => {
            let kafka = config.kafka.as_ref().ok_or(StartError::NoKafka)?;
            let client = crate::kafka::client(kafka, &options.secrets_dir, "recommender")?;
            let log = KafkaLog::new(&client, &config.topics)?.traced(traces.clone());
            let source = KafkaSource::start(&client, config, &log, metrics, traces.is_on())?;
            let log = GuardedLog::new(log, breaker("kafka", KAFKA, metrics));
            Ok((Arc::new(log), Box::new(source)))
        }
    }
}

/// Three deliveries in a row that were not acknowledged within their seconds.
const KAFKA: Settings = Settings {
    failures: 3,
    pause: Duration::from_secs(1),
};
/// A request waits milliseconds for Redis: single late answers are no outage.
const REDIS: Settings = Settings {
    failures: 5,
    pause: Duration::from_secs(1),
};

fn breaker(name: &'static str, settings: Settings, metrics: &Metrics) -> Breaker {
    let open = metrics.resilience.breaker_open.with_label_values(&[name]);
    open.set(0);
    Breaker::new(name, settings, open)
}

/// Caches answers if Redis is configured: in this process, and beyond it while Redis is there.
fn cache(
    config: &RecommenderConfig,
    redis: Option<&RedisWindows>,
    metrics: &Metrics,
) -> Option<Arc<AnswerCache>> {
    let (settings, redis) = (config.redis.as_ref()?, redis?);
    let figures = &metrics.resilience;
    let shared = SharedAnswers::new(
        redis.connection(),
        &config.pipeline,
        breaker("redis", REDIS, metrics),
        figures.cache_errors.clone(),
    );
    let ttl = Duration::from_millis(u64::try_from(settings.ttl.as_millis()).unwrap_or_default());
    Some(Arc::new(AnswerCache::new(
        ttl,
        Some(shared),
        figures.cache_requests.clone(),
    )))
}

/// The key that signs tokens: the configured one, or in embedded mode one made beside the database.
fn key_file(options: &Options) -> Result<PathBuf, StartError> {
    if let Some(name) = &options.config.auth.jwt_secret_file {
        return Ok(secrets::below(&options.secrets_dir, name)?);
    }
    let Mode::Embedded(path) = &options.mode else {
        return Err(StartError::NoKey);
    };
    let key = embedded_key_file(path);
    if secrets::read_or_make(&key)?.1 {
        tracing::info!(file = %key.display(), "made a key that signs tokens; `recommender token` uses it");
    }
    Ok(key)
}

/// Where embedded mode keeps its key: beside the database.
pub fn embedded_key_file(database: &std::path::Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".key");
    PathBuf::from(name)
}

/// Where snapshots are kept: in the configured store, or in embedded mode in a folder beside the database.
pub(crate) fn snapshots(
    config: &RecommenderConfig,
    secrets_dir: &std::path::Path,
    mode: &Mode,
) -> Result<Option<Snapshots>, StoreError> {
    let store = match (&config.snapshots, mode) {
        (Some(config), _) => Store::open(config, secrets_dir)?,
        (None, Mode::Embedded(path)) => Store::folder(&embedded_state_dir(path))?,
        (None, Mode::Kafka) => return Ok(None),
    };
    Ok(Some(Snapshots { store }))
}

/// Where embedded mode keeps snapshots and fitted models: beside the database.
pub fn embedded_state_dir(database: &std::path::Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".state");
    PathBuf::from(name)
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Once the model serves, takes up from it who bought what before, and what products are called: a model that was
/// restored was not told of each record. Of live ones has been told since.
async fn fill_lookups(app: Arc<App>, stop: CancellationToken) {
    let serving = async {
        while !app.is_serving() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if stop.run_until_cancelled(serving).await.is_some() {
        let filled = Arc::clone(&app);
        // It ends by itself within seconds; a panic in it is one of the service.
        let filling = tokio::task::spawn_blocking(move || {
            filled
                .reader
                .each_title(|id, title| filled.directory.set_title(id, title));
            filled.baskets.fill(&filled.reader);
        });
        if let Err(e) = filling.await {
            tracing::error!(error = %e, "titles and what is bought together are known from now on only");
        }
    }
    stop.cancelled().await;
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
        let redis = match &config.redis {
            Some(redis) => Some(RedisWindows::new(
                &redis.url,
                &config.pipeline,
                secret(&redis.password_file)?.as_ref(),
            )?),
            None => None,
        };
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
        let lookups = Lookups {
            directory: Arc::new(Directory::new(
                usize::try_from(config.limits.max_customers).unwrap_or(usize::MAX),
            )),
            ..Lookups::default()
        };
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
            runtime: tokio::runtime::Handle::current(),
        }))
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
            cache: cache.clone(),
            load: Arc::clone(&load),
            traces,
            reader: ingest.reader(),
            directory: lookups.directory,
            baskets: lookups.baskets,
            gmail: PushTokens::new(config.webhooks.gmail.as_ref()).map_err(AuthError::from)?,
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
            fill_lookups(filled, fill_stop).await;
            ("lookups", Ok(()))
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
            let shelf = Shelf {
                store: snapshots.store.clone(),
            };
            let follow = Follow {
                shelf: shelf.clone(),
                commands: command.clone(),
                live: Arc::clone(&live),
            };
            let follow_stop = stop.clone();
            parts.spawn(async move {
                follow.run(follow_stop).await;
                ("fitted models", Ok(()))
            });
            if let Mode::Embedded(_) = &options.mode {
                let cron = schedule::parse(&config.model.retrain.schedule)?;
                let (reader, engine) = (app.reader.clone(), model::engine_config(config)?);
                let trainer_stop = stop.clone();
                parts.spawn(async move {
                    schedule::run(cron, reader, engine, shelf, trainer_stop).await;
                    ("trainer", Ok(()))
                });
            }
            let covered = match &options.mode {
                Mode::Embedded(path) => {
                    Some(trim_covered(path.clone(), config.privacy.retention.as_millis()))
                }
                Mode::Kafka => None,
            };
            let keeper = Keeper {
                snapshots,
                interval: config.snapshots.clone().unwrap_or_default().interval.0,
                commands: command.clone(),
                progress: Arc::clone(&app.progress),
                metrics,
                covered,
            };
            let keeper_stop = stop.clone();
            parts.spawn(async move {
                keeper.run(keeper_stop).await;
                ("snapshots", Ok(()))
            });
        }
        let load_stop = stop.clone();
        parts.spawn(async move {
            load.watch(load_stop).await;
            ("load watch", Ok(()))
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
