//! What the operator knows of its children without asking: one watch and one store a kind, filtered by the label
//! that every child carries.

use futures::{Stream, StreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use recommendation_api::pipeline::RecommendationPipeline;
use serde::de::DeserializeOwned;

use crate::build::MANAGED_BY;
use crate::controller::Guarded;

/// Stores of children by kind.
#[derive(Clone, Debug)]
pub struct Caches {
    /// Deployments.
    pub deployments: Store<Deployment>,
    /// Services.
    pub services: Store<Service>,
    /// ConfigMaps.
    pub config_maps: Store<ConfigMap>,
    /// Secrets that the operator made; nobody else's are watched.
    pub secrets: Store<Secret>,
    /// ServiceAccounts.
    pub service_accounts: Store<ServiceAccount>,
    /// Disruption budgets.
    pub pdbs: Store<PodDisruptionBudget>,
}

/// A stream of the pipelines whose children changed.
pub type Touched = futures::stream::BoxStream<'static, ObjectRef<Guarded>>;

impl Caches {
    /// Stores, and the stream that fills them: it must be polled, and yields the owner of each child that was
    /// added, changed or deleted.
    pub fn new(client: &Client, namespace: Option<&str>) -> (Self, Touched) {
        let (deployments, a) = watched(client, namespace);
        let (services, b) = watched(client, namespace);
        let (config_maps, c) = watched(client, namespace);
        let (secrets, d) = watched(client, namespace);
        let (service_accounts, e) = watched(client, namespace);
        let (pdbs, f) = watched(client, namespace);
        let touched = futures::stream::select_all([a, b, c, d, e, f]).boxed();
        (
            Self {
                deployments,
                services,
                config_maps,
                secrets,
                service_accounts,
                pdbs,
            },
            touched,
        )
    }

    /// Waits until each store has been filled once: before that, every child would look missing.
    ///
    /// # Errors
    /// When a watch has ended for good.
    pub async fn ready(&self) -> Result<(), reflector::store::WriterDropped> {
        self.deployments.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.config_maps.wait_until_ready().await?;
        self.secrets.wait_until_ready().await?;
        self.service_accounts.wait_until_ready().await?;
        self.pdbs.wait_until_ready().await
    }
}

/// An API of one namespace, or of all.
pub fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    namespace.map_or_else(
        || Api::all(client.clone()),
        |name| Api::namespaced(client.clone(), name),
    )
}

fn watched<K>(client: &Client, namespace: Option<&str>) -> (Store<K>, Touched)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let (reader, writer) = reflector::store::<K>();
    let config = watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
    let stream = watcher(scoped::<K>(client, namespace), config)
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .touched_objects();
    (reader, owners(stream).boxed())
}

/// No predicate here: one on generations would drop deletions.
fn owners<K>(stream: impl Stream<Item = Result<K, watcher::Error>>) -> impl Stream<Item = ObjectRef<Guarded>>
where
    K: Resource<DynamicType = ()>,
{
    stream.filter_map(|object| async move {
        let object = match object {
            Ok(object) => object,
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), %error, "watch failed, trying again");
                return None;
            }
        };
        let namespace = object.namespace()?;
        let owner = object.owner_references().iter().find(|owner| {
            owner.controller == Some(true) && owner.kind == RecommendationPipeline::kind(&())
        })?;
        Some(ObjectRef::<Guarded>::new(&owner.name).within(&namespace))
    })
}
