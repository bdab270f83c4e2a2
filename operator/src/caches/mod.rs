//! What the operator knows of its children without asking: one watch and one store a kind and namespace, filtered by
//! the label that every child carries.

mod packed;
mod references;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodSpec, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store, reflector};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use packed::{Packed, shorten};
pub use references::References;

use crate::build::MANAGED_BY;
use crate::controller::Guarded;
use crate::health::Health;

/// Objects asked for in one page of a list: their typed forms are in memory all at once.
pub const PAGE: u32 = 200;

/// A namespace to look at; `None` = all of them.
pub type Scope = Option<String>;

/// Stores of children by kind.
#[derive(Debug)]
pub struct Caches {
    /// Deployments.
    pub deployments: Cache<Deployment>,
    /// Services.
    pub services: Cache<Service>,
    /// ConfigMaps.
    pub config_maps: Cache<ConfigMap>,
    /// Secrets that the operator made, without what is in them.
    pub secrets: Cache<Secret>,
    /// ServiceAccounts.
    pub service_accounts: Cache<ServiceAccount>,
    /// Disruption budgets.
    pub pdbs: Cache<PodDisruptionBudget>,
    /// Autoscalers.
    pub autoscalers: Cache<HorizontalPodAutoscaler>,
    /// Ingresses.
    pub ingresses: Cache<Ingress>,
    /// Network policies.
    pub network_policies: Cache<NetworkPolicy>,
    /// Trainers.
    pub cron_jobs: Cache<CronJob>,
    /// Pods: where they are and whether they are ready.
    pub pods: Cache<Pod>,
}

/// A stream of the pipelines whose children, or whose Secrets and ConfigMaps, changed.
pub type Touched = futures::stream::BoxStream<'static, ObjectRef<Guarded>>;

impl Caches {
    /// Stores, and for each scope the stream that fills them: it must be polled, and yields the pipeline of each child
    /// that was added, changed or deleted.
    pub fn new(client: &Client, scopes: &[Scope], health: &Arc<Health>) -> (Self, Vec<Touched>) {
        let mut caches = Self {
            deployments: Cache::default(),
            services: Cache::default(),
            config_maps: Cache::default(),
            secrets: Cache::default(),
            service_accounts: Cache::default(),
            pdbs: Cache::default(),
            autoscalers: Cache::default(),
            ingresses: Cache::default(),
            network_policies: Cache::default(),
            cron_jobs: Cache::default(),
            pods: Cache::default(),
        };
        let mut touched = Vec::new();
        for scope in scopes {
            let watches = Watches {
                client,
                scope,
                health,
            };
            let streams = [
                watches.fill(&mut caches.deployments, keep),
                watches.fill(&mut caches.services, keep),
                watches.fill(&mut caches.config_maps, keep),
                watches.fill(&mut caches.secrets, without_data),
                watches.fill(&mut caches.service_accounts, keep),
                watches.fill(&mut caches.pdbs, keep),
                watches.fill(&mut caches.autoscalers, keep),
                watches.fill(&mut caches.ingresses, keep),
                watches.fill(&mut caches.network_policies, keep),
                watches.fill(&mut caches.cron_jobs, keep),
                watches.fill(&mut caches.pods, whereabouts),
            ];
            touched.push(futures::stream::select_all(streams).boxed());
        }
        (caches, touched)
    }

    /// Waits until each store has been filled once: before that, every child would look missing.
    ///
    /// # Errors
    /// When a watch has ended for good.
    pub async fn ready(&self) -> Result<(), reflector::store::WriterDropped> {
        self.deployments.ready().await?;
        self.services.ready().await?;
        self.config_maps.ready().await?;
        self.secrets.ready().await?;
        self.service_accounts.ready().await?;
        self.pdbs.ready().await?;
        self.autoscalers.ready().await?;
        self.ingresses.ready().await?;
        self.network_policies.ready().await?;
        self.cron_jobs.ready().await?;
        self.pods.ready().await
    }
}

/// The objects of one kind, by namespace where namespaces are watched one by one.
pub struct Cache<K: Resource<DynamicType = ()> + 'static> {
    stores: BTreeMap<Scope, Store<Packed<K>>>,
}

impl<K: Resource<DynamicType = ()>> Default for Cache<K> {
    fn default() -> Self {
        Self {
            stores: BTreeMap::new(),
        }
    }
}

impl<K: Resource<DynamicType = ()>> std::fmt::Debug for Cache<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("scopes", &self.stores.len())
            .finish()
    }
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
{
    fn store(&self, namespace: &str) -> Option<&Store<Packed<K>>> {
        self.stores
            .get(&None)
            .or_else(|| self.stores.get(&Some(namespace.to_owned())))
    }

    /// The object of this name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Packed<K>>> {
        self.store(namespace)?
            .get(&ObjectRef::new(name).within(namespace))
    }

    /// Every object of a pipeline.
    pub fn of(&self, namespace: &str, pipeline: &str) -> Vec<Arc<Packed<K>>> {
        self.store(namespace).map_or_else(Vec::new, |store| {
            store.state_filter(|object| object.place() == namespace && object.pipeline() == Some(pipeline))
        })
    }

    /// Objects in the cache.
    pub fn len(&self) -> usize {
        self.stores.values().map(Store::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    async fn ready(&self) -> Result<(), reflector::store::WriterDropped> {
        for store in self.stores.values() {
            store.wait_until_ready().await?;
        }
        Ok(())
    }
}

/// An API of one namespace, or of all.
pub fn scoped<K>(client: &Client, scope: &Scope) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    scope.as_ref().map_or_else(
        || Api::all(client.clone()),
        |name| Api::namespaced(client.clone(), name),
    )
}

fn keep<K>(_: &mut K) {}

/// Whether a key is there is all that is asked.
fn without_data(secret: &mut Secret) {
    secret.data = None;
}

fn whereabouts(pod: &mut Pod) {
    pod.spec = pod.spec.as_ref().map(|_| PodSpec::default());
    if let Some(status) = &mut pod.status {
        status.container_statuses = None;
        status.init_container_statuses = None;
        status.conditions.iter_mut().flatten().for_each(|c| {
            c.last_probe_time = None;
            c.message = None;
        });
    }
}

struct Watches<'a> {
    client: &'a Client,
    scope: &'a Scope,
    health: &'a Arc<Health>,
}

impl Watches<'_> {
    /// Adds a store of this scope to `cache`, and returns what fills it.
    fn fill<K>(&self, cache: &mut Cache<K>, prune: fn(&mut K)) -> Touched
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Serialize
            + DeserializeOwned
            + std::fmt::Debug
            + Send
            + Sync
            + 'static,
    {
        let writer = Writer::<Packed<K>>::new(());
        cache.stores.insert(self.scope.clone(), writer.as_reader());
        let config = watcher::Config::default()
            .labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1))
            .page_size(PAGE);
        let health = Arc::clone(self.health);
        let events = watcher(scoped::<K>(self.client, self.scope), config)
            .default_backoff()
            .map_ok(move |event| packed(event, prune));
        touched(reflector(writer, events), health).boxed()
    }
}

fn packed<K>(event: Event<K>, prune: fn(&mut K)) -> Event<Packed<K>>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
{
    let pack = |mut object: K| {
        prune(&mut object);
        Packed::new(object)
    };
    match event {
        Event::Apply(object) => Event::Apply(pack(object)),
        Event::Delete(object) => Event::Delete(pack(object)),
        Event::InitApply(object) => Event::InitApply(pack(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

/// No predicate here: one on generations would drop deletions.
fn touched<K>(
    stream: impl Stream<Item = Result<Event<Packed<K>>, watcher::Error>>,
    health: Arc<Health>,
) -> impl Stream<Item = ObjectRef<Guarded>>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
{
    stream.filter_map(move |event| {
        let found = match event {
            Ok(Event::Apply(object) | Event::Delete(object) | Event::InitApply(object)) => object
                .pipeline()
                .map(|name| ObjectRef::<Guarded>::new(name).within(object.place())),
            Ok(Event::Init) => None,
            Ok(Event::InitDone) => {
                health.watch_is_well(&K::kind(&()));
                None
            }
            Err(error) => {
                health.watch_failed(&K::kind(&()));
                tracing::warn!(kind = %K::kind(&()), %error, "watch failed, trying again");
                None
            }
        };
        std::future::ready(found)
    })
}
