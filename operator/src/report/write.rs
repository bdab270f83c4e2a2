//! The one write of a reconcile: status, and only if it differs.

use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use recommendation_api::names::FIELD_MANAGER;
use recommendation_api::pipeline::{RecommendationPipeline, RecommendationPipelineStatus};

use crate::deadline::{self, Elapsed};

/// The status could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Someone else wrote the object since it was read: it is looked at again.
    #[error("the pipeline changed while it was looked at")]
    Conflict,
    /// The pipeline is gone.
    #[error("the pipeline is gone")]
    Gone,
    /// The API server refuses.
    #[error("cannot write the status: {0}")]
    Write(Box<kube::Error>),
    /// No answer in time.
    #[error("cannot write the status: {0}")]
    Timeout(Elapsed),
}

impl StatusError {
    /// The variant's name, as a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::Write(_) => "StatusWrite",
            Self::Timeout(_) => "StatusTimeout",
        }
    }
}

/// Writes the status if it differs from the one that `pipeline` carries, against the version that was read: an
/// object that changed in between is a [`StatusError::Conflict`]. Returns the object as it then is, if written.
///
/// # Errors
/// Any [`StatusError`].
pub async fn write(
    client: &Client,
    pipeline: &RecommendationPipeline,
    status: RecommendationPipelineStatus,
) -> Result<Option<RecommendationPipeline>, StatusError> {
    if pipeline.status.as_ref() == Some(&status) {
        return Ok(None);
    }
    let mut wanted = pipeline.clone();
    wanted.metadata.managed_fields = None;
    wanted.status = Some(status);
    let api: Api<RecommendationPipeline> =
        Api::namespaced(client.clone(), &pipeline.namespace().unwrap_or_default());
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let name = pipeline.name_any();
    // A replacement, not a merge: what is no longer so must go.
    let call = api.replace_status(&name, &params, &wanted);
    match deadline::within(deadline::KUBERNETES, call).await {
        Ok(Ok(written)) => Ok(Some(written)),
        Ok(Err(kube::Error::Api(answer))) if answer.code == 409 => Err(StatusError::Conflict),
        Ok(Err(kube::Error::Api(answer))) if answer.code == 404 => Err(StatusError::Gone),
        Ok(Err(error)) => Err(StatusError::Write(Box::new(error))),
        Err(error) => Err(StatusError::Timeout(error)),
    }
}
