//! A real node with the shipped images in it and Helm to install our charts: what the suites need that look at a cluster
//! as its owner does.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::charts::dir;
use super::{PORT_OFFSET, RUN};
use crate::command::Cmd;
use crate::demo::{DemoOptions, Images, Place};
use crate::machine;
use crate::paths::Paths;
use crate::progress::Steps;
use crate::release;
use crate::stack::Stack;
use crate::stack::run::Ports;
use crate::tools::catalog;

/// Where the operator is installed.
pub(super) const NAMESPACE: &str = "recommendation-system";
/// The chart of the operator, and its release.
pub(super) const OPERATOR: &str = "recommendation-operator";
/// The chart of the CRD, and its release.
pub(super) const CRDS: &str = "recommendation-operator-crds";

/// Helm for one cluster.
pub(super) struct Helm {
    /// The program.
    pub program: PathBuf,
    /// How it reaches the cluster.
    pub kubeconfig: PathBuf,
}

impl Helm {
    /// A command with these arguments (split at spaces), not yet started.
    pub(super) fn cmd(&self, args: &str) -> Cmd {
        Cmd::new(&self.program)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(args.split_whitespace())
            .timeout(Duration::from_secs(300))
    }
}

/// The cluster.
pub(super) struct Cluster {
    /// Its servers, kubectl and the shipped programs.
    pub place: Place,
    /// Helm.
    pub helm: Helm,
    /// What the node holds.
    pub images: Images,
}

/// Runs `work` against a node of its own with Kafka and Redis; `keep` leaves all of it running afterwards.
pub(super) fn on_node(
    yes: bool,
    keep: bool,
    steps: &mut Steps,
    work: impl FnOnce(&mut Cluster, &mut Steps) -> Result<()>,
) -> Result<()> {
    machine::prepare(true, yes, steps)?;
    let program = catalog::HELM.ensure(&Paths::from_env()?, steps)?;
    let binaries = steps.run("Both programs built", release::build)?;
    let options = DemoOptions {
        run: RUN.to_owned(),
        ports: Ports::offset(PORT_OFFSET)?,
        ..DemoOptions::default()
    };
    let result = Place::open(&options, &binaries, steps).and_then(|mut place| {
        let kubeconfig = place
            .stack()
            .filter(|stack| stack.node)
            .map(|stack| stack.kubeconfig.clone());
        let kubeconfig =
            kubeconfig.context("this needs a real Kubernetes node, which needs root on Linux")?;
        let images = place.give_images(steps)?;
        let helm = Helm { program, kubeconfig };
        work(&mut Cluster { place, helm, images }, steps)
    });
    if keep {
        println!("left running: `cargo xtask stack down --run {RUN} --wipe` stops it");
    } else {
        steps.run("Stop the servers", |_| Stack::down(RUN, true))?;
    }
    result
}

impl Cluster {
    /// The stack that it runs on.
    pub(super) fn stack(&self) -> Result<&Stack> {
        self.place.stack().context("a cluster of these suites is local")
    }

    /// Values that have both charts use the images that the node holds.
    pub(super) fn image_values(&self) -> Result<String> {
        let (repository, tag) = self
            .images
            .operator
            .rsplit_once(':')
            .context("an image without a tag")?;
        Ok(format!(
            "--set image.repository={repository} --set image.tag={tag} --set recommender.image={}",
            self.images.recommender
        ))
    }

    /// Installs the CRD and the operator from their charts, with these further values.
    pub(super) fn install_operator(&self, values: &str, steps: &mut Steps) -> Result<()> {
        let images = self.image_values()?;
        steps.run("helm install the CRD and the operator", |_| {
            self.helm
                .cmd(&format!("upgrade --install {CRDS}"))
                .arg(dir(CRDS))
                .run()?;
            self.helm
                .cmd(&format!(
                    "upgrade --install {OPERATOR} --namespace {NAMESPACE} --create-namespace --wait {images} {values}"
                ))
                .arg(dir(OPERATOR))
                .run()
        })?;
        Ok(())
    }

    /// Fails when there are Events of type Warning about objects of ours, other than those with these reasons.
    pub(super) fn no_warnings(&self, but: &[&str]) -> Result<()> {
        let events = self
            .place
            .kubectl
            .json("get events -A --field-selector type=Warning")?;
        let ours: Vec<String> = events["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|event| {
                event["involvedObject"]["apiVersion"]
                    .as_str()
                    .is_some_and(|v| v.contains("recommendation.dev"))
            })
            .filter(|event| !but.iter().any(|reason| event["reason"] == *reason))
            .map(|event| format!("{}: {}", event["reason"], event["message"]))
            .collect();
        ensure!(
            ours.is_empty(),
            "warnings about our objects:\n{}",
            ours.join("\n")
        );
        Ok(())
    }
}
