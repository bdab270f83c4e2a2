//! Which pipelines name which Secret or ConfigMap, so that a change of one is looked at at once. Their metadata alone is
//! watched, and nothing of it is kept: a cluster may have a hundred thousand of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};

use super::{Scope, Touched};
use crate::controller::Guarded;
use crate::health::Health;

/// Kind, namespace and name of what is named.
type Named = (&'static str, String, String);

/// Pipelines by what they name.
#[derive(Debug, Default)]
pub struct References(Mutex<Index>);

#[derive(Debug, Default)]
struct Index {
    /// The pipelines' names, which are in the same namespace.
    pipelines: HashMap<Named, BTreeSet<String>>,
    /// What each pipeline (namespace, name) named when it was last looked at.
    noted: HashMap<(String, String), BTreeSet<Named>>,
}

impl References {
    /// Notes what a pipeline names now.
    pub fn note(
        &self,
        namespace: &str,
        pipeline: &str,
        secrets: &BTreeSet<String>,
        config_maps: &BTreeSet<String>,
    ) {
        let secrets = secrets.iter().map(|name| ("Secret", name));
        let config_maps = config_maps.iter().map(|name| ("ConfigMap", name));
        let now: BTreeSet<Named> = secrets
            .chain(config_maps)
            .map(|(kind, name)| (kind, namespace.to_owned(), name.clone()))
            .collect();
        let key = (namespace.to_owned(), pipeline.to_owned());
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = index.noted.remove(&key).unwrap_or_default();
        for gone in before.difference(&now) {
            if let Some(pipelines) = index.pipelines.get_mut(gone) {
                pipelines.remove(pipeline);
                if pipelines.is_empty() {
                    index.pipelines.remove(gone);
                }
            }
        }
        for named in now.difference(&before) {
            let pipelines = index.pipelines.entry(named.clone()).or_default();
            pipelines.insert(pipeline.to_owned());
        }
        if !now.is_empty() {
            index.noted.insert(key, now);
        }
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, namespace: &str, pipeline: &str) {
        self.note(namespace, pipeline, &BTreeSet::new(), &BTreeSet::new());
    }

    fn of(&self, kind: &'static str, namespace: &str, name: &str) -> Vec<ObjectRef<Guarded>> {
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pipelines = index
            .pipelines
            .get(&(kind, namespace.to_owned(), name.to_owned()));
        pipelines
            .into_iter()
            .flatten()
            .map(|pipeline| ObjectRef::<Guarded>::new(pipeline).within(namespace))
            .collect()
    }

    /// The pipelines whose Secrets or ConfigMaps change in `scope`.
    pub fn touched(self: &Arc<Self>, client: &Client, scope: &Scope, health: &Arc<Health>) -> Touched {
        let secrets = self.watch::<Secret>("Secret", metadata(client, scope), health);
        let config_maps = self.watch::<ConfigMap>("ConfigMap", metadata(client, scope), health);
        futures::stream::select(secrets, config_maps).boxed()
    }

    fn watch<K>(
        self: &Arc<Self>,
        kind: &'static str,
        api: Api<PartialObjectMeta<K>>,
        health: &Arc<Health>,
    ) -> Touched
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Send
            + Sync
            + 'static,
    {
        let references = Arc::clone(self);
        let health = Arc::clone(health);
        watcher(api, watcher::Config::default())
            .default_backoff()
            .touched_objects()
            .flat_map(move |object: Result<PartialObjectMeta<K>, watcher::Error>| {
                let pipelines = match object {
                    Ok(object) => {
                        references.of(kind, &object.namespace().unwrap_or_default(), &object.name_any())
                    }
                    Err(error) => {
                        health.watch_failed(kind);
                        tracing::warn!(kind, %error, "watch of metadata failed, trying again");
                        Vec::new()
                    }
                };
                futures::stream::iter(pipelines)
            })
            .boxed()
    }
}

fn metadata<K>(client: &Client, scope: &Scope) -> Api<PartialObjectMeta<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match scope {
        None => Api::all(client.clone()),
        Some(name) => Api::namespaced(client.clone(), name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_pipeline_is_touched_by_what_it_names_now_and_by_nothing_else() {
        let references = References::default();
        references.note("a", "shop", &names(&["jwt", "users"]), &names(&["sql"]));
        references.note("a", "other", &names(&["jwt"]), &names(&[]));
        references.note("b", "shop", &names(&["jwt"]), &names(&[]));
        let touched = |kind, name| -> Vec<String> {
            references
                .of(kind, "a", name)
                .into_iter()
                .map(|r| r.name)
                .collect()
        };
        assert_eq!(touched("Secret", "jwt"), ["other", "shop"]);
        assert_eq!(touched("ConfigMap", "sql"), ["shop"]);
        assert!(touched("ConfigMap", "jwt").is_empty() && touched("Secret", "sql").is_empty());
        references.note("a", "shop", &names(&["users"]), &names(&[]));
        assert_eq!(touched("Secret", "jwt"), ["other"]);
        references.forget("a", "shop");
        assert!(touched("Secret", "users").is_empty());
        assert_eq!(
            references.of("Secret", "b", "jwt").len(),
            1,
            "namespaces do not mix"
        );
    }
}
