//! The one trainer: fits what cannot be counted (`Ease`, `ImplicitAls`, weights of the blend), keeps it on a
//! shelf in the snapshot store, and sees to it that every replica answers with the same version.
//!
//! A version is put in front only if it is not worse than the one before, asked about the newest part of what
//! customers did, which neither has seen; see [`fit::MARGIN`].

pub mod fit;
pub mod follow;
pub mod schedule;
pub mod shelf;

use recommender_engine::{EngineConfig, Reader};

use self::fit::{FitError, Fitted};
use self::shelf::{Shelf, ShelfError};
use crate::clock::now_ms;

/// Why there is no new version.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Fitting or judging failed.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The store does not do its part.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// A thread panicked.
    #[error("fitting ended unexpectedly: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

/// What a training came to.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The new version.
    pub version: String,
    /// Whether it answers from now on.
    pub accepted: bool,
    /// Share of held-out questions that it answered, of 10 products each.
    pub hit_rate_at_10: f64,
    /// The same of the version before, on the same questions.
    pub previous_hit_rate_at_10: Option<f64>,
    /// Questions asked.
    pub questions: usize,
    /// Models in it.
    pub models: Vec<String>,
    /// Seconds that it took.
    pub seconds: f64,
}

/// Fits, judges, and puts what is good enough on the shelf.
pub async fn train(reader: Reader, config: EngineConfig, shelf: &Shelf) -> Result<Report, TrainError> {
    let started = std::time::Instant::now();
    let previous = match shelf.current().await? {
        // One that cannot be read any more must not keep a new one from being made.
        Some(version) => shelf
            .load(&version)
            .await
            .inspect_err(|e| tracing::warn!(version, error = %e, "the version before cannot be read"))
            .ok(),
        None => None,
    };
    let now = now_ms();
    let fitting = tokio::task::spawn_blocking(move || fit::fit(&reader, &config, previous.as_ref(), now));
    let Fitted {
        bundle,
        hit_rate,
        previous_hit_rate,
        questions,
    } = fitting.await??;
    let accepted = fit::good_enough(hit_rate, previous_hit_rate);
    let report = Report {
        version: bundle.version.clone(),
        accepted,
        hit_rate_at_10: hit_rate,
        previous_hit_rate_at_10: previous_hit_rate,
        questions,
        models: bundle
            .artifacts
            .iter()
            .map(|a| a.algorithm().name().to_owned())
            .collect(),
        seconds: started.elapsed().as_secs_f64(),
    };
    if accepted {
        shelf.publish(&bundle, hit_rate).await?;
    }
    tracing::info!(
        version = report.version,
        accepted,
        hit_rate_at_10 = hit_rate,
        previous = previous_hit_rate,
        questions,
        took = ?started.elapsed(),
        "models fitted"
    );
    Ok(report)
}
