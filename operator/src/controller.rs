//! Wiring: what is watched, how often it is looked at, how it stops.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config};
use kube::runtime::predicates::{annotations, generation, labels};
use kube::runtime::reflector;
use kube::runtime::{Controller, Predicate as _, PredicateConfig, WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use recommendation_api::pipeline::RecommendationPipeline;
use tokio_util::sync::CancellationToken;

use crate::apply::refused::{Refused, RefusedTopics};
use crate::backoff::Backoff;
use crate::caches::{Caches, Touched, scoped};
use crate::cleanup::Keyring;
use crate::context::{Context, Discovered, Figures};
use crate::dereference::KafkaTopics;
use crate::kafka::Pool;
use crate::ksqldb::http::Servers;
use crate::metrics::Metrics;
use crate::reconcile::{ReconcileError, reconcile};
use crate::recorder::Recorder;
use crate::validate::Settings;

/// A pipeline, or an object that cannot be read as one: it must not end the watch of all others.
pub type Guarded = DeserializeGuard<RecommendationPipeline>;

/// Pipelines that are looked at at the same time; the runtime's own default is no bound at all.
const CONCURRENCY: u16 = 8;
/// A burst of changes (a Deployment's status counts up pod by pod) is one look.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// How the controller runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only this namespace; `None` = all.
    pub namespace: Option<String>,
    /// An idle pipeline is looked at this often.
    pub resync: Duration,
    /// A cleanup that is blocked for longer is given up; `None` = never.
    pub cleanup_timeout: Option<Duration>,
    /// This process in events: the pod's name.
    pub instance: Option<String>,
    /// What validation needs.
    pub settings: Settings,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespace: None,
            resync: Duration::from_secs(30),
            cleanup_timeout: None,
            instance: None,
            settings: Settings::default(),
        }
    }
}

/// A controller that is wired but does not run yet.
pub struct Prepared {
    /// What its reconciles share.
    pub context: Arc<Context>,
    writer: reflector::store::Writer<Guarded>,
    touched: Touched,
    options: Options,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The controller's shared parts could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Metrics.
    #[error("cannot register the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The HTTP client of ksqlDB and the replicas.
    #[error("cannot make an HTTP client: {0}")]
    Http(#[from] reqwest::Error),
}

/// The public certificate authorities, compiled in.
fn authorities() -> Result<Vec<reqwest::Certificate>, reqwest::Error> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .map(|der| reqwest::Certificate::from_der(der))
        .collect()
}

/// Makes everything that reconciles share.
///
/// # Errors
/// [`PrepareError`].
pub fn prepare(client: Client, options: Options) -> Result<Prepared, PrepareError> {
    let (caches, touched) = Caches::new(&client, options.namespace.as_deref());
    let (store, writer) = reflector::store::<Guarded>();
    let http = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(3))
        // An address that answered an hour ago may be another pod's now.
        .pool_idle_timeout(Duration::from_secs(60))
        // The image holds nothing but the program: no system's certificates could be found there.
        .tls_certs_only(authorities()?)
        .build()?;
    let context = Context {
        recorder: Recorder::new(client.clone(), options.instance.clone()),
        client,
        http,
        kafka: Pool::default(),
        ksqldb: Servers::default(),
        caches,
        store,
        metrics: Arc::new(Metrics::new()?),
        backoff: Backoff::default(),
        settings: options.settings.clone(),
        keyring: Keyring::default(),
        cleanup_timeout: options.cleanup_timeout,
        resync: options.resync,
        figures: Figures::default(),
        refused: Refused::default(),
        refused_topics: RefusedTopics::default(),
        kafka_topics: KafkaTopics::default(),
        service_monitors: Discovered::default(),
    };
    Ok(Prepared {
        context: Arc::new(context),
        writer,
        touched,
        options,
    })
}

impl Prepared {
    /// Reconciles until `stop`; reconciles that have begun are finished.
    pub async fn run(self, stop: CancellationToken) {
        let pipelines = scoped_guarded(&self.context.client, self.options.namespace.as_deref());
        let store = self.context.store.clone();
        // The operator's own status writes change neither of the three, so they do not wake it.
        let stream = watcher(pipelines, watcher::Config::default())
            .default_backoff()
            .modify(|pipeline| pipeline.managed_fields_mut().clear())
            .reflect(self.writer)
            .applied_objects()
            .predicate_filter(
                generation.combine(annotations).combine(labels),
                PredicateConfig::default(),
            );
        let context = Arc::clone(&self.context);
        Controller::for_stream(stream, store)
            .with_config(Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
            .reconcile_on(self.touched)
            .graceful_shutdown_on(stop.cancelled_owned())
            .run(reconcile, on_error, self.context)
            .for_each(|result| async move {
                match result {
                    Ok((object, action)) => tracing::debug!(%object, ?action, "looked at"),
                    // A pipeline that was deleted while a child's change waited for it.
                    Err(kube::runtime::controller::Error::ObjectNotFound(object)) => {
                        tracing::debug!(%object, "gone");
                    }
                    Err(error) => tracing::warn!(%error, "reconcile failed"),
                }
            })
            .await;
        context.kafka.finish().await;
    }
}

fn scoped_guarded(client: &Client, namespace: Option<&str>) -> kube::Api<Guarded> {
    scoped(client, namespace)
}

#[expect(clippy::needless_pass_by_value, reason = "the runtime's signature")]
fn on_error(pipeline: Arc<Guarded>, error: &ReconcileError, ctx: Arc<Context>) -> Action {
    ctx.metrics.errors.with_label_values(&[error.label()]).inc();
    let key = format!(
        "{}/{}",
        pipeline.namespace().unwrap_or_default(),
        pipeline.name_any()
    );
    Action::requeue(ctx.backoff.failed(&key))
}
