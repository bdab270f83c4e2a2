//! An object that the API server took and that cannot be read as a pipeline: a CRD of another version, or a value that
//! its schema could not rule out. It is told on the object itself, which is handled as plain JSON here.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::error_boundary::InvalidObject;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use recommendation_api::names::FIELD_MANAGER;
use recommendation_api::pipeline::RecommendationPipeline;
use serde_json::json;

use super::StatusError;
use super::conditions::{invalid, merge};
use crate::deadline;
use crate::validate::InvalidSpec;

/// Says on the object that it cannot be read, unless it says so already.
///
/// # Errors
/// Any [`StatusError`] but `Conflict`.
pub async fn malformed(client: &Client, object: &InvalidObject) -> Result<(), StatusError> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let resource = ApiResource::erase::<RecommendationPipeline>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    let found = deadline::within(deadline::KUBERNETES, api.get_opt(&name)).await;
    let live = match found {
        Ok(Ok(Some(live))) => live,
        Ok(Ok(None)) => return Ok(()),
        Ok(Err(error)) => return Err(StatusError::Write(Box::new(error))),
        Err(error) => return Err(StatusError::Timeout(error)),
    };
    let before: Vec<Condition> =
        serde_json::from_value(live.data["status"]["conditions"].clone()).unwrap_or_default();
    let error = InvalidSpec::new("spec", format!("this version cannot read it: {}", object.error));
    let generation = live.metadata.generation.unwrap_or_default();
    let conditions = merge(
        &before,
        &invalid(&before, &error),
        generation,
        &Time(Timestamp::now()),
    );
    if conditions == before {
        return Ok(());
    }
    let body = json!({"status": {"observedGeneration": generation, "conditions": conditions}});
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match deadline::within(
        deadline::KUBERNETES,
        api.patch_status(&name, &params, &Patch::Merge(&body)),
    )
    .await
    {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(answer))) if answer.code == 404 => Ok(()),
        Ok(Err(error)) => Err(StatusError::Write(Box::new(error))),
        Err(error) => Err(StatusError::Timeout(error)),
    }
}
