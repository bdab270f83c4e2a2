//! Fourth step: writes, in order, and only where what is there lacks something of what is wanted. Stages do not hide
//! each other: each returns its outcome, and a dead Kafka does not stop a rollout.

pub mod children;
pub mod drops;
pub mod record;
pub mod refused;
mod scaled;
pub mod statements;
pub mod subset;
pub mod topics;
pub mod uncached;

use crate::deadline::Elapsed;

/// A write to the API server that failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Server-side apply of a child.
    #[error("cannot apply {kind} {name}: {source}")]
    Apply {
        /// Kind.
        kind: String,
        /// Name.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// Deleting a child that is no longer wanted.
    #[error("cannot delete {kind} {name}: {source}")]
    Delete {
        /// Kind.
        kind: String,
        /// Name.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// Something of that name is there, and not this pipeline's: it is not taken over.
    #[error(
        "{kind} {name} is there already and not this pipeline's: delete it, or give the pipeline another name"
    )]
    Foreign {
        /// Kind.
        kind: String,
        /// Name.
        name: String,
    },
    /// No answer in time.
    #[error("{kind} {name}: the API server gave {source}")]
    Timeout {
        /// Kind.
        kind: String,
        /// Name.
        name: String,
        /// How long was waited.
        source: Elapsed,
    },
    /// The object is not valid JSON: a bug.
    #[error("cannot write {kind} {name} as JSON: {source}")]
    Encode {
        /// Kind.
        kind: String,
        /// Name.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl ApplyError {
    /// Whether the API server said nothing at all.
    pub fn is_silence(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Apply { source, .. } | Self::Delete { source, .. } => {
                !matches!(**source, kube::Error::Api(_))
            }
            Self::Foreign { .. } | Self::Encode { .. } => false,
        }
    }

    /// The variant's name, as a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Apply { .. } => "Apply",
            Self::Delete { .. } => "Delete",
            Self::Foreign { .. } => "Foreign",
            Self::Timeout { .. } => "Timeout",
            Self::Encode { .. } => "Encode",
        }
    }
}
