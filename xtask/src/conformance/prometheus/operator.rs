//! The Prometheus operator as a process of this machine, and what it writes for a Prometheus.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::super::cluster::{Cluster, NAMESPACE, OPERATOR};
use crate::command::Cmd;
use crate::demo::PIPELINE;
use crate::kubectl::{Poll, write_private};
use crate::paths::{Paths, write};
use crate::progress::Steps;
use crate::stack::process::Daemon;
use crate::tools::catalog::{PROMETHEUS_OPERATOR, PROMETHEUS_OPERATOR_CRDS};

/// The namespace of the Prometheus object.
const MONITORING: &str = "monitoring";
/// Its name.
const NAME: &str = "check";
/// Where a Prometheus pod has its rules.
const RULES_IN_POD: &str = "/etc/prometheus/rules/prometheus-check-rulefiles-0";

/// What the Prometheus operator wrote, as files.
pub(super) struct Written {
    /// Prometheus' configuration.
    pub config: PathBuf,
}

/// Installs the CRDs, starts the operator, and declares a Prometheus that takes every ServiceMonitor and every rule.
pub(super) fn start(cluster: &Cluster, prometheus: &Path, steps: &mut Steps) -> Result<()> {
    let paths = Paths::from_env()?;
    let program = PROMETHEUS_OPERATOR.ensure(&paths, steps)?;
    let kubectl = &cluster.place.kubectl;
    steps.run("CRDs of the Prometheus operator", |_| {
        kubectl
            .cmd("apply --server-side --force-conflicts -f")
            .arg(PROMETHEUS_OPERATOR.kept(&paths, PROMETHEUS_OPERATOR_CRDS))
            .run()?;
        kubectl.crds_established()
    })?;
    let run = &cluster.stack()?.run;
    steps.run("the Prometheus operator, and a Prometheus", |_| {
        let mut daemon = Daemon::new("prometheus-operator", program).args([
            "--web.listen-address=127.0.0.1:9491",
            // Nothing here has a kubelet's certificates to scrape with.
            "--kubelet-endpoints=false",
        ]);
        let kubeconfig = cluster.stack()?.kubeconfig.display().to_string();
        daemon.env.push(("KUBECONFIG".to_owned(), kubeconfig));
        run.processes().start(&daemon)?;
        let version = Cmd::new(prometheus).arg("--version").output()?;
        let version = version_of(&format!("{}{}", version.stdout, version.stderr))?;
        let config = kubectl.json("config view --raw")?;
        let server = config["clusters"][0]["cluster"]["server"]
            .as_str()
            .context("a kubeconfig without a server")?;
        let objects = objects(
            &version,
            server,
            &run.path("prometheus/token"),
            &run.path("pki/ca.crt"),
        );
        std::fs::create_dir_all(run.dir().join("prometheus"))?;
        kubectl.apply_text(&objects.to_string(), &run.dir().join("prometheus/objects.json"))?;
        let token = kubectl.run(&format!("create token prometheus -n {MONITORING} --duration=8h"))?;
        write_private(&run.dir().join("prometheus/token"), token.trim().as_bytes())
    })
}

/// A Prometheus with only the rights that the Prometheus operator's documentation gives one. It has no pods, because its
/// image is in no package registry: the process of this machine stands in for them, with the same configuration.
fn objects(version: &str, server: &str, token: &str, ca: &str) -> Value {
    let name = json!({"name": "prometheus", "namespace": MONITORING});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MONITORING}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": name},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "prometheus"}, "rules": [
            {"apiGroups": [""], "resources": ["services", "endpoints", "pods"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
        ]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "prometheus"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "prometheus"},
         "subjects": [{"kind": "ServiceAccount", "name": "prometheus", "namespace": MONITORING}]},
        {"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "metadata": {"name": NAME, "namespace": MONITORING},
         "spec": {
            "replicas": 0,
            "version": format!("v{version}"),
            "serviceAccountName": "prometheus",
            "scrapeInterval": "15s",
            "evaluationInterval": "15s",
            "serviceMonitorSelector": {}, "serviceMonitorNamespaceSelector": {},
            "ruleSelector": {}, "ruleNamespaceSelector": {},
            "apiserverConfig": {
                "host": server,
                "authorization": {"credentialsFile": token},
                "tlsConfig": {"caFile": ca},
            },
         }},
    ]})
}

/// Waits until the configuration speaks of both ServiceMonitors and the rules are there, and writes it for Prometheus.
pub(super) fn written(cluster: &Cluster) -> Result<Written> {
    let kubectl = &cluster.place.kubectl;
    let dir = cluster.stack()?.run.dir().join("prometheus");
    let jobs = [
        format!("serviceMonitor/default/{PIPELINE}/0"),
        format!("serviceMonitor/{NAMESPACE}/{OPERATOR}/0"),
    ];
    kubectl.until("the configuration", Duration::from_secs(90), || {
        kubectl.write_secret(&format!("prometheus-{NAME} -n {MONITORING}"), &dir.join("secret"))?;
        let config = Cmd::new("gzip")
            .args(["-dc"])
            .arg(dir.join("secret/prometheus.yaml.gz"))
            .run()?;
        if let Some(missing) = jobs.iter().find(|job| !config.contains(*job)) {
            return Ok(Poll::Waiting(format!("no job {missing}")));
        }
        let rules = kubectl.json(&format!(
            "get configmap prometheus-{NAME}-rulefiles-0 -n {MONITORING}"
        ))?;
        let files = rules["data"].as_object().filter(|files| !files.is_empty());
        let Some(files) = files else {
            return Ok(Poll::Waiting("no rules".to_owned()));
        };
        for (file, text) in files {
            write(&dir.join("rules").join(file), text.as_str().unwrap_or_default())?;
        }
        ensure!(
            config.contains(RULES_IN_POD),
            "the configuration names no rule files:\n{config}"
        );
        // What the configuration reloader of a pod puts in.
        let config = config
            .replace(RULES_IN_POD, &dir.join("rules").display().to_string())
            .replace("$(SHARD)", "0")
            .replace("$(POD_NAME)", "prometheus-check-0");
        let file = dir.join("prometheus.yaml");
        write(&file, &config)?;
        for job in &jobs {
            println!("ok: job {job}");
        }
        println!(
            "ok: rules {}",
            files.keys().cloned().collect::<Vec<_>>().join(", ")
        );
        Ok(Poll::Done(Written { config: file }))
    })
}

/// `prometheus, version 2.42.0+ds (branch: …`
fn version_of(printed: &str) -> Result<String> {
    let rest = printed
        .split_once("version ")
        .context("prometheus does not say its version")?
        .1;
    Ok(rest.split([' ', '+']).next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_addition_to_the_version_is_left_out() {
        assert_eq!(
            version_of("prometheus, version 2.42.0+ds (branch: x)").expect("a version"),
            "2.42.0"
        );
        assert!(version_of("?").is_err());
    }
}
