//! How many replicas there are as a real HorizontalPodAutoscaler decides it: metrics-server measures pods on a real node,
//! the controller manager raises and lowers the number by that, and the operator, which reconciles all the while, never
//! writes it.

mod load;
mod metrics_server;
mod seen;

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use self::load::Load;
use self::seen::Seen;
use super::cluster::{Cluster, on_node};
use crate::demo::{PIPELINE, wait_ready};
use crate::kubectl::Poll;
use crate::paths::Paths;
use crate::progress::Steps;
use crate::tools::catalog::METRICS_SERVER;

/// The fewest replicas.
const MIN: i64 = 2;
/// The most.
const MAX: i64 = 4;
/// The share of a replica's request of CPU that is aimed at: low, so that little load is enough on any machine.
const TARGET: i64 = 30;
/// Measured every 15 s, decided every 15 s, at most doubled each time.
const UP: Duration = Duration::from_secs(240);
/// The operator's HorizontalPodAutoscaler takes pods away after ten quiet minutes.
const DOWN: Duration = Duration::from_secs(14 * 60);

/// Runs the suite.
pub(super) fn run(yes: bool, keep: bool, steps: &mut Steps) -> Result<()> {
    // Before the servers: the first time it takes minutes, in which they would only stand around.
    let program = METRICS_SERVER.ensure(&Paths::from_env()?, steps)?;
    on_node(yes, keep, steps, |cluster, steps| {
        cluster.install_operator("", steps)?;
        steps.run("metrics-server behind the API server", |_| {
            metrics_server::start(cluster, &program)
        })?;
        cluster.place.apply_pipeline(steps)?;
        wait_ready(&cluster.place, steps)?;
        steps.run("an autoscaler that sees how busy the pods are", |_| {
            cluster.place.kubectl.run(&format!(
                "patch recpipe {PIPELINE} --type merge -p {{\"spec\":{{\"recommender\":{{\"autoscaling\":{{\"minReplicas\":{MIN},\
                 \"maxReplicas\":{MAX},\"targetCPUUtilizationPercentage\":{TARGET}}}}}}}}}"
            ))?;
            measured(cluster)
        })?;
        let api = cluster.place.connect(steps)?;
        let mut seen = Seen::new(cluster)?;
        let load = Load::start(&api);
        steps.run("load: more replicas", |_| seen.until(|n| n > MIN, UP))?;
        let most = steps.run("a change of the pipeline meanwhile", |_| seen.change(MIN, UP))?;
        println!("{}", load.stop());
        // One step down is enough: how far it goes depends on what this machine's idle replicas use.
        steps.run("no load: fewer replicas", |_| seen.until(|n| n < most, DOWN))?;
        seen.judge()
    })
}

/// Waits until the autoscaler has a figure to decide by.
fn measured(cluster: &Cluster) -> Result<()> {
    let kubectl = &cluster.place.kubectl;
    kubectl.until("the autoscaler's figure", Duration::from_secs(180), || {
        let object = kubectl.json(&format!("get hpa {PIPELINE}"))?;
        let figure = object.pointer("/status/currentMetrics/0/resource/current/averageUtilization");
        Ok(match figure.and_then(Value::as_i64) {
            Some(share) => {
                println!("ok: the pods use {share} % of the CPU that they request");
                Poll::Done(())
            }
            None => Poll::Waiting(object["status"]["conditions"].to_string()),
        })
    })
}
