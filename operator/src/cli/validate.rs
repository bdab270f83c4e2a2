//! `validate`: what can be said about manifests without a cluster, by the controller's own checks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use kube::ResourceExt as _;
use recommendation_api::pipeline::RecommendationPipeline;
use serde_json::Value;

use crate::apply::record::AppliedRecord;
use crate::build::statement_plan::{self, StatementAction};
use crate::kafka::LiveTopic;
use crate::ksqldb::Listing;
use crate::validate::{self, References, Settings, ValidatedPipeline};

/// It contradicts itself.
const INVALID: u8 = 2;
/// It sets a field that this version does not act on.
const UNSUPPORTED: u8 = 3;

/// What can be said of one manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Verdict {
    /// Fields that contradict each other or are out of range, with what to do.
    invalid: Vec<String>,
    /// Fields that this version does not act on.
    unsupported: Vec<String>,
    /// What to know.
    notes: Vec<String>,
}

/// Reads the one pipeline of a file; `-` is standard input.
pub(super) fn read(file: &Path) -> anyhow::Result<RecommendationPipeline> {
    let mut all = read_all(file)?;
    ensure!(
        all.len() == 1,
        "{} holds {} pipelines: give one",
        shown(file),
        all.len()
    );
    Ok(all.remove(0))
}

/// Reads every pipeline of a file; other kinds are passed over.
fn read_all(file: &Path) -> anyhow::Result<Vec<RecommendationPipeline>> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        text
    } else {
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
    };
    pipelines(&text).with_context(|| format!("in {}", shown(file)))
}

fn pipelines(text: &str) -> anyhow::Result<Vec<RecommendationPipeline>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("this is no YAML")?;
    let mut found = Vec::new();
    for document in documents {
        if document["kind"] != "RecommendationPipeline" {
            continue;
        }
        let name = document["metadata"]["name"]
            .as_str()
            .unwrap_or("without a name")
            .to_owned();
        let written = document["spec"].clone();
        let mut pipeline: RecommendationPipeline =
            serde_json::from_value(document).with_context(|| format!("pipeline {name} cannot be read"))?;
        let mut strangers = Vec::new();
        let read = serde_json::to_value(&pipeline.spec)?;
        unknown("spec", &written, &read, &mut strangers);
        ensure!(
            strangers.is_empty(),
            "pipeline {name} has fields that do not exist: {}",
            strangers.join(", ")
        );
        // Only an API server gives these.
        pipeline.metadata.uid.get_or_insert_with(String::new);
        found.push(pipeline);
    }
    ensure!(!found.is_empty(), "there is no RecommendationPipeline");
    Ok(found)
}

/// Paths of what was written and not read: a misspelt field would be dropped by the API server without a word.
fn unknown(path: &str, written: &Value, read: &Value, found: &mut Vec<String>) {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => {
            for (key, value) in written {
                let path = format!("{path}.{key}");
                match read.get(key) {
                    Some(read) => unknown(&path, value, read, found),
                    // What is empty may have been left out.
                    None if value.is_null() || value.as_array().is_some_and(Vec::is_empty) => {}
                    None if value.as_object().is_some_and(serde_json::Map::is_empty) => {}
                    None => found.push(path),
                }
            }
        }
        (Value::Array(written), Value::Array(read)) => {
            for (i, (written, read)) in written.iter().zip(read).enumerate() {
                unknown(&format!("{path}[{i}]"), written, read, found);
            }
        }
        _ => {}
    }
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    }
}

pub(super) fn run(file: &Path) -> anyhow::Result<ExitCode> {
    let mut code = 0;
    for pipeline in read_all(file)? {
        let name = pipeline.name_any();
        let verdict = check(pipeline);
        for problem in &verdict.invalid {
            eprintln!("{name}: invalid: {problem}");
        }
        for field in &verdict.unsupported {
            eprintln!("{name}: {field}: this version does not act on it");
        }
        for note in &verdict.notes {
            println!("{name}: {note}");
        }
        code = match (verdict.invalid.is_empty(), verdict.unsupported.is_empty()) {
            (false, _) => INVALID,
            (true, false) if code == 0 => UNSUPPORTED,
            _ => code,
        };
    }
    Ok(ExitCode::from(code))
}

fn check(mut pipeline: RecommendationPipeline) -> Verdict {
    let mut verdict = Verdict::default();
    let (secrets, config_maps) = validate::referenced(&pipeline);
    if !config_maps.is_empty() {
        verdict.notes.push(format!(
            "not checked: the statements in ConfigMaps {}, which a cluster holds",
            listed(&config_maps)
        ));
        if let Some(ksqldb) = pipeline.spec.ksqldb.as_mut() {
            ksqldb.statements_from = None;
            ksqldb.statements.get_or_insert_default();
        }
    }
    let valid = match validate::validate(&pipeline, &References::default(), &Settings::default()) {
        Ok(valid) => valid,
        Err(error) => {
            verdict.invalid.push(error.to_string());
            return verdict;
        }
    };
    verdict.invalid.extend(statements(&valid));
    verdict.unsupported.clone_from(&valid.unsupported);
    if verdict.invalid.is_empty() && verdict.unsupported.is_empty() {
        let (topics, image) = (valid.topics.len(), &valid.workload.image);
        verdict
            .notes
            .push(format!("valid, {topics} topics, image {image}"));
    }
    if !secrets.is_empty() {
        verdict
            .notes
            .push(format!("needs the Secrets {}", listed(&secrets)));
    }
    let recommender = pipeline.spec.recommender.as_ref();
    if recommender.is_none_or(|r| r.replicas.is_none() && r.autoscaling.is_none()) {
        let sentence =
            "an autoscaler of your own needs spec.recommender.replicas set once (the scale subresource)";
        verdict.notes.push(sentence.to_owned());
    }
    verdict
}

/// Statements that the controller would not send, by the fields that they come from.
fn statements(valid: &ValidatedPipeline) -> Vec<String> {
    let Some(ksqldb) = &valid.ksqldb else {
        return Vec::new();
    };
    // As if every topic were there: their shapes are variables.
    let live: BTreeMap<String, LiveTopic> = valid
        .topics
        .iter()
        .map(|topic| (topic.name.clone(), LiveTopic::default()))
        .collect();
    let (record, listing) = (AppliedRecord::default(), Listing::default());
    let plan = statement_plan::plan(ksqldb, &valid.topics, &live, &record, &listing);
    let refused = plan.into_iter().filter_map(|step| match step.action {
        StatementAction::Refuse(refusal) => {
            let from = ksqldb
                .statements
                .iter()
                .find(|statement| statement.name == step.name);
            let path = from.map_or("spec.ksqldb.statements", |statement| statement.path.as_str());
            Some(format!("{path}: {}", refusal.message))
        }
        _ => None,
    });
    refused.collect()
}

fn listed(names: &BTreeSet<String>) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::pipeline;

    #[test]
    fn several_documents_are_read_and_other_kinds_passed_over() {
        let one = |name: &str| {
            format!(
                "apiVersion: recommendation.dev/v1alpha1\nkind: RecommendationPipeline\nmetadata: {{name: {name}}}\n\
                 spec: {{kafka: {{bootstrapServers: ['k:1']}}}}\n"
            )
        };
        let text = format!("{}---\nkind: ConfigMap\n---\n{}", one("a"), one("b"));
        let names: Vec<String> = pipelines(&text)
            .unwrap()
            .iter()
            .map(|pipeline| pipeline.name_any())
            .collect();
        assert_eq!(names, ["a", "b"]);
        let none = pipelines("kind: ConfigMap").unwrap_err();
        assert!(none.to_string().contains("no RecommendationPipeline"), "{none}");
        let misspelt = one("a").replace("bootstrapServers", "bootstrap");
        let error = format!("{:#}", pipelines(&misspelt).unwrap_err());
        assert!(
            error.contains("pipeline a") && error.contains("bootstrapServers"),
            "{error}"
        );
        let stranger = one("a").replace("['k:1']", "['k:1'], clusterid: x");
        let error = format!("{:#}", pipelines(&stranger).unwrap_err());
        assert!(error.contains("spec.kafka.clusterid"), "{error}");
    }

    #[test]
    fn what_the_controller_would_refuse_is_named_by_its_field() {
        let checked = |spec: &str| check(pipeline(spec));
        assert!(checked("{kafka: {bootstrapServers: ['k:1']}}").invalid.is_empty());
        let twice = checked(
            "{kafka: {bootstrapServers: ['k:1']}, topics: [{name: a, role: Events}, {name: b, role: Events}]}",
        );
        assert!(twice.invalid[0].starts_with("spec.topics[1].role"), "{twice:?}");
        let mtls = checked(
            "{kafka: {bootstrapServers: ['k:1'], authentication: {type: Mtls, secretRef: {name: u}}}}",
        );
        assert!(
            mtls.invalid[0].starts_with("spec.kafka.authentication.type"),
            "{mtls:?}"
        );
        let sql = checked(
            "{kafka: {bootstrapServers: ['k:1']}, ksqldb: {endpoint: 'http://q:1', statements: [{name: x, sql: 'CREATE STREAM ${nope} (a INT);'}, {name: y, sql: 'INSERT INTO a SELECT * FROM b;'}]}}",
        );
        assert!(
            sql.invalid[0].starts_with("spec.ksqldb.statements[0].sql"),
            "{sql:?}"
        );
        assert!(sql.invalid[0].contains("${nope}"), "{sql:?}");
        assert!(sql.invalid[1].contains("QUERY_ID"), "{sql:?}");
        let secured = checked(
            "{kafka: {bootstrapServers: ['k:1'], tls: {caSecretRef: {name: ca}}, authentication: {type: Plain, secretRef: {name: u}}}}",
        );
        assert!(
            secured.notes.iter().any(|note| note == "needs the Secrets ca, u"),
            "{secured:?}"
        );
    }
}
