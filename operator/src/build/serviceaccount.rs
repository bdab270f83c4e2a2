//! A ServiceAccount without any right: the recommender never talks to the API server.

use k8s_openapi::api::core::v1::ServiceAccount;
use recommendation_api::names::Children;

use super::metadata;
use crate::validate::ValidatedPipeline;

pub(super) fn build(pipeline: &ValidatedPipeline) -> Option<ServiceAccount> {
    let id = &pipeline.id;
    pipeline
        .workload
        .template
        .service_account_name
        .is_none()
        .then(|| ServiceAccount {
            metadata: metadata(id, Children(&id.name).workload()),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        })
}
