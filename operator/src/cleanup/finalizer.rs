//! The finalizer itself.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use recommendation_api::names::FINALIZER;
use recommendation_api::pipeline::RecommendationPipeline;
use serde_json::json;

use super::plan::needs_finalizer;
use crate::deadline::{self, Elapsed};

/// The finalizer could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FinalizerError {
    /// The API server refuses, or someone else wrote the object since it was read.
    #[error("cannot write the finalizer: {0}")]
    Write(Box<kube::Error>),
    /// No answer in time.
    #[error("cannot write the finalizer: {0}")]
    Timeout(Elapsed),
}

impl FinalizerError {
    /// The variant's name, as a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Write(_) => "Finalizer",
            Self::Timeout(_) => "FinalizerTimeout",
        }
    }
}

/// Adds or removes the finalizer as the spec asks for; the object as it then is, if written.
///
/// # Errors
/// [`FinalizerError`].
pub async fn settle(
    client: &Client,
    pipeline: &RecommendationPipeline,
) -> Result<Option<RecommendationPipeline>, FinalizerError> {
    let has = pipeline.finalizers().iter().any(|name| name == FINALIZER);
    match (has, needs_finalizer(&pipeline.spec)) {
        (false, true) => write(client, pipeline, true).await.map(Some),
        (true, false) => write(client, pipeline, false).await.map(Some),
        _ => Ok(None),
    }
}

/// Removes the finalizer: the API server may delete the object.
///
/// # Errors
/// [`FinalizerError`].
pub async fn release(client: &Client, pipeline: &RecommendationPipeline) -> Result<(), FinalizerError> {
    write(client, pipeline, false).await.map(|_| ())
}

async fn write(
    client: &Client,
    pipeline: &RecommendationPipeline,
    present: bool,
) -> Result<RecommendationPipeline, FinalizerError> {
    let mut finalizers: Vec<String> = pipeline.finalizers().to_vec();
    finalizers.retain(|name| name != FINALIZER);
    if present {
        finalizers.push(FINALIZER.to_owned());
    }
    let version = pipeline.resource_version();
    // With the version that was read: a list is replaced as a whole, and another finalizer must not get lost.
    let patch = json!({"metadata": {
        "finalizers": finalizers,
        "resourceVersion": version,
    }});
    let api: Api<RecommendationPipeline> =
        Api::namespaced(client.clone(), &pipeline.namespace().unwrap_or_default());
    let name = pipeline.name_any();
    let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
    let call = api.patch(&name, &params, &patch);
    match deadline::within(deadline::KUBERNETES, call).await {
        Ok(Ok(written)) => Ok(written),
        Ok(Err(error)) => Err(FinalizerError::Write(Box::new(error))),
        Err(error) => Err(FinalizerError::Timeout(error)),
    }
}
