//! Logs: one line an event on standard error, as JSON in clusters and as text for people. The filter can be
//! replaced while running (configuration file, `PUT /loglevel`).

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::Mutex;

use clap::ValueEnum;
use recommendation_api::config::log_directives;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Why a log filter is refused.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be parsed.
    #[error("log filter {0:?} is not understood: {1}")]
    Filter(String, String),
    /// The subscriber is gone, or another one was installed first.
    #[error("logging cannot be set up: {0}")]
    Install(String),
}

/// Handle on the log filter.
#[derive(Clone)]
pub struct LogFilter {
    current: Arc<Mutex<String>>,
    // None where no subscriber of ours is installed (tests, a library user): the filter is then only remembered.
    handle: Option<reload::Handle<EnvFilter, Registry>>,
}

impl LogFilter {
    /// A filter that is remembered but filters nothing.
    pub fn detached(filter: &str) -> Self {
        Self {
            current: Arc::new(Mutex::new(filter.to_owned())),
            handle: None,
        }
    }

    /// The filter in force.
    pub fn current(&self) -> String {
        self.current.lock().map(|s| s.clone()).unwrap_or_default()
    }

    /// Replaces the filter; on an error the old one stays.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        let parsed = parse(filter)?;
        if let Some(handle) = &self.handle {
            handle
                .reload(parsed)
                .map_err(|e| LogError::Install(e.to_string()))?;
        }
        if let Ok(mut current) = self.current.lock() {
            filter.clone_into(&mut current);
        }
        Ok(())
    }
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(log_directives(filter))
        .map_err(|e| LogError::Filter(filter.to_owned(), e.to_string()))
}

/// Installs the process's logger.
pub fn install(format: LogFormat, filter: &str) -> Result<LogFilter, LogError> {
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    let registry = tracing_subscriber::registry().with(layer);
    let installed = match format {
        LogFormat::Json => {
            let json = fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false);
            registry.with(json.with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Text => registry
            .with(
                fmt::layer()
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_target(false)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    };
    installed.map_err(|e| LogError::Install(e.to_string()))?;
    Ok(LogFilter {
        current: Arc::new(Mutex::new(filter.to_owned())),
        handle: Some(handle),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_parsed_leaves_the_old_one_in_force() {
        let filter = LogFilter::detached("info");
        assert!(filter.set("info,recommender=nonsense=x").is_err());
        assert_eq!(filter.current(), "info");
        filter.set("warn,recommender::http=debug").unwrap();
        assert_eq!(filter.current(), "warn,recommender::http=debug");
    }

    #[test]
    fn blanks_around_directives_are_of_no_account() {
        assert_eq!(parse("warn, kube=debug").unwrap().to_string(), "kube=debug,warn");
        // A panic of the library, once: positions in the trimmed text cut the untrimmed one within a letter.
        assert!(parse("warn, p\u{1ee7a}\u{1ee7a}=ooo").is_err());
    }
}
