//! One look at one pipeline: dereference, validate, build, apply, report.

mod act;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use recommendation_api::names::FINALIZER;
use recommendation_api::pipeline::{RecommendationPipeline, RecommendationPipelineStatus};

use crate::cleanup::{self, FinalizerError, Progress};
use crate::context::Context;
use crate::controller::{Guarded, key};
use crate::deadline;
use crate::dereference::{self, DereferenceError};
use crate::recorder::Note;
use crate::report::{self, StatusError, conditions};
use crate::retrain;
use crate::traces;
use crate::validate;

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
    let look = deadline::behind(ctx.fence.clone(), Box::pin(look(&guarded, &ctx)));
    let failure =
        |outcome: &Result<Action, ReconcileError>| outcome.as_ref().err().map(ReconcileError::label);
    let outcome = ctx.traces.look(&key(&guarded), look, failure).await;
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
    let reading = Box::pin(dereference::dereference(ctx, pipeline));
    let found = traces::step("dereference", reading).await?;
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
    let outcome = traces::step("apply", Box::pin(act::act(ctx, &valid, found))).await;
    timer.observe_duration();
    // It ends within seconds. Told as unreachable meanwhile, every pipeline on a slow Kafka would be written to twice
    // whenever the operator is started.
    if outcome.topics.pending {
        return Ok(Verdict::Again);
    }

    let transient = outcome.topics.unreachable.is_some()
        || outcome.statements.unreachable.is_some()
        || outcome.deployment.is_err();
    let now = Time(Timestamp::now());
    let mut status = report::status(pipeline.status.as_ref(), &outcome, &now);
    let fresh = report::figures(&outcome.replicas);
    status.model = ctx
        .figures
        .settle(&pipeline.uid().unwrap_or_default(), status.model.as_ref(), fresh);
    let fit = retrain::on_drift(ctx, &valid, &status.conditions, &outcome.replicas).await;
    let fit = fit.unwrap_or_else(|error| {
        ctx.metrics.errors.with_label_values(&[error.label()]).inc();
        tracing::warn!(%error, "drift asks for a fit in vain");
        None
    });
    let waiting = !report::is_ready(Some(&status));
    let stalled = report::is_stalled(&status);
    let asked = !outcome.replicas.pods.is_empty();
    let topics_done = outcome.topics.topics.iter().flat_map(|topic| &topic.done);
    let warnings = outcome.topics.topics.iter().flat_map(|topic| &topic.warnings);
    let warnings = warnings.chain(&outcome.statements.warnings).chain(&fit);
    let warnings: Vec<Note> = warnings.cloned().collect();
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
    let written = traces::step("report", report::write(&ctx.client, pipeline, status)).await;
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
