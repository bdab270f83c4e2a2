//! Logs on standard error, with a filter that can be replaced while the operator runs.

use std::sync::Mutex;

use clap::ValueEnum;
use recommendation_api::config::log_directives;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

/// What is logged unless RUST_LOG says otherwise: librdkafka's own lines repeat what conditions say.
const FILTER: &str = "info,rdkafka=off,librdkafka=off";

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The filter cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// It cannot be parsed.
    #[error("log filter {filter:?} is not understood: {source}")]
    Parse {
        /// The filter.
        filter: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logging is gone.
    #[error("the log filter cannot be replaced: {0}")]
    Reload(#[from] reload::Error),
}

/// The log filter in force.
#[derive(Debug)]
pub struct LogFilter {
    current: Mutex<String>,
    /// `None` where no logging of ours is installed: the filter is only remembered.
    handle: Option<reload::Handle<EnvFilter, Registry>>,
}

impl LogFilter {
    /// A filter that filters nothing.
    pub fn detached() -> Self {
        Self {
            current: Mutex::new(FILTER.to_owned()),
            handle: None,
        }
    }

    /// Installs logging; RUST_LOG chooses the first filter.
    pub fn install(format: LogFormat) -> Self {
        let wanted = std::env::var("RUST_LOG").unwrap_or_default();
        let (text, filter) = match parse(&wanted) {
            Ok(filter) if !wanted.is_empty() => (wanted, filter),
            _ => (FILTER.to_owned(), EnvFilter::new(FILTER)),
        };
        let (filter, handle) = reload::Layer::new(filter);
        let lines = fmt::layer().with_writer(std::io::stderr);
        let lines = match format {
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
            LogFormat::Text => lines.boxed(),
        };
        tracing_subscriber::registry().with(filter).with(lines).init();
        Self {
            current: Mutex::new(text),
            handle: Some(handle),
        }
    }

    /// The filter in force.
    pub fn current(&self) -> String {
        self.current.lock().map(|text| text.clone()).unwrap_or_default()
    }

    /// Replaces the filter; on an error the old one stays.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn set(&self, filter: &str) -> Result<(), FilterError> {
        let parsed = parse(filter)?;
        if let Some(handle) = &self.handle {
            handle.reload(parsed)?;
        }
        if let Ok(mut current) = self.current.lock() {
            filter.clone_into(&mut current);
        }
        Ok(())
    }
}

fn parse(filter: &str) -> Result<EnvFilter, FilterError> {
    EnvFilter::try_new(log_directives(filter)).map_err(|source| FilterError::Parse {
        filter: filter.to_owned(),
        source,
    })
}

/// Whether a filter can be used.
///
/// # Errors
/// [`FilterError::Parse`].
pub fn check(filter: &str) -> Result<(), FilterError> {
    parse(filter).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_not_understood_changes_nothing() {
        let filter = LogFilter::detached();
        filter.set("debug,kube=warn").unwrap();
        assert_eq!(filter.current(), "debug,kube=warn");
        let refused = filter.set("kube=loud").unwrap_err();
        assert!(refused.to_string().contains("kube=loud"), "{refused}");
        assert_eq!(filter.current(), "debug,kube=warn");
    }
}
