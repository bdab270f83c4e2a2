//! The configuration file: read at start, then looked at every two seconds. Weights, rules, a brought model, rate
//! limits and the log filter are taken up while running; anything else is named in the log as needing a restart.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use arc_swap::ArcSwap;
use recommendation_api::RecommenderConfig;
use recommendation_api::config::{OnnxConfig, RateLimitsConfig};
use recommendation_api::model::PurchasedPolicy;
use recommendation_api::pipeline::recommender::Histories;
use recommendation_api::pipeline::serving::Consent;
use tokio_util::sync::CancellationToken;

use crate::experiments::{ExperimentError, Experiments};
use crate::http::auth::Auth;
use crate::http::tls::Tls;
use crate::ingest::Command;
use crate::model::{self, ModelError};
use crate::telemetry::LogFilter;

/// How often the file is looked at. By content, not by modification time: a ConfigMap's update swaps a
/// symbolic link two levels up, and a poll sees it whatever the volume's plugin does.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not a configuration; the message names the field.
    #[error("{path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// The model's part contradicts itself or asks for what this version cannot do.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The experiments cannot be run.
    #[error("experiments: {0}")]
    Experiments(#[from] ExperimentError),
    /// A value outside its range.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field at fault.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// Reads and checks a configuration file.
pub fn load(path: &Path) -> Result<RecommenderConfig, ConfigError> {
    let bytes = std::fs::read(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<RecommenderConfig, ConfigError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let config: RecommenderConfig =
        serde_path_to_error::deserialize(&mut json).map_err(|e| ConfigError::Parse {
            path: path.to_owned(),
            message: e.to_string(),
        })?;
    check(&config)?;
    Ok(config)
}

/// Checks what the types cannot.
pub fn check(config: &RecommenderConfig) -> Result<(), ConfigError> {
    model::engine_config(config)?;
    Experiments::new(config)?;
    Experiments::check(config)?;
    let invalid = |field, problem: String| Err(ConfigError::Invalid { field, problem });
    crate::trainer::schedule::parse(&config.model.retrain.schedule)
        .map(drop)
        .or_else(|e| invalid("model.retrain.schedule", e.to_string()))?;
    // Of the file as it is: a running service may have been told of rules or a model by now, or of their end, while what
    // it answers with waits for a restart.
    let algorithm = config.model.algorithm;
    if let Some(lack) = algorithm.lacks(config.provision(), "") {
        return invalid("model.algorithm", format!("{} {lack}", algorithm.name()));
    }
    if config.histories == Histories::Redis {
        let problem = match (&config.redis, &config.kafka) {
            (None, _) => Some("Redis needs a server: set redis.url"),
            (_, None) => Some("Redis is for replicas that read Kafka: leave Memory"),
            _ if config.privacy.consent == Consent::OptIn => {
                Some("Redis is for privacy.consent OptOut: with OptIn leave Memory")
            }
            _ => None,
        };
        if let Some(problem) = problem {
            return invalid("histories", problem.to_owned());
        }
    }
    for origin in &config.http.cors_origins {
        if origin != "*" && http::HeaderValue::from_str(origin).is_err() {
            return invalid("http.corsOrigins", format!("{origin:?} is not an origin"));
        }
    }
    for proxy in &config.http.trusted_proxies {
        if let Err(e) = crate::http::remote::parse_network(proxy) {
            return invalid("http.trustedProxies", format!("{proxy:?}: {e}"));
        }
    }
    for (field, address) in config.web_addresses() {
        // What can be called at all: a word and a colon are a URL too.
        if !reqwest::Url::parse(address).is_ok_and(|url| url.has_host()) {
            return invalid(field, format!("{address:?} is no web address"));
        }
    }
    crate::telemetry::LogFilter::detached("info")
        .set(&config.telemetry.log_filter)
        .or_else(|e| invalid("telemetry.logFilter", e.to_string()))
}

/// The part of the configuration that requests look at and that may change under them.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// Rate limits.
    pub rate_limits: RateLimitsConfig,
    /// Products that no answer shows or names as a reason.
    pub excluded: HashSet<String>,
    /// The algorithm that answers unless a request names another.
    pub algorithm: String,
    /// Version id, in every answer.
    pub version: String,
    /// Population stability index over which the model counts as drifted.
    pub drift_threshold: f64,
    /// The fitted models that answer.
    pub fitted: Option<FittedVersion>,
    /// Whether there is a place for fitted models.
    pub trainable: bool,
    /// Where the model lies that the user brings.
    pub onnx: Option<OnnxConfig>,
    /// What became of it.
    pub brought: Brought,
    /// Experiments between algorithms.
    pub experiments: Arc<Experiments>,
    /// Whether what a customer has bought is not shown to them again.
    pub hides_purchased: bool,
}

/// The model that the user brings, as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// The version that answers; `None`: Hybrid does.
    pub version: Option<String>,
    /// Why the configured one does not.
    pub problem: Option<String>,
}

/// A version of the fitted models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FittedVersion {
    /// Its name.
    pub version: String,
    /// When it was fitted, milliseconds since 1970.
    pub trained_ms: i64,
}

impl Live {
    /// From a checked configuration.
    pub fn new(config: &RecommenderConfig) -> Result<Self, ModelError> {
        let engine = model::engine_config(config)?;
        Ok(Self {
            rate_limits: config.rate_limits.clone(),
            excluded: config.rules.exclude_products.iter().cloned().collect(),
            algorithm: config.model.algorithm.name().to_owned(),
            version: model::version(&engine),
            fitted: None,
            trainable: config.provision().store,
            drift_threshold: config.quality.drift_threshold,
            onnx: config.model.onnx.clone(),
            brought: Brought::default(),
            // Refused when the configuration is read; a caller that skips that runs without.
            experiments: Arc::new(Experiments::new(config).unwrap_or_default()),
            hides_purchased: config.rules.purchased == PurchasedPolicy::Exclude,
        })
    }

    /// The same with these fitted models, whose version is part of the whole's: `0.1.0-1a2b3c4d+20260131T030000Z`.
    #[must_use]
    pub fn with_fitted(&self, fitted: Option<FittedVersion>) -> Self {
        Self {
            fitted,
            ..self.clone()
        }
        .named()
    }

    /// The same with the model that the user brings as it stands now; its version is part of the whole's too.
    #[must_use]
    pub fn with_brought(&self, brought: Brought) -> Self {
        Self {
            brought,
            ..self.clone()
        }
        .named()
    }

    /// The same with the models that `running` answers with.
    #[must_use]
    fn with_models_of(&self, running: &Self) -> Self {
        self.with_fitted(running.fitted.clone())
            .with_brought(running.brought.clone())
    }

    /// Puts the version together again.
    fn named(mut self) -> Self {
        let mut version = self.version.split('+').next().unwrap_or_default().to_owned();
        let fitted = self.fitted.as_ref().map(|fitted| &fitted.version);
        for part in fitted.into_iter().chain(&self.brought.version) {
            version.push('+');
            version.push_str(part);
        }
        self.version = version;
        self
    }
}

/// Takes changes up while the service runs.
pub struct Watch {
    /// The file; absent: only secrets are looked at.
    pub path: Option<PathBuf>,
    /// The configuration that the service started with.
    pub started_with: RecommenderConfig,
    /// What requests look at.
    pub live: Arc<ArcSwap<Live>>,
    /// To the ingest thread, which owns the engine.
    pub commands: mpsc::Sender<Command>,
    /// Keys and users are read again too, so that a secret can be rotated without a restart.
    pub auth: Arc<Auth>,
    /// The same of the public port's certificate.
    pub tls: Option<Arc<Tls>>,
    /// The log filter.
    pub log_filter: LogFilter,
}

impl Watch {
    /// Looks until stopped.
    pub async fn run(self, stop: CancellationToken) {
        // Nothing is seen yet: the file may have changed between its reading at start and now.
        let mut seen = None;
        let mut config = self.started_with.clone();
        while stop
            .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
            .await
            .is_some()
        {
            self.auth.reload();
            if let Some(tls) = &self.tls {
                tls.reload();
            }
            let now = self.read();
            // An unreadable moment (the link is being swapped) is no change.
            let (Some(path), Some(bytes)) = (&self.path, &now) else {
                continue;
            };
            if now == seen {
                continue;
            }
            match parse(path, bytes) {
                Ok(new) if new == config => {}
                Ok(new) => {
                    self.take_up(&config, &new);
                    config = new;
                }
                Err(e) => {
                    tracing::error!(error = %e, "the changed configuration is refused; the old one stays")
                }
            }
            seen = now;
        }
    }

    fn read(&self) -> Option<Vec<u8>> {
        self.path.as_ref().and_then(|path| std::fs::read(path).ok())
    }

    fn take_up(&self, old: &RecommenderConfig, new: &RecommenderConfig) {
        if self.started_with.restart_part() != new.restart_part() {
            tracing::warn!("the configuration has changes that need a restart; the others are taken up now");
        }
        // What needs a restart keeps its old value: the engine and `/status` must agree with what runs.
        let running = self.started_with.with_live_part_of(new);
        let tuned = (|| {
            Ok::<_, ModelError>((
                model::tuning(&running)?,
                model::knowledge(&running)?,
                Live::new(&running)?,
            ))
        })();
        let (tuning, knowledge, live) = match tuned {
            Ok(tuned) => tuned,
            Err(e) => {
                tracing::error!(error = %e, "the changed configuration is refused; the old one stays");
                return;
            }
        };
        if self.commands.send(Command::Tune(tuning, knowledge)).is_err() {
            return; // the ingest thread has ended, and with it the service
        }
        self.live.rcu(|old| live.with_models_of(old));
        if old.telemetry != new.telemetry
            && let Err(e) = self.log_filter.set(&new.telemetry.log_filter)
        {
            tracing::error!(error = %e, "log filter refused");
        }
        tracing::info!("configuration taken up");
    }
}

#[cfg(test)]
mod tests;
