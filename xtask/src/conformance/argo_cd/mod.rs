//! Our charts, a pipeline and our health script under a real Argo CD: installed from a Git repository, healthy in order of
//! the sync waves, left alone when it should be, healed when it should be, degraded in our words, and pruned.

mod application;
mod repository;
mod servers;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use self::application::Application;
use self::repository::Repository;
use super::cluster::{Cluster, NAMESPACE, OPERATOR, on_node};
use crate::demo::PIPELINE;
use crate::kubectl::{Kubectl, Poll, condition};
use crate::paths::Paths;
use crate::progress::{Steps, seconds};
use crate::stack::kafka_tools;
use crate::tools::catalog::ARGO_CD;

/// For how long an application must stay Synced for it to count as left alone: three of Argo CD's looks.
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// For pods to roll out and models to load on a busy machine.
const ROLLOUT: Duration = Duration::from_secs(240);

/// Runs the suite.
pub(super) fn run(yes: bool, keep: bool, steps: &mut Steps) -> Result<()> {
    // Before the servers: the first time it takes minutes, in which they would only stand around.
    ARGO_CD.ensure(&Paths::from_env()?, steps)?;
    on_node(yes, keep, steps, |cluster, steps| {
        servers::start(cluster, steps)?;
        let repository = steps.run("a Git repository with our charts and a pipeline", |_| {
            Repository::create(cluster)
        })?;
        let application = Application::apply(cluster, &repository)?;
        let kubectl = &cluster.place.kubectl;
        let begun = Instant::now();
        steps.run("the application is Synced and Healthy", |progress| {
            application.until("Synced and Healthy", ROLLOUT, |app| {
                progress.message(app.summary());
                app.is("Synced", "Healthy")
            })
        })?;
        println!(
            "ok: Synced and Healthy {} after the Application was applied",
            seconds(begun.elapsed())
        );
        steps.run("the wave after the pipeline waited for its health", |_| {
            waves_waited(kubectl)
        })?;
        steps.run("Synced through a restart of the operator", |_| {
            kubectl.run(&format!(
                "delete pod -n {NAMESPACE} -l app.kubernetes.io/name={OPERATOR} --wait=true"
            ))?;
            kubectl
                .cmd(&format!(
                    "rollout status deployment/{OPERATOR} -n {NAMESPACE} --timeout=120s"
                ))
                .timeout(Duration::from_secs(130))
                .run()?;
            application.left_alone(LEFT_ALONE)
        })?;
        println!("ok: Synced through a restart of the operator, with no sync of Argo CD's");
        steps.run("Synced through a scale by an autoscaler", |_| {
            scaled(kubectl, &application)
        })?;
        steps.run("a hand edit is healed", |_| healed(cluster, &application))?;
        steps.run("a bad manifest is Degraded, in our words", |_| {
            degraded(&repository, &application)
        })?;
        steps.run("a pruned pipeline is cleaned up by its deletion policy", |_| {
            pruned(cluster, &repository, &application)
        })
    })
}

/// What is in wave 2 was made after the pipeline in wave 1 became Ready.
fn waves_waited(kubectl: &Kubectl) -> Result<()> {
    let pipeline = kubectl.json(&format!("get recpipe {PIPELINE} -n {NAMESPACE}"))?;
    let after = kubectl.json(&format!("get configmap {} -n {NAMESPACE}", repository::AFTER))?;
    let ready = pipeline["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["type"] == "Ready")
        .and_then(|one| one["lastTransitionTime"].as_str())
        .context("a pipeline without Ready")?;
    let made = after["metadata"]["creationTimestamp"]
        .as_str()
        .context("no creationTimestamp")?;
    // Both are RFC 3339 in UTC to the second: the order of the texts is the order of the times.
    ensure!(
        made >= ready,
        "wave 2 was made at {made}, the pipeline was Ready at {ready}"
    );
    println!("ok: the pipeline was Ready at {ready}, wave 2 was made at {made}");
    Ok(())
}

/// The scale subresource, as an autoscaler writes it: Git says nothing of replicas, so Argo CD has nothing to say either.
fn scaled(kubectl: &Kubectl, application: &Application) -> Result<()> {
    kubectl.run(&format!("scale recpipe {PIPELINE} -n {NAMESPACE} --replicas=3"))?;
    kubectl.until("three replicas", ROLLOUT, || {
        let deployment = kubectl.json(&format!("get deployment {PIPELINE} -n {NAMESPACE}"))?;
        Ok(match deployment["status"]["readyReplicas"].as_u64() {
            Some(3) => Poll::Done(()),
            other => Poll::Waiting(format!("{other:?} ready")),
        })
    })?;
    application.left_alone(LEFT_ALONE)?;
    let pipeline = kubectl.json(&format!("get recpipe {PIPELINE} -n {NAMESPACE}"))?;
    ensure!(
        pipeline["spec"]["recommender"]["replicas"] == 3,
        "the scale was undone"
    );
    println!("ok: three replicas, still Synced, and the scale was not undone");
    Ok(())
}

/// A change of what Git says is Argo CD's to undo, a change of a child the operator's.
fn healed(cluster: &Cluster, application: &Application) -> Result<()> {
    let kubectl = &cluster.place.kubectl;
    let wanted = json!([cluster.stack()?.kafka_pods]);
    let begun = Instant::now();
    kubectl
        .cmd(&format!("patch recpipe {PIPELINE} -n {NAMESPACE} --type=merge"))
        .args([
            "-p",
            r#"{"spec":{"kafka":{"bootstrapServers":["nowhere:9092"]}}}"#,
        ])
        .run()?;
    kubectl.until("the hand edit is undone", Duration::from_secs(120), || {
        let pipeline = kubectl.json(&format!("get recpipe {PIPELINE} -n {NAMESPACE}"))?;
        let now = &pipeline["spec"]["kafka"]["bootstrapServers"];
        Ok(if *now == wanted {
            Poll::Done(())
        } else {
            Poll::Waiting(now.to_string())
        })
    })?;
    println!(
        "ok: spec.kafka.bootstrapServers was put back after {}",
        seconds(begun.elapsed())
    );
    let service = format!("get service {PIPELINE} -n {NAMESPACE}");
    let uid = |object: &Value| object["metadata"]["uid"].as_str().map(str::to_owned);
    let before = uid(&kubectl.json(&service)?);
    let begun = Instant::now();
    kubectl.run(&format!("delete service {PIPELINE} -n {NAMESPACE}"))?;
    kubectl.until("the Service is there again", Duration::from_secs(60), || {
        let now = uid(&kubectl.json(&service)?);
        Ok(if now.is_some() && now != before {
            Poll::Done(())
        } else {
            Poll::Waiting("not yet".to_owned())
        })
    })?;
    println!(
        "ok: a deleted Service was made again after {}",
        seconds(begun.elapsed())
    );
    application.until("Synced and Healthy again", ROLLOUT, |app| {
        app.is("Synced", "Healthy")
    })
}

/// What only the operator can refuse becomes the health of the application, with the message that names the field.
fn degraded(repository: &Repository, application: &Application) -> Result<()> {
    repository.commit_pipeline("a half-life that no model can have", |spec| {
        spec["recommender"]["model"] = json!({"halfLife": "0s"})
    })?;
    application.refresh()?;
    application.until("Degraded", Duration::from_secs(120), |app| {
        app.health() == "Degraded"
            && app
                .health_of("RecommendationPipeline")
                .is_some_and(|(status, message)| {
                    status == "Degraded" && message.contains("spec.recommender.model.halfLife")
                })
    })?;
    let app = application.get()?;
    println!(
        "ok: Degraded, \"{}\"",
        app.health_of("RecommendationPipeline")
            .map(|(_, message)| message)
            .unwrap_or_default()
    );
    repository.revert()?;
    application.refresh()?;
    application.until("Healthy after the revert", ROLLOUT, |app| {
        app.is("Synced", "Healthy")
    })?;
    println!("ok: Healthy again after the commit was reverted");
    Ok(())
}

/// With `deletionPolicy: Delete`, as Git says here, the topics go with the pipeline, and so does everything it owns.
fn pruned(cluster: &Cluster, repository: &Repository, application: &Application) -> Result<()> {
    let run = &cluster.stack()?.run;
    let before = kafka_tools::topics(run)?;
    ensure!(
        before.iter().any(|topic| topic == "customer_behavior"),
        "no topic to begin with: {before:?}"
    );
    repository.remove_pipeline()?;
    application.refresh()?;
    let kubectl = &cluster.place.kubectl;
    kubectl.until("the pipeline and its children are gone", ROLLOUT, || {
        let left = kubectl.run(&format!(
            "get recpipe,deployment,service,configmap,secret,pod -n {NAMESPACE} -l app.kubernetes.io/instance={PIPELINE} -o name"
        ))?;
        let pipelines = kubectl.run(&format!("get recpipe -n {NAMESPACE} -o name"))?;
        Ok(if left.trim().is_empty() && pipelines.trim().is_empty() {
            Poll::Done(())
        } else {
            let object = kubectl.json(&format!("get recpipe {PIPELINE} -n {NAMESPACE}")).unwrap_or_default();
            Poll::Waiting(format!("{left}{pipelines}{:?}", condition(&object, "CleanupBlocked")))
        })
    })?;
    println!("ok: the pipeline and everything that it owned is gone");
    let left = kafka_tools::topics(run)?;
    let ours: Vec<&String> = left.iter().filter(|topic| !topic.starts_with("__")).collect();
    ensure!(ours.is_empty(), "deletionPolicy: Delete left topics: {ours:?}");
    println!(
        "ok: deletionPolicy: Delete took {} topics",
        before.len() - left.len()
    );
    application.until("Synced and Healthy without the pipeline", ROLLOUT, |app| {
        app.is("Synced", "Healthy")
    })
}
