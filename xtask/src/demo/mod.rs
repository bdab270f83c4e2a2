//! `cargo xtask demo`: the main job on real parts, from nothing to recommendations that follow a click.

pub(crate) mod images;
mod local;
mod place;
pub(crate) mod replay;
mod show;

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::api::Api;
use crate::clicks;
use crate::kubectl::{Poll, condition};
use crate::progress::Steps;
use crate::stack::run::Ports;
use crate::{machine, release};

pub use place::{Images, Place, RUN, leave_current};

/// Name of the demo's pipeline, as in `manifests/quickstart.yaml`.
pub const PIPELINE: &str = "shop";

/// Options of `cargo xtask demo`.
#[derive(Args, Debug)]
pub struct DemoOptions {
    /// Do not ask before packages are installed and routes are set
    #[arg(long)]
    pub yes: bool,
    /// `local` starts a Kubernetes of its own; `current` uses the kubeconfig's current context (kind, k3d, a real cluster)
    #[arg(long, value_enum, default_value_t)]
    pub cluster: Cluster,
    /// Use this Kafka (an address that pods of the cluster reach too) instead of starting one
    #[arg(long, value_name = "HOST:PORT", required_if_eq("cluster", "current"))]
    pub kafka: Option<String>,
    /// With `--cluster current`: a registry that the cluster pulls from and that holds both images already
    #[arg(long, value_name = "REGISTRY/PATH")]
    pub registry: Option<String>,
    /// Run the recommender as a local process even where a real node is possible
    #[arg(long)]
    pub no_node: bool,
    /// The run of the local stack.
    #[arg(skip = RUN)]
    pub run: String,
    /// The ports of the local stack.
    #[arg(skip)]
    pub ports: Ports,
}

impl Default for DemoOptions {
    /// As the command line without any flag.
    fn default() -> Self {
        Self {
            yes: false,
            cluster: Cluster::default(),
            kafka: None,
            registry: None,
            no_node: false,
            run: RUN.to_owned(),
            ports: Ports::default(),
        }
    }
}

/// Which Kubernetes.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cluster {
    /// A control plane and a node on this machine.
    #[default]
    Local,
    /// The kubeconfig's current context.
    Current,
}

/// What the demo found, for the end-to-end test.
pub struct Outcome {
    /// Where everything runs.
    pub place: Place,
    /// The HTTP API, with a token that may read and write.
    pub api: Api,
    /// Customers whose recommendations were shown.
    pub customers: Vec<String>,
    /// The live clicks.
    pub clicks: Vec<clicks::Click>,
}

/// Runs the whole path and prints what a person would want to see.
///
/// # Errors
/// When a step fails; the message says which, and what to do.
pub fn run(options: &DemoOptions, steps: &mut Steps) -> Result<Outcome> {
    if options.cluster == Cluster::Local {
        machine::prepare(!options.no_node, options.yes, steps)?;
    }
    let binaries = steps.run("Both programs built", release::build)?;
    let mut place = Place::open(options, &binaries, steps)?;
    place.install_operator(steps)?;
    let started = std::time::Instant::now();
    place.apply_pipeline(steps)?;
    wait_ready(&place, steps)?;
    println!(
        "pipeline Ready {:.1} s after `kubectl apply`",
        started.elapsed().as_secs_f64()
    );
    print!("{}", place.kubectl.run(&format!("get recpipe {PIPELINE}"))?);
    let api = place.connect(steps)?;

    replay::feed(&place, steps)?;
    replay::wait_learned(&place, steps)?;

    let customers = show::CUSTOMERS.map(str::to_owned).to_vec();
    for customer in &customers {
        show::recommendations(&api, customer)?;
    }
    let clicks = show::live_clicks(&api, &customers[0])?;
    show::go_on(&place, &api, &customers[0]);
    Ok(Outcome {
        place,
        api,
        customers,
        clicks,
    })
}

/// Waits until `kubectl get recpipe` says Ready, showing the reason while it does not.
pub(crate) fn wait_ready(place: &Place, steps: &mut Steps) -> Result<()> {
    let name = format!("pipeline {PIPELINE} becomes Ready");
    steps.run(&name, |progress| {
        // Without a node no pod can ever be ready: then topics and objects are all that can be waited for.
        let kind = if place.has_pods() { "Ready" } else { "TopicsReady" };
        place.kubectl.until(&name, Duration::from_secs(180), || {
            let object = place.kubectl.json(&format!("get recpipe {PIPELINE}"))?;
            Ok(match condition(&object, kind) {
                Some(("True", _, _)) => Poll::Done(()),
                Some((status, reason, message)) => {
                    let why = format!("{kind}={status}, {reason}: {message}");
                    progress.message(why.clone());
                    Poll::Waiting(why)
                }
                None => Poll::Waiting("the operator has not looked at it yet".to_owned()),
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        options: DemoOptions,
    }

    #[test]
    fn the_defaults_of_other_tasks_are_those_of_the_command_line() {
        let parsed = CommandLine::parse_from(["demo"]).options;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", DemoOptions::default()));
        assert_eq!(parsed.run, RUN);
    }
}
