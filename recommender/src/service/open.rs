//! What a service is made of, opened: the log, caches, keys, stores and addresses that its options name.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use recommendation_api::config::RecommenderConfig;
use recommendation_api::pipeline::recommender::Histories as Kept;
use secrecy::SecretString;
use tokio::net::TcpListener;

use super::{Mode, Options, StartError};
use crate::cache::{AnswerCache, SharedAnswers};
use crate::histories::{Histories, LEARN_WITHIN};
use crate::log::Log;
use crate::log::embedded::EmbeddedLog;
use crate::log::kafka::KafkaLog;
use crate::metrics::Metrics;
use crate::privacy::Privacy;
use crate::ratelimit::{RedisError, RedisWindows, connect};
use crate::resilience::breaker::{Breaker, Settings, Trial};
use crate::resilience::guarded_log::GuardedLog;
use crate::secrets;
use crate::snapshot::load::Snapshots;
use crate::source::Source;
use crate::source::embedded::EmbeddedSource;
use crate::source::kafka::{KafkaSource, events_topic};
use crate::store::{Store, StoreError};
use crate::traces::Traces;

pub(super) type Ends = (Arc<dyn Log>, Box<dyn Source>);

/// The log and the source of a mode.
pub(super) fn open(options: &Options, metrics: &Arc<Metrics>, traces: &Traces) -> Result<Ends, StartError> {
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
            let log = KafkaLog::new(&client, &config.topics)?
                .learned_from(events_topic(config).0)
                .traced(traces.clone());
            let source = KafkaSource::start(&client, config, &log, metrics, traces.is_on())?;
            let log = GuardedLog::new(log, breaker("kafka", KAFKA, metrics));
            Ok((Arc::new(log), Box::new(source)))
        }
    }
}

/// Three deliveries in a row that were not acknowledged within their seconds.
const KAFKA: Settings = Settings {
    failures: 3,
    trial: Trial::Call(Duration::from_secs(1)),
};
/// A request waits milliseconds for Redis: single late answers are no outage. The task that writes answers asks whether
/// Redis is back: connecting takes longer than a request waits.
const REDIS: Settings = Settings {
    failures: 5,
    trial: Trial::Beside,
};

pub(super) fn breaker(name: &'static str, settings: Settings, metrics: &Metrics) -> Breaker {
    let open = metrics.resilience.breaker_open.with_label_values(&[name]);
    open.set(0);
    Breaker::new(name, settings, open)
}

/// Caches answers if Redis is configured: in this process, and beyond it while Redis is there.
pub(super) fn cache(
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
        &figures.cache_requests,
    )))
}

/// Three requests in a row that Redis did not answer.
const HISTORIES: Settings = Settings {
    failures: 3,
    trial: Trial::Call(Duration::from_secs(1)),
};

/// Where histories are kept, if not in memory.
pub(super) fn histories(
    config: &RecommenderConfig,
    password: Option<&SecretString>,
    products: usize,
    metrics: &Metrics,
) -> Result<Option<Arc<Histories>>, RedisError> {
    let (Kept::Redis, Some(redis)) = (config.histories, &config.redis) else {
        return Ok(None);
    };
    let connection = || connect(&redis.url, password, LEARN_WITHIN);
    Ok(Some(Histories::new(
        [connection()?, connection()?],
        config,
        products,
        breaker("histories", HISTORIES, metrics),
        metrics.resilience.recalls.clone(),
    )))
}

/// The key that signs tokens: the configured one, or in embedded mode one made beside the database.
pub(super) fn key_file(options: &Options) -> Result<PathBuf, StartError> {
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
    beside(database, ".key")
}

/// The key of erasures and pseudonyms: the configured one, or in embedded mode one made beside the database.
pub(crate) fn privacy(
    config: &RecommenderConfig,
    secrets_dir: &std::path::Path,
    mode: &Mode,
) -> Result<Privacy, StartError> {
    let embedded = matches!(mode, Mode::Embedded(_));
    let key = match (&config.privacy.key_file, mode) {
        (Some(name), _) => secrets::read(&secrets::below(secrets_dir, name)?)?,
        (None, Mode::Embedded(path)) => secrets::read_or_make(&beside(path, ".privacy-key"))?.0,
        (None, Mode::Kafka) => return Err(StartError::NoPrivacyKey),
    };
    Ok(Privacy::new(&key, config, embedded))
}

fn beside(database: &std::path::Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
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
    beside(database, ".state")
}

pub(super) async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
