//! From nothing to the first recommendation by Helm alone, step by step as a new user would do it, then an upgrade and
//! the end of it all; on a real node with the shipped images.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::charts::dir;
use super::{PORT_OFFSET, RUN};
use crate::api::Api;
use crate::command::Cmd;
use crate::demo::images;
use crate::kubectl::{Kubectl, Poll, condition};
use crate::machine;
use crate::paths::Paths;
use crate::progress::{Steps, seconds};
use crate::release::{self, Binaries};
use crate::stack::run::Ports;
use crate::stack::{Stack, StackOptions, node};
use crate::tools::catalog;

const NAMESPACE: &str = "recommendation-system";
const OPERATOR: &str = "recommendation-operator";
const CRDS: &str = "recommendation-operator-crds";
const CRD: &str = "recommendationpipelines.recommendation.dev";
/// The release of the pipeline, and so its name.
const SHOP: &str = "shop";

/// Installs, upgrades, tests and removes the charts.
pub(super) fn run(yes: bool, steps: &mut Steps) -> Result<()> {
    machine::prepare(true, yes, steps)?;
    let program = catalog::HELM.ensure(&Paths::from_env()?, steps)?;
    let binaries = steps.run("Both programs built", release::build)?;
    let options = StackOptions {
        run_name: RUN.to_owned(),
        ports: Ports::offset(PORT_OFFSET)?,
        ..StackOptions::default()
    };
    let result = Stack::up(&options, steps).and_then(|stack| {
        ensure!(
            stack.node,
            "`helm install --wait` needs a real node, which needs root on Linux"
        );
        Charts {
            kubectl: Kubectl::new(&stack.kubectl, Some(stack.kubeconfig.clone())),
            helm: Helm {
                program: &program,
                kubeconfig: &stack.kubeconfig,
            },
            binaries: &binaries,
            stack: &stack,
        }
        .all(steps)
    });
    steps.run("Stop the servers", |_| Stack::down(RUN, true))?;
    result
}

struct Helm<'a> {
    program: &'a Path,
    kubeconfig: &'a Path,
}

impl Helm<'_> {
    fn cmd(&self, args: &str) -> Cmd {
        Cmd::new(self.program)
            .arg("--kubeconfig")
            .arg(self.kubeconfig)
            .args(args.split_whitespace())
            .timeout(Duration::from_secs(300))
    }
}

struct Charts<'a> {
    kubectl: Kubectl,
    helm: Helm<'a>,
    binaries: &'a Binaries,
    stack: &'a Stack,
}

impl Charts<'_> {
    fn all(&self, steps: &mut Steps) -> Result<()> {
        let (operator, recommender) = steps.run("Images of both programs, into the node", |_| {
            let load = |name: &str, binary: &Path| -> Result<String> {
                let image = images::of_program(name, binary)?;
                node::import(&image.path)?;
                Ok(image.name)
            };
            Ok((
                load(OPERATOR, &self.binaries.operator)?,
                load("recommender", &self.binaries.recommender)?,
            ))
        })?;
        let (repository, tag) = operator.rsplit_once(':').context("an image without a tag")?;
        let images = format!(
            "--set image.repository={repository} --set image.tag={tag} --set recommender.image={recommender}"
        );
        let begun = Instant::now();
        steps.run("helm install the CRDs", |_| {
            self.helm.cmd(&format!("install {CRDS}")).arg(dir(CRDS)).run()
        })?;
        let older = release::workspace().join("xtask/testdata/recommendation-operator-0.0.9");
        steps.run("helm install the operator, an older version", |_| {
            self.helm
                .cmd(&format!(
                    "install {OPERATOR} --namespace {NAMESPACE} --create-namespace --wait {images}"
                ))
                .arg(older)
                .run()
        })?;
        // From here on as the restricted Pod Security standard allows.
        self.kubectl.run(&format!(
            "label namespace {NAMESPACE} pod-security.kubernetes.io/enforce=restricted"
        ))?;
        let notes = steps.run("helm upgrade the operator to this version", |_| {
            self.helm
                .cmd(&format!(
                    "upgrade {OPERATOR} --namespace {NAMESPACE} --wait {images}"
                ))
                .arg(dir(OPERATOR))
                .run()
        })?;
        println!("{notes}");
        let said = steps.run("helm test", |_| {
            self.helm
                .cmd(&format!("test {OPERATOR} --namespace {NAMESPACE} --logs"))
                .run()
        })?;
        println!("{said}");
        steps.run("helm install a pipeline", |_| {
            self.helm
                .cmd(&format!("install {SHOP}"))
                .arg(dir("recommendation-pipeline"))
                .arg("--set")
                .arg(format!(
                    "spec.kafka.bootstrapServers={{{}}}",
                    self.stack.kafka_pods
                ))
                .run()
        })?;
        steps.run("the pipeline becomes Ready", |progress| {
            self.kubectl
                .until("the pipeline is Ready", Duration::from_secs(180), || {
                    let object = self.kubectl.json(&format!("get recpipe {SHOP}"))?;
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
        let keys = self.stack.run.dir().join("keys");
        self.kubectl.write_secret(&format!("{SHOP}-jwt"), &keys)?;
        let token = Cmd::new(&self.binaries.recommender)
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
        let service = self.kubectl.json(&format!("get service {SHOP}"))?;
        let address = service["spec"]["clusterIP"]
            .as_str()
            .context("Service without an address")?;
        let api = Api::new(&format!("http://{address}"), Some(token.trim().to_owned()));
        for (customer, product) in [("1", "a"), ("1", "b"), ("2", "a"), ("2", "b"), ("3", "a")] {
            let event = json!({"customer_id": customer, "product_id": product, "event_type": "purchase"});
            api.post("/v1/events", &event)?.json()?;
        }
        self.kubectl
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
            self.helm.cmd(&format!("uninstall {SHOP} --wait")).run()?;
            self.helm
                .cmd(&format!("uninstall {OPERATOR} --namespace {NAMESPACE} --wait"))
                .run()?;
            self.helm.cmd(&format!("uninstall {CRDS}")).run()?;
            let left = self
                .kubectl
                .run(&format!("get all,secret,configmap -n {NAMESPACE} -o name"))?;
            let ours: Vec<&str> = left.lines().filter(|line| line.contains("recommend")).collect();
            ensure!(ours.is_empty(), "left behind: {ours:?}");
            // Every pipeline would go with it.
            self.kubectl
                .run(&format!("get crd {CRD}"))
                .context("the CRD was to be kept")?;
            Ok(())
        })
    }
}
