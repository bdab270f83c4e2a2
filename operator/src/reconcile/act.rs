//! The step that touches the world: children, topics, statements, and the record of what was done outside the cluster.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::{DynamicObject, GroupVersionKind};
use recommendation_api::pipeline::monitoring::InstallPolicy;
use recommendation_api::pipeline::status::TopicOrigin;

use crate::apply::ApplyError;
use crate::apply::children::Applier;
use crate::apply::record::AppliedRecord;
use crate::apply::statements::{self, StatementsOutcome};
use crate::apply::topics::{self, TopicsOutcome};
use crate::build::topic_plan::{TopicAction, TopicPlan, TopicStep};
use crate::build::{self, statement_plan, topic_plan};
use crate::context::Context;
use crate::dereference::Found;
use crate::kafka::KafkaError;
use crate::ksqldb::{KsqlClient, Listing};
use crate::report::{Installed, Outcome};
use crate::traces;
use crate::validate::{DesiredKsqldb, ValidatedPipeline};

/// Applies everything; stages do not hide each other.
pub(super) async fn act<'a>(ctx: &Context, valid: &'a ValidatedPipeline, found: Found) -> Outcome<'a> {
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
    let deployment = traces::step("children", Box::pin(applier.all(valid, children)))
        .await
        .map_err(|error| failed(ctx, &error));
    let optional = Box::pin(optional.apply(ctx, valid, &applier));
    let (monitoring, route) = traces::step("monitoring", optional).await;
    let mut record = found.record;
    let mut announced = Vec::new();
    let topics = match found.kafka {
        Ok((cluster, view)) => {
            let mut plan = topic_plan::plan(valid, &view, &record.topics, &found.claims, &found.strimzi);
            let uid = &valid.id.owner.uid;
            ctx.refused_topics.hold(uid, &mut plan);
            match announce(valid, &plan, &applier, &record).await {
                Ok(names) => {
                    announced = names;
                    let applying = topics::apply(&cluster, plan.clone(), view, &announced);
                    let outcome = traces::step("topics", applying).await;
                    ctx.refused_topics.note(uid, &plan, &outcome);
                    outcome
                }
                Err(error) => TopicsOutcome::unreachable(format!("topics wait for their record: {error}")),
            }
        }
        Err(error @ KafkaError::Pending { .. }) => TopicsOutcome::unusable(&error),
        Err(error) => {
            ctx.metrics.errors.with_label_values(&[error.label()]).inc();
            tracing::warn!(%error, "cannot look at Kafka");
            TopicsOutcome::unusable(&error)
        }
    };
    record.topics.extend(topics.origins());
    for name in topics.withdrawn() {
        record.topics.remove(name);
    }
    let statements = match found.ksqldb {
        // Which topics there are is not known yet, and what would be done now is not told.
        _ if topics.pending => StatementsOutcome::default(),
        Some(Ok(server)) => ksqldb(ctx, valid, &topics, &applier, &server, &mut record).await,
        Some(Err(error)) => {
            ctx.metrics.errors.with_label_values(&[error.label()]).inc();
            StatementsOutcome::unusable(&error)
        }
        None => StatementsOutcome::default(),
    };
    // Kept in memory of nobody: a record that cannot be written now is written by the next reconcile.
    if record != AppliedRecord::default() || !announced.is_empty() {
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

/// Writes down which topics are about to be made: should the operator die in between, what it finds then is its own.
/// Answers which were not known before. `record` stays as it is: what Kafka refuses to make is nobody's.
async fn announce(
    valid: &ValidatedPipeline,
    plan: &TopicPlan,
    applier: &Applier<'_>,
    record: &AppliedRecord,
) -> Result<Vec<String>, ApplyError> {
    let created = |step: &&TopicStep| {
        let creates = |action: &TopicAction| matches!(action, TopicAction::Create(_));
        step.refusal.is_none()
            && step.actions.iter().any(creates)
            && record.topics.get(&step.name) != Some(&TopicOrigin::Created)
    };
    let announced: Vec<String> = plan
        .steps
        .iter()
        .filter(created)
        .map(|step| step.name.clone())
        .collect();
    if !announced.is_empty() {
        let mut with = record.clone();
        let names = announced.iter().cloned();
        with.topics.extend(names.map(|name| (name, TopicOrigin::Created)));
        let config_map = build::configmap::applied(&valid.id, &with);
        applier.one(&applier.caches.config_maps, &config_map).await?;
    }
    Ok(announced)
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
    let applying = statements::apply(client, &plan, &removed, policy, record, listing);
    let mut outcome = traces::step("statements", applying).await;
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
