//! A Deployment whose number of pods somebody else decides. Server-side apply resets a field to its default when its only
//! owner leaves it out, and a Deployment of twenty pods would be one of one pod for a moment: the number is handed over
//! first.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use recommendation_api::names::FIELD_MANAGER;
use serde_json::json;

use super::ApplyError;
use super::children::Applier;

/// Field manager that keeps the number of pods until an autoscaler changes it.
const REPLICAS_MANAGER: &str = "recommendation-operator-replicas";

impl Applier<'_> {
    /// Applies a Deployment that names no number of pods. `fewest`: how many there are at first.
    ///
    /// # Errors
    /// Any [`ApplyError`].
    pub(super) async fn scaled(&self, wanted: &Deployment, fewest: i32) -> Result<Deployment, ApplyError> {
        let name = wanted.name_any();
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &self.id.namespace);
        if self.is_applied(&self.caches.deployments, wanted) {
            return self.one(&self.caches.deployments, wanted).await;
        }
        let live = self.written("Deployment", &name, api.get_opt(&name)).await?;
        match &live {
            None => {
                self.one(&self.caches.deployments, wanted).await?;
                return self.hand_over(&api, &name, fewest).await;
            }
            Some(live) if super::children::foreign(live, self.id) => {}
            Some(live) if owns_replicas(live) => {
                let pods = live
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.replicas)
                    .unwrap_or(fewest);
                // No autoscaler touches a Deployment of none.
                self.hand_over(&api, &name, if pods == 0 { fewest } else { pods })
                    .await?;
            }
            Some(_) => {}
        }
        self.one(&self.caches.deployments, wanted).await
    }

    /// Gives the number of pods to another field manager of ours.
    async fn hand_over(
        &self,
        api: &Api<Deployment>,
        name: &str,
        pods: i32,
    ) -> Result<Deployment, ApplyError> {
        tracing::info!(name, pods, "handing the number of pods over");
        let body = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": pods},
        });
        let params = PatchParams::apply(REPLICAS_MANAGER).force();
        self.written("Deployment", name, api.patch(name, &params, &Patch::Apply(&body)))
            .await
    }
}

/// Whether the operator's apply is what says how many pods there are.
fn owns_replicas(live: &Deployment) -> bool {
    live.managed_fields().iter().any(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry.operation.as_deref() == Some("Apply")
            && fields.is_some_and(|fields| !fields["f:spec"]["f:replicas"].is_null())
    })
}
