//! One namespace, one topic prefix and one operator a test.

#[path = "noted.rs"]
mod noted;

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, CustomResourceExt as _, Resource, ResourceExt as _};
use recommendation_api::pipeline::RecommendationPipeline;
use recommendation_operator::client::Fenced;
use recommendation_operator::context::Context;
use recommendation_operator::controller::{Options, prepare};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio_util::sync::CancellationToken;

use self::noted::Noted;

/// What the operator's ServiceAccount may do, it may do here; nothing else.
const OPERATOR_USER: &str = "system:serviceaccount:recommendation-system:recommendation-operator";
/// Whatever should happen happens within this time.
const PATIENCE: Duration = Duration::from_secs(40);

/// Cluster-wide objects (a CRD of somebody else) change under a writer only.
static CLUSTER: RwLock<()> = RwLock::const_new(());

/// Held for as long as the test runs.
enum Share {
    Beside {
        _guard: RwLockReadGuard<'static, ()>,
    },
    Alone {
        _guard: RwLockWriteGuard<'static, ()>,
    },
    /// Under another place's guard.
    Within,
}

/// A test's place in the cluster.
pub struct Harness {
    /// An administrator.
    pub client: Client,
    /// The test's namespace.
    pub namespace: String,
    /// Kafka, `host:port`.
    pub kafka: String,
    /// Before topic names.
    pub prefix: String,
    _share: Share,
}

/// A running operator.
pub struct Operator {
    /// What its reconciles share.
    pub context: Arc<Context>,
    noted: Noted,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
}

async fn config() -> Config {
    let kubeconfig = Kubeconfig::read_from(env("TEST_KUBECONFIG")).unwrap();
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap()
}

impl Harness {
    /// A place beside other tests.
    pub async fn new() -> Self {
        Self::with(Share::Beside {
            _guard: CLUSTER.read().await,
        })
        .await
    }

    /// A place alone in the cluster.
    pub async fn alone() -> Self {
        Self::with(Share::Alone {
            _guard: CLUSTER.write().await,
        })
        .await
    }

    /// One more place, for as long as this one is there.
    pub async fn beside(&self) -> Self {
        Self::with(Share::Within).await
    }

    async fn with(share: Share) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_from(config().await).unwrap();
        let id: String = format!("{:08x}", rand::random::<u32>());
        let harness = Self {
            client,
            namespace: format!("op-{id}"),
            kafka: env("TEST_KAFKA"),
            prefix: format!("op-{id}-"),
            _share: share,
        };
        harness.install().await;
        let namespaces: Api<Namespace> = Api::all(harness.client.clone());
        let namespace = json!({"metadata": {"name": harness.namespace}});
        namespaces
            .create(
                &PostParams::default(),
                &serde_json::from_value(namespace).unwrap(),
            )
            .await
            .unwrap();
        harness
    }

    /// The CRD, and the rights that the operator ships with.
    async fn install(&self) {
        let params = PatchParams::apply("tests").force();
        let crds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let crd = RecommendationPipeline::crd();
        crds.patch(&crd.name_any(), &params, &Patch::Apply(&crd))
            .await
            .unwrap();
        let text = include_str!("../../../manifests/operator.yaml");
        for document in text.split("\n---\n") {
            let object: Value = serde_saphyr::from_str(document).unwrap();
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            match object["kind"].as_str().unwrap() {
                "ClusterRole" => {
                    let api: Api<ClusterRole> = Api::all(self.client.clone());
                    api.patch(&name, &params, &Patch::Apply(&object)).await.unwrap();
                }
                "ClusterRoleBinding" => {
                    let api: Api<ClusterRoleBinding> = Api::all(self.client.clone());
                    api.patch(&name, &params, &Patch::Apply(&object)).await.unwrap();
                }
                _ => {}
            }
        }
        let pipelines: Api<RecommendationPipeline> = Api::all(self.client.clone());
        // Metadata only: another test leaves an object that cannot be read as a pipeline.
        self.until("the CRD to be served", || async {
            pipelines.list_metadata(&Default::default()).await.is_ok()
        })
        .await;
    }

    /// An operator of this namespace, counting what it writes.
    pub async fn operator(&self) -> Operator {
        self.operator_as(OPERATOR_USER, vec![self.namespace.clone()])
            .await
    }

    /// An operator of these namespaces with the rights of `user`.
    pub async fn operator_as(&self, user: &str, namespaces: Vec<String>) -> Operator {
        self.start(user, namespaces, None, |_| {}).await
    }

    /// An operator of these namespaces.
    pub async fn operator_of(&self, namespaces: Vec<String>) -> Operator {
        self.operator_as(OPERATOR_USER, namespaces).await
    }

    /// An operator of this namespace, started with other options.
    pub async fn operator_with(&self, change: impl FnOnce(&mut Options)) -> Operator {
        self.start(OPERATOR_USER, vec![self.namespace.clone()], None, change)
            .await
    }

    /// An operator of this namespace that reaches the API server by a port of this machine.
    pub async fn operator_by(&self, port: u16) -> Operator {
        self.start(OPERATOR_USER, vec![self.namespace.clone()], Some(port), |_| {})
            .await
    }

    /// A client with the rights of `user`.
    pub async fn client_as(&self, user: &str) -> Client {
        let mut config = config().await;
        config.auth_info.impersonate = Some(user.to_owned());
        Client::try_from(config).unwrap()
    }

    /// Where the API server listens, `host:port`.
    pub async fn api_server(&self) -> String {
        let address = config().await.cluster_url;
        format!("{}:{}", address.host().unwrap(), address.port_u16().unwrap())
    }

    async fn start(
        &self,
        user: &str,
        namespaces: Vec<String>,
        port: Option<u16>,
        change: impl FnOnce(&mut Options),
    ) -> Operator {
        let mut config = config().await;
        if let Some(port) = port {
            config.cluster_url = format!("https://127.0.0.1:{port}").parse().unwrap();
        }
        config.auth_info.impersonate = Some(user.to_owned());
        let noted = Noted::default();
        let mut options = Options {
            namespaces,
            resync: Duration::from_secs(1),
            instance: Some("test".to_owned()),
            ..Options::new().unwrap()
        };
        change(&mut options);
        let fenced = Fenced {
            fence: options.fence.clone(),
            metrics: Arc::clone(&options.metrics),
        };
        let client = ClientBuilder::try_from(config)
            .unwrap()
            .with_layer(&noted)
            .with_layer(&fenced)
            .build();
        let prepared = prepare(client, options).unwrap();
        let context = Arc::clone(&prepared.context);
        let stop = CancellationToken::new();
        let task = tokio::spawn(prepared.run(stop.clone()));
        Operator {
            context,
            noted,
            stop,
            task,
        }
    }

    /// An API in the test's namespace, as an administrator.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies pipeline `name`: `spec` over a Kafka, a prefix and few partitions.
    pub async fn apply(&self, name: &str, spec: Value) -> kube::Result<RecommendationPipeline> {
        let manifest = self.manifest(name, spec);
        let params = PatchParams::apply("tests").force();
        self.api::<RecommendationPipeline>()
            .patch(name, &params, &Patch::Apply(&manifest))
            .await
    }

    /// The manifest that [`Harness::apply`] applies.
    pub fn manifest(&self, name: &str, spec: Value) -> Value {
        let mut whole = json!({
            "namePrefix": self.prefix,
            "kafka": {"bootstrapServers": [self.kafka]},
            "topics": [
                {"name": "customer_behavior", "partitions": 2},
                {"name": "recommendation_impressions", "partitions": 1},
            ],
        });
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        json!({
            "apiVersion": "recommendation.dev/v1alpha1",
            "kind": "RecommendationPipeline",
            "metadata": {"name": name},
            "spec": whole,
        })
    }

    /// Reads an object that is there.
    pub async fn get<K>(&self, name: &str) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        self.api::<K>().get(name).await.unwrap()
    }

    /// Waits until the pipeline's condition has this status and reason, and returns its message.
    pub async fn condition(&self, name: &str, type_: &str, status: &str, reason: &str) -> String {
        let api = self.api::<RecommendationPipeline>();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pipeline = api.get(name).await.unwrap();
            let conditions = pipeline.status.map(|s| s.conditions).unwrap_or_default();
            let found = conditions.iter().find(|c| c.type_ == type_);
            if let Some(c) = found.filter(|c| c.status == status && c.reason == reason) {
                return c.message.clone();
            }
            assert!(
                Instant::now() < deadline,
                "{type_} is not {status}/{reason}: {conditions:#?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits for something.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, mut done: impl FnMut() -> F) {
        let deadline = Instant::now() + PATIENCE;
        while !done().await {
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends the operator and removes the namespace. Not after a failure: what is left then is evidence.
    pub async fn end(self, operator: Operator) {
        operator.stop().await;
        self.remove().await;
    }

    /// Removes the namespace.
    pub async fn remove(self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await
            .unwrap();
    }
}

impl Operator {
    /// Ends it, as SIGTERM would.
    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(30), self.task)
            .await
            .expect("the operator stops")
            .unwrap();
    }

    /// Every request so far: its method and its address.
    pub fn asked(&self) -> Vec<(String, String)> {
        self.noted.asked()
    }

    /// Every request so far that the API server refused for want of a right.
    pub fn refused(&self) -> Vec<(String, String)> {
        self.noted.refused()
    }

    /// Requests so far that were no reads.
    pub fn writes(&self) -> usize {
        self.asked().iter().filter(|(method, _)| method != "GET").count()
    }

    /// Waits until this many more reconciles have ended.
    pub async fn reconciles(&self, more: u64) {
        let target = self.context.metrics.reconciles.get() + more;
        let deadline = Instant::now() + PATIENCE;
        while self.context.metrics.reconciles.get() < target {
            assert!(Instant::now() < deadline, "the operator does not reconcile");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until nothing has been written for a while, reconciles going on.
    pub async fn settled(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = self.writes();
            self.reconciles(1).await;
            tokio::time::sleep(Duration::from_millis(700)).await;
            if self.writes() == before {
                return;
            }
            assert!(Instant::now() < deadline, "the operator writes again and again");
        }
    }
}
