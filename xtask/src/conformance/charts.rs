//! The charts by the ecosystem's own tools: `helm lint`, helm-unittest, helm-docs, and kubeconform with the schemas of a
//! running API server.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::with_stack;
use crate::command::Cmd;
use crate::kubectl::{Kubectl, Poll};
use crate::paths::{KUBERNETES_VERSION, Paths};
use crate::progress::Steps;
use crate::release;
use crate::tools::catalog;

/// The charts, each with values that it needs to render.
pub(super) const CHARTS: [(&str, &[&str]); 3] = [
    ("recommendation-operator", &[]),
    ("recommendation-operator-crds", &[]),
    (
        "recommendation-pipeline",
        &["--set", "spec.kafka.bootstrapServers={kafka:9092}"],
    ),
];

/// Values that switch on what is off by default, so that every template is rendered once.
const EVERYTHING: [&str; 6] = [
    "--set",
    "metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true,metrics.dashboard.enabled=true",
    "--set",
    "watchNamespaces={a,b}",
    "--set",
    "extraObjects[0].apiVersion=v1,extraObjects[0].kind=ConfigMap,extraObjects[0].metadata.name=extra",
];

pub(super) fn dir(chart: &str) -> PathBuf {
    release::workspace().join("charts").join(chart)
}

/// Checks the charts.
pub(super) fn run(steps: &mut Steps) -> Result<()> {
    let paths = Paths::from_env()?;
    let helm = catalog::HELM.ensure(&paths, steps)?;
    let unittest = catalog::HELM_UNITTEST.ensure(&paths, steps)?;
    let docs = catalog::HELM_DOCS.ensure(&paths, steps)?;
    let kubeconform = catalog::KUBECONFORM.ensure(&paths, steps)?;
    for (chart, values) in CHARTS {
        steps.run(&format!("helm lint {chart}"), |_| {
            Cmd::new(&helm)
                .args(["lint", "--strict"])
                .arg(dir(chart))
                .args(values)
                .run()
        })?;
    }
    steps.run("a misspelt value is refused", |_| refuses_misspelt(&helm))?;
    let said = steps.run("helm-unittest", |_| {
        Cmd::new(&unittest)
            .args(["--strict", "--color=false"])
            .arg(dir("recommendation-operator"))
            .run()
    })?;
    print!("{said}");
    steps.run("chart READMEs are current", |_| readmes(&docs))?;
    with_stack(false, false, steps, |stack, steps| {
        let kubectl = Kubectl::new(&stack.kubectl, Some(stack.kubeconfig.clone()));
        kubectl
            .cmd("apply --server-side -f")
            .arg(release::workspace().join("crds"))
            .run()?;
        kubectl.crds_established()?;
        let schemas = stack.run.dir().join("schemas");
        let kinds = steps.run("Schemas of the running API server", |_| {
            write_schemas(&kubectl, &schemas)
        })?;
        let said = steps.run("kubeconform", |_| {
            conform(&helm, &kubeconform, &schemas, stack.run.dir())
        })?;
        println!("{kinds} kinds known to the API server\n{said}");
        Ok(())
    })
}

fn refuses_misspelt(helm: &Path) -> Result<()> {
    let output = Cmd::new(helm)
        .args(["template", "x", "--set", "replicaCuont=3"])
        .arg(dir("recommendation-operator"))
        .output()?;
    ensure!(
        !output.status.success() && output.stderr.contains("replicaCuont"),
        "the schema let a misspelt value through: {}",
        output.stderr
    );
    Ok(())
}

/// helm-docs writes into the folder that it reads, so it gets a copy.
fn readmes(docs: &Path) -> Result<()> {
    let copy = tempfile::tempdir()?;
    for (chart, _) in CHARTS {
        let from = dir(chart);
        let to = copy.path().join(chart);
        std::fs::create_dir_all(&to)?;
        for file in ["Chart.yaml", "values.yaml", "README.md.gotmpl"] {
            if from.join(file).exists() {
                std::fs::copy(from.join(file), to.join(file))?;
            }
        }
        Cmd::new(docs)
            .args([
                "--skip-version-footer",
                "--sort-values-order=file",
                "--chart-search-root",
            ])
            .arg(&to)
            .run()?;
        let made = std::fs::read_to_string(to.join("README.md"))?;
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(from.join("README.md"), &made)?;
        }
        let there = std::fs::read_to_string(from.join("README.md")).unwrap_or_default();
        ensure!(
            made == there,
            "charts/{chart}/README.md is not what its values say: `UPDATE=1 cargo xtask conformance charts` writes it"
        );
    }
    Ok(())
}

/// One JSON schema for each kind that the API server serves, as kubeconform looks them up: the OpenAPI document of its
/// group with a reference to the kind on top.
fn write_schemas(kubectl: &Kubectl, into: &Path) -> Result<usize> {
    std::fs::create_dir_all(into)?;
    // A CRD is Established some seconds before its schema is published.
    let documents = kubectl.until("our kind in /openapi/v3", Duration::from_secs(60), || {
        let index: Value = serde_json::from_str(&kubectl.run("get --raw /openapi/v3")?)?;
        Ok(match index["paths"].as_object() {
            Some(paths) if paths.contains_key("apis/recommendation.dev/v1alpha1") => {
                Poll::Done(paths.clone())
            }
            _ => Poll::Waiting("not published yet".to_owned()),
        })
    })?;
    let mut kinds = BTreeSet::new();
    for (path, entry) in &documents {
        if !path.starts_with("api/") && !path.starts_with("apis/") {
            continue;
        }
        let url = entry["serverRelativeURL"]
            .as_str()
            .context("a document without an address")?;
        let text = kubectl
            .cmd("get --raw")
            .arg(url)
            .timeout(Duration::from_secs(60))
            .run()?;
        let document: Value = serde_json::from_str(&text).with_context(|| path.clone())?;
        let Some(schemas) = document["components"]["schemas"].as_object() else {
            continue;
        };
        let document_file = format!("_{}", path.replace('/', "_"));
        std::fs::write(into.join(&document_file), &text)?;
        for (name, schema) in schemas {
            for id in schema["x-kubernetes-group-version-kind"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let part = |key: &str| id[key].as_str().unwrap_or_default();
                let group = part("group").split('.').next().unwrap_or_default();
                let of_group = if group.is_empty() {
                    String::new()
                } else {
                    format!("-{group}")
                };
                let file = format!("{}{of_group}-{}.json", part("kind"), part("version")).to_lowercase();
                // One copy of the group's document, which every kind of it points into.
                let schema = json!({"$ref": format!("{document_file}#/components/schemas/{name}")});
                std::fs::write(into.join(&file), schema.to_string())?;
                kinds.insert(file);
            }
        }
    }
    ensure!(
        kinds.len() > 30,
        "the API server described only {} kinds",
        kinds.len()
    );
    Ok(kinds.len())
}

fn conform(helm: &Path, kubeconform: &Path, schemas: &Path, scratch: &Path) -> Result<String> {
    let mut said = String::new();
    let location = format!(
        "{}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json",
        schemas.display()
    );
    let mut check = |name: &str, file: &Path| -> Result<()> {
        let output = Cmd::new(kubeconform)
            .args(["-strict", "-summary", "-schema-location", &location])
            // Served only where the Prometheus operator is installed.
            .args(["-skip", "ServiceMonitor,PrometheusRule"])
            .arg(file)
            .run()?;
        said += &format!("{name}: {output}");
        Ok(())
    };
    for (chart, values) in CHARTS {
        let extra: &[&str] = if chart == "recommendation-operator" {
            &EVERYTHING
        } else {
            &[]
        };
        let rendered = Cmd::new(helm)
            .args([
                "template",
                "release",
                "--namespace",
                "recommendation-system",
                "--kube-version",
                KUBERNETES_VERSION,
            ])
            .arg(dir(chart))
            .args(values)
            .args(extra)
            .run()?;
        let file = scratch.join(format!("{chart}.yaml"));
        std::fs::write(&file, rendered)?;
        check(chart, &file)?;
    }
    for manifest in super::manifests::files()? {
        check(
            &manifest.file_name().unwrap_or_default().to_string_lossy(),
            &manifest,
        )?;
    }
    Ok(said)
}
