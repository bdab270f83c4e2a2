//! `cargo xtask soak faults`: hundreds of pipelines on each of two Kafkas, of which one is killed for some minutes; then the
//! API server is killed for some seconds. Those on the other Kafka must notice nothing, and all must heal by themselves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use super::servers;
use crate::kubectl::{Kubectl, Poll, condition};
use crate::machine;
use crate::progress::{Steps, seconds};
use crate::release;
use crate::stack::process::Signal;
use crate::stack::{Stack, control_plane, kafka};

/// The cluster and the Kafka that stays; the Kafka that goes.
const RUNS: [&str; 2] = ["soak-faults", "soak-faults-kafka"];
const NAMESPACE: &str = "soak";
const TOPICS: [&str; 7] = [
    "customer_behavior",
    "products",
    "customer_profiles",
    "customer_behavior_dead_letter",
    "customer_erasures",
    "customer_salts",
    "recommendation_impressions",
];
/// Whatever should happen happens within this time.
const PATIENCE: Duration = Duration::from_secs(900);
/// Pipelines on the Kafka that stays which are changed while the other one is gone.
const CHANGED: usize = 20;
/// How long the API server is gone.
const NO_API: Duration = Duration::from_secs(15);

/// Options of `cargo xtask soak faults`.
#[derive(Args, Debug)]
pub struct FaultOptions {
    /// Pipelines on each Kafka
    #[arg(long, default_value_t = 200)]
    pub pipelines: usize,
    /// How long one Kafka is gone, in seconds
    #[arg(long, default_value_t = 300)]
    pub seconds: u64,
    /// Ports of its servers, beside those of another such run; the second Kafka's come 200 after
    #[arg(long, default_value_t = 1_800)]
    pub port_offset: u16,
    /// Do not ask before packages are installed
    #[arg(long)]
    pub yes: bool,
}

/// Runs the faults on servers of their own.
pub(super) fn run(options: &FaultOptions, steps: &mut Steps) -> Result<()> {
    machine::prepare(false, options.yes, steps)?;
    let shipped = steps.run("Both programs built", release::build)?;
    let cluster = Stack::up(&servers(RUNS[0], options.port_offset)?, steps)?;
    let other = Stack::up(&servers(RUNS[1], options.port_offset + 200)?, steps)?;
    let soak = Soak {
        kubectl: Kubectl::new(&cluster.kubectl, Some(cluster.kubeconfig.clone())),
        cluster,
        other,
        pipelines: options.pipelines,
    };
    let result = soak.all(&shipped.operator, Duration::from_secs(options.seconds), steps);
    for run in RUNS {
        steps.run(&format!("servers of {run} stopped"), |_| Stack::down(run, true))?;
    }
    result
}

/// The operator, which ends with this.
struct Operator(Child);

impl Operator {
    fn start(program: &Path, kubeconfig: &Path) -> Result<Self> {
        let child = Command::new(program)
            .args(["run", "--metrics-listen", "127.0.0.1:0", "--resync", "30"])
            .args(["--watch-namespaces", NAMESPACE])
            .env("KUBECONFIG", kubeconfig)
            .env("POD_NAME", "soak")
            .env("RUST_LOG", "error")
            .env_remove("POD_NAMESPACE")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the operator")?;
        Ok(Self(child))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Soak {
    kubectl: Kubectl,
    cluster: Stack,
    other: Stack,
    pipelines: usize,
}

/// A pipeline's resource version, its observed generation, and status and reason of TopicsReady.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    version: String,
    generation: (i64, i64),
    topics: String,
}

impl Soak {
    fn all(&self, operator: &Path, away: Duration, steps: &mut Steps) -> Result<()> {
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
        self.kubectl
            .cmd("apply --server-side -f")
            .arg(crds)
            .run()
            .context("the CRD")?;
        self.kubectl.run(&format!("create namespace {NAMESPACE}"))?;
        let mut process = Operator::start(operator, &self.cluster.kubeconfig)?;
        steps.run("pipelines on both Kafkas as declared", |_| {
            self.kubectl
                .apply_text(&self.manifests(), &self.scratch())
                .context("applying all pipelines")?;
            self.until("every pipeline to be as declared", |seen| {
                pending(seen.values(), "True/AsDeclared")
            })
        })?;
        thread::sleep(Duration::from_secs(35));
        steps.run("one Kafka gone", |_| self.without_kafka(away))?;
        thread::sleep(Duration::from_secs(35));
        steps.run("the API server gone", |_| self.without_api_server())?;
        ensure!(
            process.0.try_wait()?.is_none(),
            "the operator did not live through it"
        );
        Ok(())
    }

    /// A Kafka is killed, and comes back after `away`.
    fn without_kafka(&self, away: Duration) -> Result<()> {
        let before = self.look()?;
        let (audit, begun) = (self.writes()?.len(), Instant::now());
        kafka::stop(&self.other.run, None, Signal::KILL)?;
        self.until("those on the dead Kafka to say so", |seen| {
            pending(on(seen, "dead"), "Unknown/KafkaUnreachable")
        })?;
        println!(
            "told after {}: {}",
            seconds(begun.elapsed()),
            self.message("dead-0")?
        );
        let mut slowest = Duration::ZERO;
        for n in 0..CHANGED {
            let (name, asked) = (format!("alive-{n}"), Instant::now());
            self.kubectl.run(&format!(
                "patch recpipe {name} -n {NAMESPACE} --type merge -p {{\"spec\":{{\"recommender\":{{\"replicas\":3}}}}}}"
            ))?;
            self.kubectl
                .until("a change beside it to be seen", PATIENCE, || {
                    let seen = seen(&self.kubectl.json(&format!("get recpipe {name} -n {NAMESPACE}"))?);
                    Ok(match seen.generation.0 == seen.generation.1 {
                        true => Poll::Done(()),
                        false => Poll::Waiting(format!("{seen:?}")),
                    })
                })?;
            slowest = slowest.max(asked.elapsed());
        }
        println!(
            "{CHANGED} changes on the other Kafka seen meanwhile, the slowest after {slowest:.1?} (two kubectl among it)"
        );
        thread::sleep(away.saturating_sub(begun.elapsed()));
        let during = self.look()?;
        ensure!(
            pending(on(&during, "dead"), "Unknown/KafkaUnreachable").is_none(),
            "one on the dead Kafka says something else"
        );
        self.untouched(&before, &during)?;

        let begun = Instant::now();
        kafka::start(&self.other.run)?;
        let back = begun.elapsed();
        self.until("every pipeline to be as declared again", |seen| {
            pending(seen.values(), "True/AsDeclared")
        })?;
        println!(
            "Kafka came back after {}, all were as declared {} later",
            seconds(back),
            seconds(begun.elapsed().saturating_sub(back))
        );
        self.untouched(&before, &self.look()?)?;
        let writes = self.writes()?;
        let status = |write: &&String| write.contains("/dead-") && write.contains("/status");
        let told = writes.iter().skip(audit).filter(status).count();
        println!(
            "{told} status writes to the {} on it, gone and back",
            self.pipelines
        );
        ensure!(
            told <= 2 * self.pipelines,
            "a status was written more than once each way"
        );
        Ok(())
    }

    /// Nobody wrote to those on the other Kafka that were not changed.
    fn untouched(&self, before: &BTreeMap<String, Seen>, after: &BTreeMap<String, Seen>) -> Result<()> {
        for n in CHANGED..self.pipelines {
            let name = format!("alive-{n}");
            ensure!(
                before.get(&name) == after.get(&name),
                "{name} noticed: {:?} became {:?}",
                before.get(&name),
                after.get(&name)
            );
        }
        Ok(())
    }

    /// The API server is killed and comes back; a child is edited right after.
    fn without_api_server(&self) -> Result<()> {
        let (before, audit) = (self.look()?, self.writes()?.len());
        let run = &self.cluster.run;
        control_plane::stop_api_server(run, Signal::KILL)?;
        thread::sleep(NO_API);
        control_plane::start_servers(run)?;
        control_plane::wait_servers(run)?;
        let begun = Instant::now();
        self.kubectl.run(&format!(
            "scale deployment alive-{CHANGED} -n {NAMESPACE} --replicas=7"
        ))?;
        self.kubectl
            .until("an edit by hand to be set back", PATIENCE, || {
                let found = self
                    .kubectl
                    .json(&format!("get deployment alive-{CHANGED} -n {NAMESPACE}"))?;
                Ok(match found["spec"]["replicas"].as_i64() {
                    Some(2) => Poll::Done(()),
                    other => Poll::Waiting(format!("{other:?} replicas")),
                })
            })?;
        println!(
            "after {NO_API:?} without an API server, an edit by hand was set back {:.1?} after it was ready",
            begun.elapsed()
        );
        thread::sleep(Duration::from_secs(40));
        ensure!(before == self.look()?, "a pipeline was written to");
        let writes = self.writes()?;
        let since: Vec<&String> = writes.iter().skip(audit).collect();
        println!("writes of the operator since: {since:?}");
        ensure!(
            since.len() == 1 && since[0].contains(&format!("/deployments/alive-{CHANGED}")),
            "one write was expected"
        );
        Ok(())
    }

    fn manifests(&self) -> String {
        let mut text = String::new();
        for (kind, kafka) in [
            ("alive", &self.cluster.kafka_host),
            ("dead", &self.other.kafka_host),
        ] {
            for n in 0..self.pipelines {
                let _ = write!(
                    text,
                    "---\napiVersion: recommendation.dev/v1alpha1\nkind: RecommendationPipeline\n\
                     metadata: {{name: {kind}-{n}, namespace: {NAMESPACE}}}\nspec:\n  namePrefix: {kind}-{n}-\n  \
                     kafka: {{bootstrapServers: [\"{kafka}\"]}}\n  topics:\n"
                );
                for topic in TOPICS {
                    let _ = writeln!(text, "  - {{name: {topic}, partitions: 1}}");
                }
            }
        }
        text
    }

    fn scratch(&self) -> std::path::PathBuf {
        self.cluster.run.path("pipelines.yaml").into()
    }

    fn look(&self) -> Result<BTreeMap<String, Seen>> {
        let list = self.kubectl.json(&format!("get recpipe -n {NAMESPACE}"))?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Ok(items.iter().map(|item| (name(item), seen(item))).collect())
    }

    fn message(&self, name: &str) -> Result<String> {
        let found = self.kubectl.json(&format!("get recpipe {name} -n {NAMESPACE}"))?;
        let told = condition(&found, "TopicsReady").map(|(_, _, message)| message.to_owned());
        told.context("there is no condition TopicsReady")
    }

    /// Waits until `waits_for` finds nothing that is to be waited for.
    fn until(&self, what: &str, waits_for: impl Fn(&BTreeMap<String, Seen>) -> Option<String>) -> Result<()> {
        self.kubectl.until(what, PATIENCE, || {
            let seen = self.look()?;
            ensure!(seen.len() == 2 * self.pipelines, "{} pipelines", seen.len());
            Ok(waits_for(&seen).map_or(Poll::Done(()), Poll::Waiting))
        })
    }

    /// What the operator wrote, as the API server logged it.
    fn writes(&self) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(&self.cluster.audit_log)?;
        // The last line may be half there.
        let events = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let own = |event: &Value| {
            event["userAgent"]
                .as_str()
                .is_some_and(|agent| agent.ends_with("(soak)"))
        };
        let what = |event: Value| format!("{} {}", event["verb"], event["requestURI"]);
        Ok(events.filter(own).map(what).collect())
    }
}

fn seen(item: &Value) -> Seen {
    let number = |pointer: &str| item.pointer(pointer).and_then(Value::as_i64).unwrap_or(-1);
    Seen {
        version: item["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        generation: (
            number("/metadata/generation"),
            number("/status/observedGeneration"),
        ),
        topics: condition(item, "TopicsReady")
            .map(|(status, reason, _)| format!("{status}/{reason}"))
            .unwrap_or_default(),
    }
}

fn on<'a>(seen: &'a BTreeMap<String, Seen>, kind: &'a str) -> impl Iterator<Item = &'a Seen> {
    let of_kind = move |(name, _): &(&String, &Seen)| name.starts_with(kind);
    seen.iter().filter(of_kind).map(|(_, seen)| seen)
}

/// How many do not say so of their topics; `None` when all do.
fn pending<'a>(seen: impl Iterator<Item = &'a Seen>, wanted: &str) -> Option<String> {
    let others = seen.filter(|seen| seen.topics != wanted).count();
    (others > 0).then(|| format!("{others} are not {wanted}"))
}
