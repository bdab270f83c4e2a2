//! `plan`: what a reconcile would do outside Kubernetes, without doing it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, ResourceExt as _};
use recommendation_api::names::Children;
use recommendation_api::pipeline::RecommendationPipeline;

use crate::apply::record::AppliedRecord;
use crate::build::configmap::APPLIED_KEY;
use crate::build::statement_plan::{self, StatementAction};
use crate::build::topic_plan::{self, TopicAction};
use crate::deadline;
use crate::kafka::{Admin, ClusterView, Connection};
use crate::ksqldb::{KsqlClient, Listing};
use crate::validate::{self, References, Settings, ValidatedPipeline};

/// A cluster that does not answer by then has no say.
const CLUSTER: Duration = Duration::from_secs(5);

pub(super) async fn run(file: &Path, namespace: Option<&str>) -> anyhow::Result<()> {
    let mut pipeline = super::validate::read(file)?;
    if let Some(namespace) = namespace {
        pipeline.metadata.namespace = Some(namespace.to_owned());
    }
    let record = match record(&pipeline).await {
        Some(record) => record,
        None => {
            println!("# no record of an earlier apply was found: what exists counts as somebody else's");
            AppliedRecord::default()
        }
    };
    let valid = validate::validate(&pipeline, &References::default(), &Settings::default())?;
    for field in &valid.unsupported {
        println!("ignore {field}: this version does not act on it");
    }
    let names: BTreeSet<String> = valid.topics.iter().map(|topic| topic.name.clone()).collect();
    let view = Admin::new(&Connection::plain(&valid.bootstrap_servers))?
        .observe(&names)
        .await?;
    topics(&valid, &view, &record);
    statements(&valid, &view, &record).await
}

fn topics(valid: &ValidatedPipeline, view: &ClusterView, record: &AppliedRecord) {
    let plan = topic_plan::plan(valid, view, &record.topics, &BTreeMap::new(), &BTreeSet::new());
    if let Some(refusal) = plan.refused {
        println!("refuse everything on Kafka: {}", refusal.message);
    }
    for step in plan.steps {
        let name = &step.name;
        if step.actions.is_empty() && step.refusal.is_none() {
            println!("leave  topic {name} ({:?})", step.origin);
        }
        for action in step.actions {
            match action {
                TopicAction::Create(spec) => {
                    let replicas = spec
                        .replication_factor
                        .map_or("the broker's".to_owned(), |n| n.to_string());
                    println!(
                        "create topic {name}: {} partitions, {replicas} replicas, {:?}",
                        spec.partitions, spec.config
                    );
                }
                TopicAction::Grow(total) => println!("grow   topic {name} to {total} partitions"),
                TopicAction::Configure(config) => println!("alter  topic {name}: {config:?}"),
            }
        }
        if let Some(refusal) = step.refusal {
            println!("refuse topic {name}: {} ({})", refusal.message, refusal.reason);
        }
        if let Some(note) = step.note {
            println!("note   {note}");
        }
    }
}

async fn statements(
    valid: &ValidatedPipeline,
    view: &ClusterView,
    record: &AppliedRecord,
) -> anyhow::Result<()> {
    let Some(ksqldb) = &valid.ksqldb else {
        return Ok(());
    };
    let listing = if ksqldb.credentials.is_some() {
        println!("# ksqlDB asks for credentials, which only the operator has: shown as if it were empty");
        Listing::default()
    } else {
        KsqlClient::new(reqwest::Client::new(), &ksqldb.endpoint, None)
            .listing()
            .await?
    };
    for step in statement_plan::plan(ksqldb, &valid.topics, &view.topics, record, &listing) {
        match step.action {
            StatementAction::Create(sql) => println!("create statement {}:\n{sql}", step.name),
            StatementAction::Replace(sql) => println!("replace statement {}:\n{sql}", step.name),
            StatementAction::Recreate => println!("drop and make again: statement {}", step.name),
            StatementAction::Leave(_) => println!("leave  statement {}", step.name),
            StatementAction::Refuse(refusal) => println!("refuse {} ({})", refusal.message, refusal.reason),
        }
    }
    Ok(())
}

/// What an operator recorded, where a cluster can be asked.
async fn record(pipeline: &RecommendationPipeline) -> Option<AppliedRecord> {
    let client = Client::try_default().await.ok()?;
    let namespace = pipeline
        .namespace()
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let name = Children(&pipeline.name_any()).applied();
    let found = deadline::within(CLUSTER, api.get_opt(&name)).await.ok()?.ok()??;
    serde_json::from_str(found.data?.get(APPLIED_KEY)?).ok()
}
