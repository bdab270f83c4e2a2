//! `plan`: what a reconcile would do in Kafka, in ksqlDB and in Kubernetes, without doing it. It reads what the
//! controller reads, with the rights of whoever asks.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, DeserializeGuard, GroupVersionKind};
use kube::runtime::watcher::Event;
use kube::{Client, ResourceExt as _};
use recommendation_api::pipeline::RecommendationPipeline;
use serde_json::Value;

use super::changes::Changes;
use crate::build::{self, statement_plan, topic_plan};
use crate::context::Context;
use crate::controller::{self, Options};
use crate::deadline;
use crate::dereference::{self, Found};
use crate::kafka::{ClusterView, KafkaError};
use crate::ksqldb::Listing;
use crate::leader::Fence;
use crate::validate::{self, DesiredKsqldb, Settings, ValidatedPipeline};

/// Until it is asked again whether a first look at Kafka has ended.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// How the plan is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs: `{"changes": [{place, action, kind, name, detail}], "notes": []}`.
    Json,
}

/// Flags of `plan`.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// The manifest; `-` reads standard input.
    #[arg(short, long, default_value = "-")]
    file: std::path::PathBuf,
    /// Namespace of the pipeline [default: the manifest's, then the context's].
    #[arg(short, long)]
    namespace: Option<String>,
    /// How the plan is printed.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    /// Also show what would be left as it is.
    #[arg(short, long)]
    all: bool,
    /// End with 2 if anything would change and with 3 if anything would be refused; without it 0 means only that the
    /// plan could be made.
    #[arg(long)]
    exit_code: bool,
    /// Image of a recommender whose spec names none: as the operator was started.
    #[arg(long, env = "RECOMMENDER_IMAGE", default_value = concat!("recommender:", env!("CARGO_PKG_VERSION")))]
    recommender_image: String,
    /// Namespace that the operator runs in: NetworkPolicies name it.
    #[arg(long, env = "POD_NAMESPACE", default_value = "recommendation-system")]
    operator_namespace: String,
}

pub(super) async fn run(args: PlanArgs) -> anyhow::Result<ExitCode> {
    let pipeline = super::validate::read(&args.file)?;
    let client = Client::try_default().await.context(
        "no way to reach a Kubernetes API server, where the pipeline's Secrets and what was applied before are: set \
         KUBECONFIG (`validate` needs none)",
    )?;
    let changes = plan(client, pipeline, &args).await?;
    match args.output {
        Output::Text => print!("{}", changes.text(args.all)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&changes)?),
    }
    Ok(
        match (
            args.exit_code,
            changes.count(super::changes::Action::Refuse),
            changes.any(),
        ) {
            (true, 1.., _) => ExitCode::from(3),
            (true, 0, true) => ExitCode::from(2),
            _ => ExitCode::SUCCESS,
        },
    )
}

async fn plan(
    client: Client,
    mut pipeline: RecommendationPipeline,
    args: &PlanArgs,
) -> anyhow::Result<Changes> {
    let namespace = args
        .namespace
        .clone()
        .or_else(|| pipeline.namespace())
        .unwrap_or_else(|| client.default_namespace().to_owned());
    pipeline.metadata.namespace = Some(namespace.clone());
    let mut changes = Changes::default();
    let api: Api<RecommendationPipeline> = Api::namespaced(client.clone(), &namespace);
    let all = deadline::within(deadline::KUBERNETES, api.list(&Default::default())).await?;
    // Without the CRD there are none yet.
    let others = all.map(|list| list.items).unwrap_or_default();
    match others
        .iter()
        .find(|other| other.name_any() == pipeline.name_any())
    {
        Some(live) => {
            pipeline.metadata.uid = live.uid();
            pipeline.metadata.creation_timestamp = live.metadata.creation_timestamp.clone();
            pipeline.status.clone_from(&live.status);
        }
        None => changes.notes.push(format!(
            "there is no pipeline {} in namespace {namespace} yet: what exists counts as somebody else's",
            pipeline.name_any()
        )),
    }
    let options = Options {
        namespaces: vec![namespace.clone()],
        // Nothing is written, whatever happens.
        fence: Fence::closed(),
        settings: Settings {
            recommender_image: args.recommender_image.clone(),
            namespace: args.operator_namespace.clone(),
        },
        ..Options::new()?
    };
    let prepared = controller::prepare(client.clone(), options)?;
    let ctx = &prepared.context;
    // The older of two pipelines owns a topic, here too.
    for other in others {
        ctx.claims
            .follow(&None, &Event::Apply(DeserializeGuard(Ok(other))));
    }
    let found = loop {
        let found = dereference::dereference(ctx, &pipeline).await?;
        // It ends within seconds, and this is asked once.
        if !matches!(found.kafka, Err(KafkaError::Pending { .. })) {
            break found;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    };
    let valid = validate::validate(&pipeline, &found.references, &ctx.settings)?;
    changes.notes.extend(valid.missing_secrets.iter().cloned());
    for field in &valid.unsupported {
        changes
            .notes
            .push(format!("{field} is ignored: this version does not act on it"));
    }
    let view = outside(&mut changes, &valid, &found);
    statements(&mut changes, &valid, &found, view.as_ref());
    for wanted in build::children(&valid).objects() {
        child(&mut changes, ctx, &namespace, &wanted).await;
    }
    ctx.kafka.finish().await;
    Ok(changes)
}

/// Kafka's part, and what it looks like now.
fn outside(changes: &mut Changes, valid: &ValidatedPipeline, found: &Found) -> Option<ClusterView> {
    let (_, view) = match &found.kafka {
        Ok(found) => found,
        Err(error) => {
            changes
                .notes
                .push(format!("Kafka is not shown: {}", error.advice()));
            return None;
        }
    };
    let plan = topic_plan::plan(valid, view, &found.record.topics, &found.claims, &found.strimzi);
    changes.topics(&plan, view);
    let mut after = ClusterView::clone(view);
    // Statements are shown as they would be sent once the topics are there.
    for step in &plan.steps {
        for action in &step.actions {
            if let topic_plan::TopicAction::Create(spec) = action {
                let live = crate::kafka::LiveTopic {
                    partitions: spec.partitions,
                    replication_factor: spec.replication_factor.unwrap_or(1),
                    config: spec.config.clone().into(),
                    ..Default::default()
                };
                after.topics.insert(spec.name.clone(), live);
            }
        }
    }
    plan.refused.is_none().then_some(after)
}

fn statements(changes: &mut Changes, valid: &ValidatedPipeline, found: &Found, view: Option<&ClusterView>) {
    let nothing = DesiredKsqldb::default();
    let wanted = valid.ksqldb.as_ref().unwrap_or(&nothing);
    let empty = Listing::default();
    let listing = match &found.ksqldb {
        None => return,
        Some(Ok((_, listing))) => listing,
        Some(Err(error)) => {
            let sentence = format!("ksqlDB is shown as if it were empty: {}", error.advice());
            changes.notes.push(sentence);
            &empty
        }
    };
    let live = view.map(|view| view.topics.clone()).unwrap_or_default();
    let plan = statement_plan::plan(wanted, &valid.topics, &live, &found.record, listing);
    let removed = statement_plan::removed(&found.record, &plan, valid.delete_by_default);
    changes.statements(&plan, &removed, listing);
}

async fn child(changes: &mut Changes, ctx: &Context, namespace: &str, wanted: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (name, kind, version) = (
        text(&wanted["metadata"]["name"]),
        text(&wanted["kind"]),
        text(&wanted["apiVersion"]),
    );
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let gvk = GroupVersionKind::gvk(group, version, &kind);
    let own = group.is_empty() || !group.contains('.') || group.ends_with(".k8s.io");
    // What others install may not be there; the gateway's group looks like Kubernetes' own.
    let known = if own && group != "gateway.networking.k8s.io" {
        Some(ApiResource::from_gvk(&gvk))
    } else {
        ctx.discovered.get(&ctx.client, &gvk, ctx.resync).await
    };
    let Some(resource) = known else {
        let sentence = format!("{kind} {name} is not made: its kind is not installed");
        return changes.notes.push(sentence);
    };
    let api: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), namespace, &resource);
    let live = match deadline::within(deadline::KUBERNETES, api.get_opt(&name)).await {
        Ok(Ok(live)) => live.and_then(|live| serde_json::to_value(live).ok()),
        Ok(Err(error)) => return changes.notes.push(format!("{kind} {name} is not shown: {error}")),
        Err(error) => return changes.notes.push(format!("{kind} {name} is not shown: {error}")),
    };
    changes.child(&kind, &name, live.as_ref(), wanted);
}
