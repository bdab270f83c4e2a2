//! Child objects: server-side apply with one field manager, and deletion of those that are no longer wanted.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt as _};
use recommendation_api::names::{Children, FIELD_MANAGER};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{ApplyError, subset};
use crate::build::{ChildObjects, MANAGED_BY, secrets};
use crate::caches::Caches;
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
        let deployment = self.one(&self.caches.deployments, &wanted.deployment).await?;
        self.orphans(&wanted).await?;
        Ok(deployment)
    }

    /// Applies an object unless the cached one has all of it already.
    ///
    /// # Errors
    /// Any [`ApplyError`].
    pub async fn one<K>(&self, cache: &Store<K>, wanted: &K) -> Result<K, ApplyError>
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
        if let Some(live) = cache.get(&ObjectRef::new(&name).within(&self.id.namespace)) {
            let live_json = serde_json::to_value(&*live).map_err(encode)?;
            if live.meta().deletion_timestamp.is_none() && subset::contains(&live_json, &wanted_json) {
                return Ok((*live).clone());
            }
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.id.namespace);
        // The cache holds only what carries the operator's label: somebody else's object of this name is seen here.
        let there = self.written(&kind, &name, api.get_opt(&name)).await?;
        let exists = there.is_some();
        if there.is_some_and(|there| foreign(&there, self.id)) {
            return Err(ApplyError::Foreign { kind, name });
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
        if self
            .caches
            .secrets
            .get(&ObjectRef::new(&name).within(&self.id.namespace))
            .is_some()
        {
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

    /// Applies an object that no cache holds, after a look at it. `None` deletes it if it is this pipeline's.
    ///
    /// # Errors
    /// Any [`ApplyError`].
    pub async fn uncached(
        &self,
        resource: &ApiResource,
        wanted: Option<&DynamicObject>,
    ) -> Result<(), ApplyError> {
        let name = Children(&self.id.name).workload();
        let kind = resource.kind.clone();
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.id.namespace, resource);
        let live = self.written(&kind, &name, api.get_opt(&name)).await?;
        let encode = |source| ApplyError::Encode {
            kind: kind.clone(),
            name: name.clone(),
            source,
        };
        match (live, wanted) {
            (None, None) => Ok(()),
            (Some(live), None) => {
                if owned(&live, self.id) {
                    self.delete(&api, &kind, &live).await?;
                }
                Ok(())
            }
            (live, Some(wanted)) => {
                let wanted = serde_json::to_value(wanted).map_err(encode)?;
                if live.as_ref().is_some_and(|live| foreign(live, self.id)) {
                    return Err(ApplyError::Foreign { kind, name });
                }
                if let Some(live) = live
                    && subset::contains(&serde_json::to_value(&live).map_err(encode)?, &wanted)
                {
                    return Ok(());
                }
                tracing::info!(%kind, %name, "applying");
                let params = PatchParams::apply(FIELD_MANAGER).force();
                self.written(&kind, &name, api.patch(&name, &params, &Patch::Apply(&wanted)))
                    .await?;
                Ok(())
            }
        }
    }

    /// Deletes children of kinds that can become unwanted. Secrets never are: their keys must outlive a change of
    /// mind.
    async fn orphans(&self, wanted: &ChildObjects) -> Result<(), ApplyError> {
        let names = Children(&self.id.name);
        let config_maps = [names.config(), names.applied()];
        for orphan in self.strangers(&self.caches.config_maps, |name: &str| {
            config_maps.iter().any(|n| n == name)
        }) {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.id.namespace);
            self.delete(&api, "ConfigMap", &*orphan).await?;
        }
        let account = wanted.service_account.as_ref().map(kube::ResourceExt::name_any);
        for orphan in self.strangers(&self.caches.service_accounts, |name: &str| {
            account.as_deref() == Some(name)
        }) {
            let api = Api::namespaced(self.client.clone(), &self.id.namespace);
            self.delete(&api, "ServiceAccount", &*orphan).await?;
        }
        let services = [names.workload(), names.internal_service()];
        for orphan in self.strangers(&self.caches.services, |name: &str| {
            services.iter().any(|n| n == name)
        }) {
            let api = Api::namespaced(self.client.clone(), &self.id.namespace);
            self.delete(&api, "Service", &*orphan).await?;
        }
        Ok(())
    }

    fn strangers<K>(&self, cache: &Store<K>, wanted: impl Fn(&str) -> bool) -> Vec<std::sync::Arc<K>>
    where
        K: Resource<DynamicType = ()> + Clone,
    {
        cache.state_filter(|object| owned(object, self.id) && !wanted(&object.name_any()))
    }

    async fn delete<K>(&self, api: &Api<K>, kind: &str, object: &K) -> Result<(), ApplyError>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let name = object.name_any();
        tracing::info!(kind, %name, "deleting: no longer wanted");
        // Only this very object: one of that name that was made since is not ours to judge.
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: object.uid(),
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

    async fn written<T>(
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

/// Whether the API server understood a write and found the result invalid.
fn is_invalid(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 422)
}

fn owned<K: Resource>(object: &K, id: &Identity) -> bool {
    object
        .meta()
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.uid == id.owner.uid)
}

/// Whether an object is somebody else's: another controller's, or nobody's and without the operator's label. One with
/// the label and without an owner was left by a pipeline that was deleted without its children.
fn foreign<K: Resource>(object: &K, id: &Identity) -> bool {
    let mut owners = object.meta().owner_references.iter().flatten();
    match owners.find(|owner| owner.controller == Some(true)) {
        Some(owner) => owner.uid != id.owner.uid,
        None => object.labels().get(MANAGED_BY.0).map(String::as_str) != Some(MANAGED_BY.1),
    }
}

#[cfg(test)]
mod tests;
