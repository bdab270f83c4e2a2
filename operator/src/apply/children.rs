//! Child objects: server-side apply with one field manager, and deletion of those that are no longer wanted.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt as _};
use recommendation_api::names::{Children, FIELD_MANAGER};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{ApplyError, subset};
use crate::build::{ChildObjects, MANAGED_BY, secrets};
use crate::caches::{Cache, Caches, shorten};
use crate::deadline;
use crate::validate::{Identity, ValidatedPipeline};

/// Field manager of the write that replaces lists; its ownership is taken away at once.
const REPAIR_MANAGER: &str = "recommendation-operator-repair";

/// Writes one pipeline's children.
#[derive(Clone)]
pub struct Applier<'a> {
    /// The API server.
    pub client: &'a Client,
    /// What is known to be there.
    pub caches: &'a Caches,
    /// Whose children.
    pub id: &'a Identity,
}

impl std::fmt::Debug for Applier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applier")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Applier<'_> {
    /// Applies every child in the order in which they need each other, and returns the Deployment as it then is.
    ///
    /// # Errors
    /// The first [`ApplyError`]; what came before it is applied.
    pub async fn all(
        &self,
        pipeline: &ValidatedPipeline,
        wanted: ChildObjects,
    ) -> Result<Deployment, ApplyError> {
        if let Some(account) = &wanted.service_account {
            self.one(&self.caches.service_accounts, account).await?;
        }
        for name in secrets::names(pipeline) {
            self.secret(pipeline, name).await?;
        }
        self.one(&self.caches.config_maps, &wanted.config).await?;
        for service in &wanted.services {
            self.one(&self.caches.services, service).await?;
        }
        self.one(&self.caches.pdbs, &wanted.pdb).await?;
        self.optional(&self.caches.network_policies, wanted.network_policy.as_ref())
            .await?;
        // Before the Deployment gets a number of its own, nobody else may change it.
        if wanted.autoscaler.is_none() {
            let none = None::<&HorizontalPodAutoscaler>;
            self.optional(&self.caches.autoscalers, none).await?;
        }
        let deployment = match &pipeline.workload.autoscaling {
            None => self.one(&self.caches.deployments, &wanted.deployment).await?,
            Some(bounds) => Box::pin(self.scaled(&wanted.deployment, bounds.min)).await?,
        };
        self.optional(&self.caches.autoscalers, wanted.autoscaler.as_ref())
            .await?;
        self.optional(&self.caches.ingresses, wanted.ingress.as_ref())
            .await?;
        self.optional(&self.caches.cron_jobs, wanted.trainer.as_ref())
            .await?;
        if wanted.service_account.is_none() {
            self.unwanted::<ServiceAccount>(
                &self.caches.service_accounts,
                &Children(&self.id.name).workload(),
            )
            .await?;
        }
        Ok(deployment)
    }

    /// Applies an object that has the pipeline's name, or deletes it when there should be none.
    async fn optional<K>(&self, cache: &Cache<K>, wanted: Option<&K>) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Serialize
            + DeserializeOwned
            + std::fmt::Debug,
    {
        match wanted {
            Some(wanted) => self.one(cache, wanted).await.map(drop),
            None => self.unwanted(cache, &Children(&self.id.name).workload()).await,
        }
    }

    /// Applies the dashboard, or deletes it when there should be none.
    ///
    /// # Errors
    /// Any [`ApplyError`].
    pub async fn dashboard(&self, wanted: Option<&ConfigMap>) -> Result<(), ApplyError> {
        match wanted {
            Some(wanted) => self.one(&self.caches.config_maps, wanted).await.map(drop),
            None => {
                let name = Children(&self.id.name).dashboard();
                self.unwanted(&self.caches.config_maps, &name).await
            }
        }
    }

    /// Whether the cached object has everything that is wanted.
    pub(super) fn is_applied<K>(&self, cache: &Cache<K>, wanted: &K) -> bool
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let value = serde_json::to_value(wanted).unwrap_or_default();
        self.unchanged(cache, &value, &wanted.name_any()).is_some()
    }

    /// The cached object, if it has everything that is wanted.
    fn unchanged<K>(&self, cache: &Cache<K>, wanted: &Value, name: &str) -> Option<K>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let live = cache.get(&self.id.namespace, name)?;
        let value = live.value();
        let mut wanted = wanted.clone();
        shorten(&mut wanted);
        let deleting = !value["metadata"]["deletionTimestamp"].is_null();
        if deleting || !subset::contains(&value, &wanted) {
            return None;
        }
        live.read().ok()
    }

    /// Applies an object unless the cached one has all of it already.
    ///
    /// # Errors
    /// Any [`ApplyError`].
    pub async fn one<K>(&self, cache: &Cache<K>, wanted: &K) -> Result<K, ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Serialize
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let name = wanted.name_any();
        let kind = K::kind(&()).into_owned();
        let encode = |source| ApplyError::Encode {
            kind: kind.clone(),
            name: name.clone(),
            source,
        };
        let wanted_json = serde_json::to_value(wanted).map_err(encode)?;
        if let Some(live) = self.unchanged(cache, &wanted_json, &name) {
            return Ok(live);
        }
        Box::pin(self.write(kind, name, wanted_json)).await
    }

    /// Applies an object that is not as wanted, unless it is somebody else's.
    async fn write<K>(&self, kind: String, name: String, wanted_json: Value) -> Result<K, ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Serialize
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.id.namespace);
        // The cache holds only what carries the operator's label: somebody else's object of this name is seen here.
        let there = self.written(&kind, &name, api.get_opt(&name)).await?;
        let exists = there.is_some();
        if let Some(there) = there {
            if foreign(&there, self.id) {
                return Err(ApplyError::Foreign { kind, name });
            }
            // The cache was behind: right after a write, or after its watch was broken off.
            if is_as_wanted(&there, &wanted_json) {
                return Ok(there);
            }
        }
        tracing::info!(%kind, %name, "applying");
        // Forced: a field that someone else set by hand is set back, which is what the manifest says.
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let applied = self
            .written(
                &kind,
                &name,
                api.patch(&name, &params, &Patch::Apply(&wanted_json)),
            )
            .await;
        match applied {
            Err(ApplyError::Apply { source, .. }) if exists && is_invalid(&source) => {
                self.replace_lists(&api, &kind, &name, &wanted_json).await?;
                self.written(
                    &kind,
                    &name,
                    api.patch(&name, &params, &Patch::Apply(&wanted_json)),
                )
                .await
            }
            other => other,
        }
    }

    /// Replaces what is wanted, lists as a whole. An element that somebody else put into a list (a port of the same
    /// name) stays there beside an applied one, and the two together may be invalid. Whoever writes so owns the fields
    /// too, and an owner who never gives up would keep them from being removed later: that ownership is taken away
    /// again, and the next apply takes the fields over.
    async fn replace_lists<K>(
        &self,
        api: &Api<K>,
        kind: &str,
        name: &str,
        wanted: &Value,
    ) -> Result<(), ApplyError>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let mut body = wanted.clone();
        if let Some(metadata) = body["metadata"].as_object_mut() {
            metadata.remove("ownerReferences");
        }
        let repair = PatchParams {
            field_manager: Some(REPAIR_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let written = self
            .written(kind, name, api.patch(name, &repair, &Patch::Merge(&body)))
            .await?;
        let mut owners = written.meta().managed_fields.clone().unwrap_or_default();
        owners.retain(|entry| entry.manager.as_deref() != Some(REPAIR_MANAGER));
        let metadata = json!({"resourceVersion": written.meta().resource_version, "managedFields": owners});
        let body = json!({"metadata": metadata});
        self.written(kind, name, api.patch(name, &repair, &Patch::Merge(&body)))
            .await?;
        Ok(())
    }

    /// Makes a Secret with fresh random bytes, once.
    async fn secret(&self, pipeline: &ValidatedPipeline, name: String) -> Result<(), ApplyError> {
        if self.caches.secrets.get(&self.id.namespace, &name).is_some() {
            return Ok(());
        }
        let api: Api<k8s_openapi::api::core::v1::Secret> =
            Api::namespaced(self.client.clone(), &self.id.namespace);
        // One that lost its label is in no cache: its key stands.
        if self.written("Secret", &name, api.get_opt(&name)).await?.is_some() {
            return Ok(());
        }
        let secret = secrets::build(pipeline, name.clone(), &rand::random());
        // Created, not applied: if the cache is behind, the key that is there must win.
        match deadline::within(deadline::KUBERNETES, api.create(&Default::default(), &secret)).await {
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(()),
            Ok(Ok(_)) => {
                tracing::info!(%name, "made a Secret");
                Ok(())
            }
            Ok(Err(source)) => Err(ApplyError::Apply {
                kind: "Secret".to_owned(),
                name,
                source: Box::new(source),
            }),
            Err(source) => Err(ApplyError::Timeout {
                kind: "Secret".to_owned(),
                name,
                source,
            }),
        }
    }

    /// Deletes a child that is no longer wanted, if it is there and this pipeline's. Secrets never are: their keys must
    /// outlive a change of mind.
    async fn unwanted<K>(&self, cache: &Cache<K>, name: &str) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Serialize
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let found = cache.get(&self.id.namespace, name);
        let Some(orphan) = found.filter(|found| found.owner() == Some(self.id.owner.uid.as_str())) else {
            return Ok(());
        };
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.id.namespace);
        self.delete(&api, &K::kind(&()), name, orphan.id()).await
    }

    pub(super) async fn delete<K>(
        &self,
        api: &Api<K>,
        kind: &str,
        name: &str,
        uid: &str,
    ) -> Result<(), ApplyError>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        let name = name.to_owned();
        tracing::info!(kind, %name, "deleting: no longer wanted");
        // Only this very object: one of that name that was made since is not ours to judge.
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match deadline::within(deadline::KUBERNETES, api.delete(&name, &params)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 || status.code == 409 => Ok(()),
            Ok(Err(source)) => Err(ApplyError::Delete {
                kind: kind.to_owned(),
                name,
                source: Box::new(source),
            }),
            Err(source) => Err(ApplyError::Timeout {
                kind: kind.to_owned(),
                name,
                source,
            }),
        }
    }

    pub(super) async fn written<T>(
        &self,
        kind: &str,
        name: &str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ApplyError> {
        let (kind, name) = (kind.to_owned(), name.to_owned());
        match deadline::within(deadline::KUBERNETES, call).await {
            Ok(Ok(object)) => Ok(object),
            Ok(Err(source)) => Err(ApplyError::Apply {
                kind,
                name,
                source: Box::new(source),
            }),
            Err(source) => Err(ApplyError::Timeout { kind, name, source }),
        }
    }
}

/// Whether what the API server holds has everything that is wanted, and stays.
fn is_as_wanted<K: Resource + Serialize>(there: &K, wanted: &Value) -> bool {
    let there_json = serde_json::to_value(there).unwrap_or_default();
    there.meta().deletion_timestamp.is_none() && subset::contains(&there_json, wanted)
}

/// Whether the API server understood a write and found the result invalid.
fn is_invalid(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 422)
}

pub(super) fn owned<K: Resource>(object: &K, id: &Identity) -> bool {
    object
        .meta()
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.uid == id.owner.uid)
}

/// Whether an object is somebody else's: another controller's, or nobody's and without the operator's label. One with
/// the label and without an owner was left by a pipeline that was deleted without its children.
pub(super) fn foreign<K: Resource>(object: &K, id: &Identity) -> bool {
    let mut owners = object.meta().owner_references.iter().flatten();
    match owners.find(|owner| owner.controller == Some(true)) {
        Some(owner) => owner.uid != id.owner.uid,
        None => object.labels().get(MANAGED_BY.0).map(String::as_str) != Some(MANAGED_BY.1),
    }
}

#[cfg(test)]
mod tests;
