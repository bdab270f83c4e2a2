//! One look at one pipeline: dereference, validate, build, apply, report.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::core::{DynamicObject, GroupVersionKind};
use kube::runtime::controller::Action;
use recommendation_api::names::FINALIZER;
use recommendation_api::pipeline::monitoring::InstallPolicy;
use recommendation_api::pipeline::{RecommendationPipeline, RecommendationPipelineStatus};

use crate::apply::ApplyError;
use crate::apply::children::Applier;
use crate::apply::record::AppliedRecord;
use crate::apply::statements::{self, StatementsOutcome};
use crate::apply::topics::{self, TopicsOutcome};
use crate::build::{self, statement_plan, topic_plan};
use crate::cleanup::{self, FinalizerError, Progress};
use crate::context::Context;
use crate::controller::{Guarded, key};
use crate::deadline;
use crate::dereference::{self, DereferenceError, Found};
use crate::ksqldb::{KsqlClient, Listing};
use crate::recorder::Note;
use crate::report::{self, Installed, Outcome, StatusError, conditions};
use crate::validate::{self, DesiredKsqldb, ValidatedPipeline};

/// Until the model serves, the replicas are asked this often.
const WAITING: Duration = Duration::from_secs(5);
/// A deleted recommender's pods are looked for this often.
const POLL_PODS: Duration = Duration::from_secs(2);
/// A status that was written to meanwhile is looked at again after this time.
const CONFLICT: Duration = Duration::from_millis(500);

/// A reconcile that could not be finished. What can be told in a condition is none of these.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The caches were not filled.
    #[error("the caches of children are not filled: {0}")]
    Caches(String),
    /// *Dereference* failed.
    #[error(transparent)]
    Dereference(#[from] DereferenceError),
    /// *Report* failed.
    #[error(transparent)]
    Report(#[from] StatusError),
    /// The finalizer could not be written.
    #[error(transparent)]
    Finalizer(#[from] FinalizerError),
}

impl ReconcileError {
    /// What failed, as a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Caches(_) => "Caches",
            Self::Dereference(error) => error.label(),
            Self::Report(error) => error.label(),
            Self::Finalizer(error) => error.label(),
        }
    }
}

/// Looks at one pipeline, while this operator leads.
///
/// # Errors
/// [`ReconcileError`]: it is looked at again with backoff.
pub async fn reconcile(guarded: Arc<Guarded>, ctx: Arc<Context>) -> Result<Action, ReconcileError> {
    // Never closed.
    let _slot = ctx.slots.acquire().await;
    ctx.queue.leaves(&key(&guarded));
    ctx.metrics.running.inc();
    // On the heap, here and below: a pipeline and its children are large, and stacks are not.
    let outcome = deadline::behind(ctx.fence.clone(), Box::pin(look(&guarded, &ctx))).await;
    ctx.metrics.running.dec();
    outcome
}

async fn look(guarded: &Guarded, ctx: &Context) -> Result<Action, ReconcileError> {
    let key = key(guarded);
    let pipeline = match &guarded.0 {
        Ok(pipeline) => pipeline,
        Err(malformed) => {
            tracing::warn!(key, error = %malformed.error, "this object cannot be read as a pipeline");
            report::malformed(&ctx.client, malformed).await?;
            return Ok(Action::await_change());
        }
    };
    if pipeline.metadata.deletion_timestamp.is_some() {
        let delay = Box::pin(delete(ctx, pipeline, &key)).await?;
        return Ok(delay.map_or_else(Action::await_change, Action::requeue));
    }
    // Before the first filling every child would look missing, and be written.
    let ready = deadline::within(deadline::KUBERNETES, ctx.caches.ready()).await;
    ready
        .map_err(|error| ReconcileError::Caches(error.to_string()))?
        .map_err(|error| ReconcileError::Caches(error.to_string()))?;
    let result = Box::pin(steps(ctx, pipeline)).await;
    ctx.metrics.reconciles.inc();
    match result {
        Ok(Verdict::Again) => Ok(Action::requeue(ctx.backoff.failed(&key).min(ctx.resync))),
        Ok(Verdict::In(delay)) => {
            ctx.backoff.reset(&key);
            // Thousands that were seen first at the same moment need not be looked at together for ever.
            Ok(Action::requeue(delay.mul_f64(rand::random_range(0.9..1.1))))
        }
        // The watch brings the newer object; this is only in case that it does not.
        Err(ReconcileError::Report(StatusError::Conflict)) => Ok(Action::requeue(CONFLICT)),
        Err(ReconcileError::Report(StatusError::Gone)) => Ok(Action::await_change()),
        Err(error) => Err(error),
    }
}

/// Deletes what the spec asks for; when to look again, if anything is left to do. Children go by their owner
/// references.
async fn delete(
    ctx: &Context,
    pipeline: &RecommendationPipeline,
    key: &str,
) -> Result<Option<Duration>, ReconcileError> {
    if pipeline.finalizers().iter().any(|name| name == FINALIZER) {
        let record = dereference::record(ctx, pipeline).await?;
        let plan = cleanup::plan::plan(&pipeline.spec, &record);
        match cleanup::attempt(ctx, pipeline, &plan).await {
            Progress::Done => cleanup::release(&ctx.client, pipeline).await?,
            Progress::GivenUp(why) => {
                let note = Note {
                    warning: true,
                    reason: "CleanupSkipped".to_owned(),
                    message: why,
                };
                ctx.recorder.publish(pipeline, &[note]).await;
                cleanup::release(&ctx.client, pipeline).await?;
            }
            Progress::Waiting => return Ok(Some(POLL_PODS)),
            Progress::Blocked(refusal) => {
                let before = pipeline
                    .status
                    .as_ref()
                    .map(|s| s.conditions.clone())
                    .unwrap_or_default();
                let status = with_conditions(pipeline, &conditions::cleanup_blocked(&before, &refusal));
                finish(ctx, pipeline, status, std::iter::empty()).await?;
                return Ok(Some(ctx.backoff.failed(key)));
            }
        }
    }
    ctx.backoff.reset(key);
    let uid = pipeline.uid().unwrap_or_default();
    ctx.figures.forget(&uid);
    ctx.refused.forget(&uid);
    ctx.refused_topics.forget(&uid);
    ctx.keyring.forget(&uid);
    ctx.records.forget(&uid);
    ctx.checked.forget(&uid);
    ctx.references
        .forget(&pipeline.namespace().unwrap_or_default(), &pipeline.name_any());
    Ok(None)
}

/// When to look again.
enum Verdict {
    /// Something outside failed and may pass: with backoff.
    Again,
    /// Steadily.
    In(Duration),
}

async fn steps(ctx: &Context, pipeline: &RecommendationPipeline) -> Result<Verdict, ReconcileError> {
    let before = pipeline
        .status
        .as_ref()
        .map(|s| s.conditions.clone())
        .unwrap_or_default();
    if pipeline.spec.suspend == Some(true) {
        // What would be deleted with it is decided by the spec, acted on or not.
        let settled = cleanup::settle(&ctx.client, pipeline).await?;
        let pipeline = settled.as_ref().unwrap_or(pipeline);
        let status = with_conditions(pipeline, &conditions::suspended(&before));
        finish(ctx, pipeline, status, std::iter::empty()).await?;
        return Ok(Verdict::In(ctx.resync));
    }
    // An empty status reads as "done" to kstatus, and dereference may take its time.
    let seen = match pipeline.status {
        Some(_) => None,
        None => {
            report::write(
                &ctx.client,
                pipeline,
                with_conditions(pipeline, &conditions::first_sight()),
            )
            .await?
        }
    };
    let pipeline = seen.as_ref().unwrap_or(pipeline);
    // Before anything outside Kubernetes is made.
    let settled = cleanup::settle(&ctx.client, pipeline).await?;
    let pipeline = settled.as_ref().unwrap_or(pipeline);

    let timer = ctx
        .metrics
        .steps
        .with_label_values(&["dereference"])
        .start_timer();
    let found = Box::pin(dereference::dereference(ctx, pipeline)).await?;
    timer.observe_duration();
    let valid = match validate::validate(pipeline, &found.references, &ctx.settings) {
        Ok(valid) => valid,
        Err(error) => {
            let status = with_conditions(pipeline, &conditions::invalid(&before, &error));
            finish(ctx, pipeline, status, std::iter::empty()).await?;
            return Ok(Verdict::In(ctx.resync));
        }
    };
    let timer = ctx.metrics.steps.with_label_values(&["apply"]).start_timer();
    let outcome = Box::pin(act(ctx, &valid, found)).await;
    timer.observe_duration();

    let transient = outcome.topics.unreachable.is_some()
        || outcome.statements.unreachable.is_some()
        || outcome.deployment.is_err();
    let now = Time(Timestamp::now());
    let mut status = report::status(pipeline.status.as_ref(), &outcome, &now);
    let fresh = report::figures(&outcome.replicas);
    status.model = ctx
        .figures
        .settle(&pipeline.uid().unwrap_or_default(), status.model.as_ref(), fresh);
    let waiting = !report::is_ready(Some(&status));
    let stalled = report::is_stalled(&status);
    let asked = !outcome.replicas.pods.is_empty();
    let topics_done = outcome.topics.topics.iter().flat_map(|topic| &topic.done);
    let warnings = outcome.topics.topics.iter().flat_map(|topic| &topic.warnings);
    let warnings: Vec<Note> = warnings.chain(&outcome.statements.warnings).cloned().collect();
    finish(ctx, pipeline, status, topics_done.chain(&outcome.statements.done)).await?;
    ctx.recorder.publish(pipeline, &warnings).await;
    Ok(match (transient || stalled, waiting && asked) {
        // Outside, or for a person to mend: looked at less and less often.
        (true, _) => Verdict::Again,
        // Changes of children and pods come by their watches; what a replica knows has to be asked for.
        (false, true) => Verdict::In(WAITING.min(ctx.resync)),
        (false, false) => Verdict::In(ctx.resync),
    })
}

/// Applies everything; stages do not hide each other.
async fn act<'a>(ctx: &Context, valid: &'a ValidatedPipeline, found: Found) -> Outcome<'a> {
    let children = build::children(valid);
    let optional = Optional {
        service_monitor: children.service_monitor.clone(),
        rules: children.rules.clone(),
        dashboard: children.dashboard.clone(),
        http_route: children.http_route.clone(),
    };
    let applier = Applier {
        client: &ctx.client,
        caches: &ctx.caches,
        id: &valid.id,
    };
    let deployment = Box::pin(applier.all(valid, children))
        .await
        .map_err(|error| failed(ctx, &error));
    let (monitoring, route) = Box::pin(optional.apply(ctx, valid, &applier)).await;
    let mut record = found.record;
    let topics = match found.kafka {
        Ok((cluster, view)) => {
            let mut plan = topic_plan::plan(valid, &view, &record.topics, &found.claims, &found.strimzi);
            let uid = &valid.id.owner.uid;
            ctx.refused_topics.hold(uid, &mut plan);
            let outcome = topics::apply(&cluster, plan.clone(), view).await;
            ctx.refused_topics.note(uid, &plan, &outcome);
            outcome
        }
        Err(error) => {
            ctx.metrics.errors.with_label_values(&[error.label()]).inc();
            tracing::warn!(%error, "cannot look at Kafka");
            TopicsOutcome::unusable(&error)
        }
    };
    record.topics.extend(topics.origins());
    let statements = match found.ksqldb {
        Some(Ok(server)) => ksqldb(ctx, valid, &topics, &applier, &server, &mut record).await,
        Some(Err(error)) => {
            ctx.metrics.errors.with_label_values(&[error.label()]).inc();
            StatementsOutcome::unusable(&error)
        }
        None => StatementsOutcome::default(),
    };
    // Kept in memory of nobody: a record that cannot be written now is written by the next reconcile.
    if record != AppliedRecord::default() {
        let wanted = build::configmap::applied(&valid.id, &record);
        if let Err(error) = applier.one(&ctx.caches.config_maps, &wanted).await {
            failed(ctx, &error);
            ctx.records.forget(&valid.id.owner.uid);
        } else {
            ctx.records.keep(&valid.id.owner.uid, &record);
        }
    }
    Outcome {
        pipeline: valid,
        topics,
        statements,
        deployment,
        replicas: found.replicas,
        monitoring,
        route,
    }
}

fn failed(ctx: &Context, error: &ApplyError) -> String {
    ctx.metrics.errors.with_label_values(&[error.label()]).inc();
    tracing::warn!(%error, "cannot apply a child");
    error.to_string()
}

/// Children of which some or all may have no place in this cluster.
struct Optional {
    service_monitor: Option<DynamicObject>,
    rules: Option<DynamicObject>,
    dashboard: Option<ConfigMap>,
    http_route: Option<DynamicObject>,
}

impl Optional {
    /// What became of each part of monitoring, and of the route.
    async fn apply(
        self,
        ctx: &Context,
        valid: &ValidatedPipeline,
        applier: &Applier<'_>,
    ) -> (Vec<(&'static str, Installed)>, Installed) {
        let required = |policy: InstallPolicy| policy == InstallPolicy::Required;
        let foreign = Foreign { ctx, applier };
        let gvk = build::service_monitor::gvk();
        let policy = valid.service_monitor.policy;
        let monitor = foreign
            .apply(&gvk, self.service_monitor.as_ref(), required(policy))
            .await;
        let gvk = build::rules::gvk();
        let rules = foreign
            .apply(&gvk, self.rules.as_ref(), required(valid.rules.policy))
            .await;
        let dashboard = match applier.dashboard(self.dashboard.as_ref()).await {
            Ok(()) if self.dashboard.is_some() => Installed::Applied,
            Ok(()) => Installed::Disabled,
            Err(error) => Installed::Failed(failed(ctx, &error)),
        };
        let gvk = build::http_route::gvk();
        let route = foreign.apply(&gvk, self.http_route.as_ref(), true).await;
        let monitoring = vec![
            ("serviceMonitor", monitor),
            ("rules", rules),
            ("dashboard", dashboard),
        ];
        (monitoring, route)
    }
}

/// Applies what somebody else's CRD is needed for.
struct Foreign<'a> {
    ctx: &'a Context,
    applier: &'a Applier<'a>,
}

impl Foreign<'_> {
    async fn apply(
        &self,
        gvk: &GroupVersionKind,
        wanted: Option<&DynamicObject>,
        required: bool,
    ) -> Installed {
        let ctx = self.ctx;
        let Some(resource) = ctx.discovered.get(&ctx.client, gvk, ctx.resync).await else {
            return match wanted {
                Some(_) => Installed::Absent { required },
                None => Installed::Disabled,
            };
        };
        match self
            .applier
            .uncached(&resource, wanted, &ctx.checked, ctx.resync)
            .await
        {
            Ok(()) if wanted.is_some() => Installed::Applied,
            Ok(()) => Installed::Disabled,
            Err(error) => Installed::Failed(failed(ctx, &error)),
        }
    }
}

async fn ksqldb(
    ctx: &Context,
    valid: &ValidatedPipeline,
    topics: &TopicsOutcome,
    applier: &Applier<'_>,
    (client, listing): &(KsqlClient, Listing),
    record: &mut AppliedRecord,
) -> StatementsOutcome {
    let live = topics.live();
    // Without spec.ksqldb nothing is wanted any more.
    let nothing = DesiredKsqldb {
        delete_topics: valid.delete_by_default,
        ..DesiredKsqldb::default()
    };
    let wanted = valid.ksqldb.as_ref().unwrap_or(&nothing);
    let mut plan = statement_plan::plan(wanted, &valid.topics, &live, record, listing);
    let removed = statement_plan::removed(record, &plan, wanted.delete_topics);
    ctx.refused.hold(&valid.id.owner.uid, &mut plan, listing);
    let before = record.statements.clone();
    // Announced before it is sent: should the operator die in between, what it finds then is its own.
    let announced: Vec<_> = statements::creates(&plan)
        .map(|(position, step)| {
            let mut pending = statement_plan::pending(step, position);
            pending.made_topic |= before.get(&step.source).is_some_and(|known| known.made_topic);
            (step.source.clone(), pending)
        })
        .collect();
    if let Some(server) = &valid.ksqldb_server {
        record.server = Some(server.clone());
    }
    if !announced.is_empty() {
        record.statements.extend(announced);
        let config_map = build::configmap::applied(&valid.id, record);
        if let Err(error) = applier.one(&applier.caches.config_maps, &config_map).await {
            return StatementsOutcome::unreachable(format!("statements wait for their record: {error}"));
        }
    }
    let policy = statements::Policy {
        earliest: wanted.earliest,
        recreate: wanted.recreate,
        delete_topics: wanted.delete_topics,
    };
    let mut outcome = statements::apply(client, &plan, &removed, policy, record, listing).await;
    ctx.refused.note(&valid.id.owner.uid, &plan, &outcome, listing);
    record.statements.extend(outcome.records.iter().cloned());
    for key in &outcome.removed {
        record.statements.remove(key);
    }
    if valid.ksqldb.is_none() && record.statements.is_empty() {
        record.server = None;
        outcome.configured = false;
    }
    for source in &outcome.withdrawn {
        // Announced by an earlier look that ended without an answer: what is there now may well be its doing.
        if before.get(source) != record.statements.get(source) {
            record.statements.remove(source);
        }
    }
    outcome
}

fn with_conditions(
    pipeline: &RecommendationPipeline,
    findings: &[conditions::Typed],
) -> RecommendationPipelineStatus {
    let before = pipeline.status.clone().unwrap_or_default();
    let generation = pipeline.metadata.generation.unwrap_or_default();
    RecommendationPipelineStatus {
        observed_generation: Some(generation),
        conditions: conditions::merge(&before.conditions, findings, generation, &Time(Timestamp::now())),
        ..before
    }
}

/// Writes the status if it differs, then tells what changed.
async fn finish(
    ctx: &Context,
    pipeline: &RecommendationPipeline,
    status: RecommendationPipelineStatus,
    done: impl Iterator<Item = &String>,
) -> Result<(), StatusError> {
    let timer = ctx.metrics.steps.with_label_values(&["report"]).start_timer();
    let before = pipeline
        .status
        .as_ref()
        .map(|s| s.conditions.as_slice())
        .unwrap_or_default();
    let notes = report::notes(done, before, &status.conditions);
    let written = report::write(&ctx.client, pipeline, status).await;
    let outcome = match &written {
        Ok(Some(_)) => "written",
        Ok(None) => "unchanged",
        Err(_) => "failed",
    };
    ctx.metrics.status_writes.with_label_values(&[outcome]).inc();
    timer.observe_duration();
    written?;
    ctx.recorder.publish(pipeline, &notes).await;
    Ok(())
}
