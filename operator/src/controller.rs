//! Wiring: what is watched, how often it is looked at, how it stops.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config};
use kube::runtime::predicates::{annotations, generation, labels};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Controller, Predicate as _, PredicateConfig, WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use recommendation_api::pipeline::RecommendationPipeline;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::apply::refused::{Refused, RefusedTopics};
use crate::apply::uncached::Checked;
use crate::backoff::Backoff;
use crate::caches::{Caches, PAGE, References, Scope, Touched, scoped};
use crate::claims::Claims;
use crate::cleanup::Keyring;
use crate::context::{Context, Discovered, Figures, Records};
use crate::dereference::KafkaTopics;
use crate::health::Health;
use crate::kafka::Pool;
use crate::ksqldb::http::Servers;
use crate::leader::Fence;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::reconcile::{ReconcileError, reconcile};
use crate::recorder::Recorder;
use crate::telemetry::LogFilter;
use crate::traces::Traces;
use crate::validate::Settings;

/// A pipeline, or an object that cannot be read as one: it must not end the watch of all others.
pub type Guarded = DeserializeGuard<RecommendationPipeline>;

/// The watch of pipelines in metrics and health.
const KIND: &str = "RecommendationPipeline";

/// Pipelines that are looked at at the same time; the runtime's own default is no bound at all. Most of the time of a
/// look is waiting for somebody else.
const CONCURRENCY: u16 = 32;
/// A burst of changes (a Deployment's status counts up pod by pod) is one look.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// The loop shows that it turns this often.
const TURN: Duration = Duration::from_secs(5);

/// How the controller runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only these namespaces; none = all.
    pub namespaces: Vec<String>,
    /// An idle pipeline is looked at this often.
    pub resync: Duration,
    /// A cleanup that is blocked for longer is given up; `None` = never.
    pub cleanup_timeout: Option<Duration>,
    /// This process in events: the pod's name.
    pub instance: Option<String>,
    /// What validation needs.
    pub settings: Settings,
    /// Until when this process may act.
    pub fence: Fence,
    /// Where counts and times go.
    pub metrics: Arc<Metrics>,
    /// What is logged.
    pub log_filter: Arc<LogFilter>,
    /// Where traces go.
    pub traces: Traces,
}

impl Options {
    /// For one operator that acts everywhere.
    ///
    /// # Errors
    /// When two metrics share a name: a bug.
    pub fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            namespaces: Vec::new(),
            resync: Duration::from_secs(30),
            cleanup_timeout: None,
            instance: None,
            settings: Settings::default(),
            fence: Fence::open(),
            metrics: Arc::new(Metrics::new()?),
            log_filter: Arc::new(LogFilter::detached()),
            traces: Traces::default(),
        })
    }
}

/// A controller that is wired but does not run yet.
pub struct Prepared {
    /// What its reconciles share.
    pub context: Arc<Context>,
    parts: Vec<Part>,
}

/// The watches of one namespace, or of all.
struct Part {
    scope: Scope,
    store: Store<Guarded>,
    writer: Writer<Guarded>,
    touched: Touched,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

/// The HTTP client of ksqlDB and the replicas could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make an HTTP client: {0}")]
pub struct PrepareError(#[from] reqwest::Error);

/// The public certificate authorities, compiled in: the image has none.
///
/// # Errors
/// When one is no certificate: a bug.
pub fn authorities() -> Result<Vec<reqwest::Certificate>, reqwest::Error> {
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
    let scopes: Vec<Scope> = match options.namespaces.as_slice() {
        [] => vec![None],
        named => named.iter().cloned().map(Some).collect(),
    };
    let health = Arc::new(Health::new(Arc::clone(&options.metrics)));
    let references = Arc::new(References::default());
    let (caches, touched) = Caches::new(&client, &scopes, &health);
    let parts: Vec<Part> = scopes
        .into_iter()
        .zip(touched)
        .map(|(scope, children)| {
            let (store, writer) = reflector::store::<Guarded>();
            let named = references.touched(&client, &scope, &health);
            Part {
                touched: futures::stream::select(children, named).boxed(),
                scope,
                store,
                writer,
            }
        })
        .collect();
    let http = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(3))
        // An address that answered an hour ago may be another pod's now.
        .pool_idle_timeout(Duration::from_secs(60))
        // The image holds nothing but the program: no system's certificates could be found there.
        .tls_certs_only(authorities()?)
        .build()?;
    let context = Context {
        recorder: Recorder::new(client.clone(), options.instance),
        client,
        http,
        kafka: Pool::default(),
        ksqldb: Servers::default(),
        caches,
        references,
        claims: Arc::new(Claims::default()),
        stores: parts.iter().map(|part| part.store.clone()).collect(),
        metrics: options.metrics,
        backoff: Backoff::default(),
        settings: options.settings,
        keyring: Keyring::default(),
        cleanup_timeout: options.cleanup_timeout,
        resync: options.resync,
        figures: Figures::default(),
        refused: Refused::default(),
        refused_topics: RefusedTopics::default(),
        kafka_topics: KafkaTopics::default(),
        discovered: Discovered::default(),
        checked: Checked::default(),
        records: Records::default(),
        health,
        queue: Arc::new(Queue::default()),
        slots: Semaphore::new(usize::from(CONCURRENCY)),
        fence: options.fence,
        log_filter: options.log_filter,
        traces: options.traces,
    };
    Ok(Prepared {
        context: Arc::new(context),
        parts,
    })
}

impl Prepared {
    /// Reconciles until `stop`; reconciles that have begun are finished.
    pub async fn run(self, stop: CancellationToken) {
        let context = &self.context;
        let parts = self
            .parts
            .into_iter()
            .map(|part| part.run(Arc::clone(context), stop.clone()));
        futures::future::join_all(parts).await;
        context.kafka.finish().await;
    }
}

impl Part {
    async fn run(self, context: Arc<Context>, stop: CancellationToken) {
        let pipelines: kube::Api<Guarded> = scoped(&context.client, &self.scope);
        let (queue, health) = (Arc::clone(&context.queue), Arc::clone(&context.health));
        let (claims, scope) = (Arc::clone(&context.claims), self.scope);
        // The operator's own status writes change neither of the three, so they do not wake it.
        let stream = watcher(pipelines, watcher::Config::default().page_size(PAGE))
            .default_backoff()
            .modify(|pipeline| pipeline.managed_fields_mut().clear())
            .inspect_ok(move |event| claims.follow(&scope, event))
            .reflect(self.writer)
            .applied_objects()
            .predicate_filter(
                generation.combine(annotations).combine(labels),
                PredicateConfig::default(),
            )
            .inspect(move |pipeline| match pipeline {
                Ok(pipeline) => {
                    health.watch_is_well(KIND);
                    queue.enters(key(pipeline));
                }
                Err(_) => health.watch_failed(KIND),
            });
        let (queue, health) = (Arc::clone(&context.queue), Arc::clone(&context.health));
        let turns = futures::stream::unfold(
            (tokio::time::interval(TURN), health),
            |(mut turn, health)| async {
                turn.tick().await;
                health.turn();
                Some((None, (turn, health)))
            },
        );
        let touched = self.touched.map(Some);
        let touched = futures::stream::select(touched, turns)
            .filter_map(std::future::ready)
            .inspect(move |object: &ObjectRef<Guarded>| {
                queue.enters(format!(
                    "{}/{}",
                    object.namespace.as_deref().unwrap_or_default(),
                    object.name
                ));
            });
        let never_listed = stopped_unlisted(self.store.clone(), stop.clone());
        let run = Controller::for_stream(stream, self.store)
            .with_config(Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
            .reconcile_on(touched)
            .graceful_shutdown_on(stop.cancelled_owned())
            .run(reconcile, on_error, Arc::clone(&context))
            .for_each(|result| async {
                match result {
                    Ok((object, action)) => tracing::debug!(%object, ?action, "looked at"),
                    // A pipeline that was deleted while a child's change waited for it.
                    Err(kube::runtime::controller::Error::ObjectNotFound(object)) => {
                        let place = object.namespace.as_deref().unwrap_or_default();
                        context.queue.leaves(&format!("{place}/{}", object.name));
                        context.references.forget(place, &object.name);
                        tracing::debug!(%object, "gone");
                    }
                    Err(error) => tracing::warn!(%error, "reconcile failed"),
                }
            });
        tokio::select! {
            () = run => {}
            () = never_listed => {}
        }
    }
}

/// Ends when one that never got its first list is told to stop: the runtime waits for that list before it looks at
/// anything, its own end among it. Nothing has begun then that could be finished.
async fn stopped_unlisted(store: Store<Guarded>, stop: CancellationToken) {
    stop.cancelled().await;
    if store.wait_until_ready().now_or_never().is_some() {
        std::future::pending::<()>().await;
    }
}

/// A pipeline in the queue and in the backoff: `namespace/name`.
pub fn key(pipeline: &Guarded) -> String {
    format!(
        "{}/{}",
        pipeline.namespace().unwrap_or_default(),
        pipeline.name_any()
    )
}

#[expect(clippy::needless_pass_by_value, reason = "the runtime's signature")]
fn on_error(pipeline: Arc<Guarded>, error: &ReconcileError, ctx: Arc<Context>) -> Action {
    ctx.metrics.errors.with_label_values(&[error.label()]).inc();
    Action::requeue(ctx.backoff.failed(&key(&pipeline)))
}
