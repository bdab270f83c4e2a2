//! From nothing to the first recommendation by Helm alone, step by step as a new user would do it, then an upgrade and
//! the end of it all; on a real node with the shipped images.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::charts::dir;
use super::cluster::{CRDS, Cluster, NAMESPACE, OPERATOR, on_node};
use crate::api::Api;
use crate::command::Cmd;
use crate::kubectl::{Poll, condition};
use crate::progress::{Steps, seconds};
use crate::release;

const CRD: &str = "recommendationpipelines.recommendation.dev";
/// The release of the pipeline, and so its name.
const SHOP: &str = "shop";

/// Installs, upgrades, tests and removes the charts.
pub(super) fn run(yes: bool, steps: &mut Steps) -> Result<()> {
    on_node(yes, false, steps, |cluster, steps| Charts(cluster).all(steps))
}

struct Charts<'a>(&'a Cluster);

impl Charts<'_> {
    fn all(&self, steps: &mut Steps) -> Result<()> {
        let images = self.0.image_values()?;
        let begun = Instant::now();
        steps.run("helm install the CRDs", |_| {
            self.0.helm.cmd(&format!("install {CRDS}")).arg(dir(CRDS)).run()
        })?;
        let older = release::workspace().join("xtask/testdata/recommendation-operator-0.0.9");
        steps.run("helm install the operator, an older version", |_| {
            self.0
                .helm
                .cmd(&format!(
                    "install {OPERATOR} --namespace {NAMESPACE} --create-namespace --wait {images}"
                ))
                .arg(older)
                .run()
        })?;
        // From here on as the restricted Pod Security standard allows.
        self.0.place.kubectl.run(&format!(
            "label namespace {NAMESPACE} pod-security.kubernetes.io/enforce=restricted"
        ))?;
        let notes = steps.run("helm upgrade the operator to this version", |_| {
            self.0
                .helm
                .cmd(&format!(
                    "upgrade {OPERATOR} --namespace {NAMESPACE} --wait {images}"
                ))
                .arg(dir(OPERATOR))
                .run()
        })?;
        println!("{notes}");
        // There is no DNS here, so the test is told where the operator is.
        let service = self
            .0
            .place
            .kubectl
            .json(&format!("get service {OPERATOR} -n {NAMESPACE}"))?;
        let host = service["spec"]["clusterIP"]
            .as_str()
            .context("Service without an address")?;
        self.0
            .helm
            .cmd(&format!(
                "upgrade {OPERATOR} --namespace {NAMESPACE} --wait --reuse-values --set test.host={host}"
            ))
            .arg(dir(OPERATOR))
            .run()?;
        let said = steps.run("helm test", |_| {
            self.0
                .helm
                .cmd(&format!("test {OPERATOR} --namespace {NAMESPACE}"))
                .run()
        })?;
        // Without any test Helm is content, too.
        let results: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("TEST SUITE:") || line.starts_with("Phase:"))
            .collect();
        ensure!(
            results.iter().any(|line| line.ends_with("Succeeded")),
            "helm test ran nothing:\n{said}"
        );
        println!("{}", results.join("\n"));
        steps.run("helm install a pipeline", |_| {
            self.0
                .helm
                .cmd(&format!("install {SHOP}"))
                .arg(dir("recommendation-pipeline"))
                .arg("--set")
                .arg(format!(
                    "spec.kafka.bootstrapServers={{{}}}",
                    self.0.stack()?.kafka_pods
                ))
                .run()
        })?;
        steps.run("the pipeline becomes Ready", |progress| {
            self.0
                .place
                .kubectl
                .until("the pipeline is Ready", Duration::from_secs(180), || {
                    let object = self.0.place.kubectl.json(&format!("get recpipe {SHOP}"))?;
                    Ok(match condition(&object, "Ready") {
                        Some(("True", _, _)) => Poll::Done(()),
                        other => {
                            let why =
                                other.map_or("not seen yet".to_owned(), |(s, r, m)| format!("{s} {r}: {m}"));
                            progress.message(why.clone());
                            Poll::Waiting(why)
                        }
                    })
                })
        })?;
        steps.run("an event, and the first recommendation", |_| {
            self.first_recommendation()
        })?;
        println!(
            "from nothing to the first recommendation through Helm alone: {}",
            seconds(begun.elapsed())
        );
        self.remove(steps)
    }

    /// What a shop would do first: tell of two customers, and ask for a third who has seen what they saw.
    fn first_recommendation(&self) -> Result<()> {
        let keys = self.0.stack()?.run.dir().join("keys");
        self.0.place.kubectl.write_secret(&format!("{SHOP}-jwt"), &keys)?;
        let token = Cmd::new(&self.0.place.binaries.recommender)
            .args([
                "token",
                "--user",
                "shop",
                "--scope",
                "recommendations:read",
                "--scope",
                "events:write",
            ])
            .arg("--secret-file")
            .arg(keys.join("secret"))
            .run()?;
        let service = self.0.place.kubectl.json(&format!("get service {SHOP}"))?;
        let address = service["spec"]["clusterIP"]
            .as_str()
            .context("Service without an address")?;
        let api = Api::new(&format!("http://{address}"), Some(token.trim().to_owned()));
        for (customer, product) in [("1", "a"), ("1", "b"), ("2", "a"), ("2", "b"), ("3", "a")] {
            let event = json!({"customer_id": customer, "product_id": product, "event_type": "purchase"});
            api.post("/v1/events", &event)?.json()?;
        }
        self.0
            .place
            .kubectl
            .until("b is recommended to customer 3", Duration::from_secs(10), || {
                let answer = api.get("/v1/recommendations/3?limit=5")?.json()?;
                let shown = answer["items"]
                    .as_array()
                    .is_some_and(|items| items.iter().any(|item: &Value| item["product_id"] == "b"));
                Ok(if shown {
                    println!("{}", serde_json::to_string_pretty(&answer["items"][0])?);
                    Poll::Done(())
                } else {
                    Poll::Waiting(answer.to_string())
                })
            })
    }

    fn remove(&self, steps: &mut Steps) -> Result<()> {
        steps.run("helm uninstall everything", |_| {
            self.0.helm.cmd(&format!("uninstall {SHOP} --wait")).run()?;
            self.0
                .helm
                .cmd(&format!("uninstall {OPERATOR} --namespace {NAMESPACE} --wait"))
                .run()?;
            self.0.helm.cmd(&format!("uninstall {CRDS}")).run()?;
            // Pods take their time to end, and Helm waits for their Deployment only.
            let left = || {
                let get = format!("get all,secret,configmap -n {NAMESPACE} -o name");
                let left = self.0.place.kubectl.run(&get)?;
                let ours: Vec<&str> = left.lines().filter(|line| line.contains("recommend")).collect();
                Ok(match ours.is_empty() {
                    true => Poll::Done(()),
                    false => Poll::Waiting(format!("left behind: {ours:?}")),
                })
            };
            let patience = Duration::from_secs(60);
            self.0.place.kubectl.until("everything is gone", patience, left)?;
            // Every pipeline would go with it.
            self.0
                .place
                .kubectl
                .run(&format!("get crd {CRD}"))
                .context("the CRD was to be kept")?;
            Ok(())
        })
    }
}
