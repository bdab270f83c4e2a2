//! Monitoring as a cluster's own tools take it: the Prometheus operator writes a configuration from our ServiceMonitors
//! and PrometheusRule, a Prometheus scrapes and evaluates by it, and every query of every dashboard has an answer.

mod client;
mod dashboards;
mod discovery;
mod operator;
mod traffic;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use self::client::Prometheus;
use self::dashboards::Query;
use self::operator::Written;
use super::cluster::{Cluster, NAMESPACE, OPERATOR, on_node};
use crate::api::Api;
use crate::command::{Cmd, find};
use crate::demo::{PIPELINE, replay, wait_ready};
use crate::kubectl::{Poll, condition};
use crate::machine::{self, Consent, Wanted};
use crate::paths::{Paths, write};
use crate::progress::{Progress, Steps};
use crate::release;
use crate::stack::process::Daemon;
use crate::tools::catalog::PROMETHEUS_OPERATOR;

/// The port of this suite's Prometheus.
const PORT: u16 = 9490;
/// As long as a dashboard may take to fill: rates need two scrapes, and some of what is shown happens rarely.
const FILLED: Duration = Duration::from_secs(240);
/// Steps of a second at which a round of queries follows a round of traffic.
const ROUND: Duration = Duration::from_secs(10);

/// Reasons that only say that this machine is busy: a year of events takes it longer than `quality.maxLagSeconds`.
const PASSING: [&str; 1] = ["Stale"];

/// Runs the suite.
pub(super) fn run(yes: bool, keep: bool, steps: &mut Steps) -> Result<()> {
    let wanted = Wanted {
        prometheus: true,
        ..Wanted::default()
    };
    machine::prepare_for(&wanted, Consent::from_flag(yes), steps)?;
    // Before the servers: the first time it takes minutes, in which they would only stand around.
    PROMETHEUS_OPERATOR.ensure(&Paths::from_env()?, steps)?;
    let program = find("prometheus").context("prometheus is needed: `apt-get install prometheus`")?;
    on_node(yes, keep, steps, |cluster, steps| {
        operator::start(cluster, &program, steps)?;
        cluster.install_operator(
            "--set metrics.serviceMonitor.enabled=true --set metrics.prometheusRule.enabled=true \
             --set metrics.dashboard.enabled=true",
            steps,
        )?;
        cluster.place.apply_pipeline(steps)?;
        wait_ready(&cluster.place, steps)?;
        steps.run("ServiceMonitor, PrometheusRule and dashboard applied", |_| {
            applied(cluster)
        })?;
        let written = steps.run("the Prometheus operator writes a configuration", |_| {
            operator::written(cluster)
        })?;
        let prometheus = steps.run("Prometheus starts with it", |_| {
            start(cluster, &program, &written)
        })?;
        let api = cluster.place.connect(steps)?;
        replay::feed(&cluster.place, steps)?;
        replay::wait_learned(&cluster.place, steps)?;
        steps.run("every target is up", |_| targets_up(cluster, &prometheus))?;
        steps.run("every rule is evaluated", |_| {
            rules_evaluated(cluster, &prometheus)
        })?;
        steps.run("a malformed record", |_| traffic::malformed_record(cluster))?;
        steps.run("every query of every dashboard has data", |progress| {
            dashboards_have_data(cluster, &api, &prometheus, progress)
        })?;
        cluster.no_warnings(&PASSING)
    })
}

/// The monitoring objects as the API server took them, by the schemas of their own CRDs.
fn applied(cluster: &Cluster) -> Result<()> {
    let kubectl = &cluster.place.kubectl;
    kubectl.until("MonitoringReady", Duration::from_secs(30), || {
        let object = kubectl.json(&format!("get recpipe {PIPELINE}"))?;
        Ok(match condition(&object, "MonitoringReady") {
            Some(("True", "Applied", message)) => {
                println!("ok: MonitoringReady, {message}");
                Poll::Done(())
            }
            other => Poll::Waiting(format!("{other:?}")),
        })
    })?;
    cluster.no_warnings(&PASSING)?;
    println!("ok: no Event of type Warning about what was applied");
    Ok(())
}

/// Starts Prometheus with what the Prometheus operator wrote, as its pod would.
fn start(cluster: &Cluster, program: &Path, written: &Written) -> Result<Prometheus> {
    let promtool = find("promtool").context("promtool is needed: `apt-get install prometheus`")?;
    let check = || {
        Cmd::new(&promtool)
            .args(["check", "config"])
            .arg(&written.config)
            .output()
    };
    let mut checked = check()?;
    if checked.stderr.contains("kubernetes_sd_configs not found") {
        println!(
            "this Prometheus was built without discovery of Kubernetes: its targets come from files instead"
        );
        let dir = written.config.parent().context("a file in a folder")?;
        let text = std::fs::read_to_string(&written.config)?;
        let config = discovery::from_files(&text, &cluster.place.kubectl, dir)?;
        write(&written.config, &config)?;
        checked = check()?;
    }
    ensure!(
        checked.status.success(),
        "promtool check config: {}",
        checked.stderr
    );
    println!("ok: promtool check config");
    let run = &cluster.stack()?.run;
    let daemon = Daemon::new("prometheus", program).args([
        format!("--config.file={}", written.config.display()),
        format!("--storage.tsdb.path={}", run.path("prometheus/data")),
        format!("--web.listen-address=127.0.0.1:{PORT}"),
    ]);
    let processes = run.processes();
    processes.start(&daemon)?;
    let prometheus = Prometheus::new(PORT);
    processes.wait_ready("prometheus", Duration::from_secs(60), || prometheus.is_ready())?;
    Ok(prometheus)
}

/// Both replicas and the operator are scraped.
fn targets_up(cluster: &Cluster, prometheus: &Prometheus) -> Result<()> {
    let operators = cluster.place.kubectl.json(&format!(
        "get pods -n {NAMESPACE} -l app.kubernetes.io/name={OPERATOR}"
    ))?;
    let operators = operators["items"].as_array().map_or(0, Vec::len);
    let wanted: BTreeMap<&str, usize> =
        [(PIPELINE, cluster.place.pods()?.len()), (OPERATOR, operators)].into();
    cluster
        .place
        .kubectl
        .until("all targets", Duration::from_secs(90), || {
            let targets = prometheus.targets()?;
            let mut up: BTreeMap<&str, usize> = BTreeMap::new();
            for target in &targets {
                if target["health"] != "up" {
                    return Ok(Poll::Waiting(format!(
                        "{} is {}: {}",
                        target["scrapeUrl"], target["health"], target["lastError"]
                    )));
                }
                let pool = target["scrapePool"].as_str().unwrap_or_default();
                for name in wanted.keys() {
                    if pool.split('/').any(|part| part == *name) {
                        *up.entry(name).or_default() += 1;
                    }
                }
            }
            if up != wanted {
                return Ok(Poll::Waiting(format!("up: {up:?}, wanted: {wanted:?}")));
            }
            for target in &targets {
                println!("ok: {} {} is up", target["scrapePool"], target["scrapeUrl"]);
            }
            Ok(Poll::Done(()))
        })
}

/// Sends what a shop sends until each query of each dashboard has been answered with a number.
fn dashboards_have_data(
    cluster: &Cluster,
    api: &Api,
    prometheus: &Prometheus,
    progress: &Progress,
) -> Result<()> {
    let mut open = queries(cluster, prometheus)?;
    let total = open.len();
    ensure!(total > 0, "no dashboard has a query");
    let begun = Instant::now();
    while !open.is_empty() {
        ensure!(
            begun.elapsed() < FILLED,
            "no data within {} s for:\n{}",
            FILLED.as_secs(),
            open.iter().map(Query::to_string).collect::<Vec<_>>().join("\n")
        );
        traffic::round(cluster, api, ROUND)?;
        let mut without = Vec::new();
        for query in open {
            match prometheus.series_with_data(&query.expr)? {
                0 => without.push(query),
                series => println!("ok: {} / {}: {series} series", query.dashboard, query.panel),
            }
        }
        open = without;
        progress.message(format!("{} of {total} have data", total - open.len()));
    }
    println!("{total} queries, none without data");
    Ok(())
}

/// The dashboards as Grafana's sidecar would find them in the cluster, and those to import by hand.
fn queries(cluster: &Cluster, prometheus: &Prometheus) -> Result<Vec<Query>> {
    let found = cluster
        .place
        .kubectl
        .json("get configmaps -A -l grafana_dashboard=1")?;
    let mut texts: Vec<String> = found["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|map| map["data"].as_object())
        .flat_map(|data| data.values())
        .filter_map(|text| text.as_str().map(str::to_owned))
        .collect();
    ensure!(
        texts.len() == 2,
        "{} dashboards in the cluster: expected the pipeline's and the operator's",
        texts.len()
    );
    let folder = release::workspace().join("manifests/grafana");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    for file in files {
        texts.push(std::fs::read_to_string(&file).with_context(|| file.display().to_string())?);
    }
    let mut all = Vec::new();
    for text in &texts {
        let dashboard: Value = serde_json::from_str(text).context("a dashboard that is not JSON")?;
        all.extend(dashboards::queries(&dashboard, |selector, label| {
            prometheus.label_values(selector, label)
        })?);
    }
    Ok(all)
}

/// Prometheus evaluates every rule of the PrometheusRule without an error.
fn rules_evaluated(cluster: &Cluster, prometheus: &Prometheus) -> Result<()> {
    let ours = cluster
        .place
        .kubectl
        .json("get prometheusrules.monitoring.coreos.com -A")?;
    let objects = ours["items"].as_array().into_iter().flatten();
    let declared: usize = objects
        .flat_map(|object| object["spec"]["groups"].as_array().into_iter().flatten())
        .filter_map(|group| group["rules"].as_array().map(Vec::len))
        .sum();
    cluster
        .place
        .kubectl
        .until("every rule evaluated", Duration::from_secs(60), || {
            let rules = prometheus.rules()?;
            if rules.len() != declared {
                return Ok(Poll::Waiting(format!("{} of {declared} loaded", rules.len())));
            }
            if let Some(bad) = rules.iter().find(|rule| rule["health"] != "ok") {
                return Ok(Poll::Waiting(format!(
                    "{} is {}: {}",
                    bad["name"], bad["health"], bad["lastError"]
                )));
            }
            for rule in &rules {
                println!(
                    "ok: {} is {}, window {}",
                    rule["name"], rule["state"], rule["labels"]["window"]
                );
            }
            Ok(Poll::Done(()))
        })
}
