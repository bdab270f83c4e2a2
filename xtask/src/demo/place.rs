//! Where the demo runs: the local stack with a node, without one, or somebody's own cluster. The steps of the
//! demo are the same everywhere; what differs is here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::local::{INTERNAL_PORT, PORT};
use super::{Cluster, DemoOptions, PIPELINE, images};
use crate::api::Api;
use crate::command::{self, Cmd};
use crate::kubectl::Kubectl;
use crate::paths::{Paths, remove_all, write};
use crate::progress::Steps;
use crate::release::{self, Binaries};
use crate::stack::process::{Daemon, Processes, Signal};
use crate::stack::{NodeMode, Stack, StackOptions, node};

/// Name of the demo's run of the local stack.
pub const RUN: &str = "demo";

/// Lines of the data set's invoices that are no products: postage, manual entries, discounts, charges.
const NOT_PRODUCTS: [&str; 8] = ["POST", "DOT", "M", "D", "C2", "PADS", "CRUK", "BANK CHARGES"];

/// Where the demo runs.
pub struct Place {
    /// `kubectl` for the cluster.
    pub kubectl: Kubectl,
    /// Kafka for programs of this machine.
    pub kafka: String,
    /// The shipped programs.
    pub binaries: Binaries,
    kind: Kind,
    kafka_in_cluster: String,
    redis_in_cluster: Option<String>,
    dir: PathBuf,
    images: Option<Images>,
}

enum Kind {
    Local(Box<Stack>),
    Current {
        context: String,
        registry: Option<String>,
    },
}

/// The names of both programs' images in the cluster.
#[derive(Clone, Debug)]
pub struct Images {
    /// The operator's.
    pub operator: String,
    /// The recommender's.
    pub recommender: String,
}

impl Place {
    /// Starts the local stack, or looks the current context up.
    pub fn open(options: &DemoOptions, binaries: &Binaries, steps: &mut Steps) -> Result<Self> {
        match options.cluster {
            Cluster::Local => {
                let node = if options.no_node {
                    NodeMode::Off
                } else {
                    NodeMode::Auto
                };
                let kafka = options.kafka.is_none();
                let stack = Stack::up(
                    &StackOptions {
                        run_name: options.run.clone(),
                        node,
                        kafka,
                        ports: options.ports,
                        ..StackOptions::default()
                    },
                    steps,
                )?;
                if !stack.node {
                    eprintln!(
                        "The recommender and the operator run as processes of this machine instead of pods."
                    );
                }
                Ok(Self {
                    kubectl: Kubectl::new(&stack.kubectl, Some(stack.kubeconfig.clone())),
                    kafka: options.kafka.clone().unwrap_or_else(|| stack.kafka_host.clone()),
                    kafka_in_cluster: options.kafka.clone().unwrap_or_else(|| stack.kafka_pods.clone()),
                    redis_in_cluster: Some(stack.redis_pods.clone()),
                    binaries: binaries.clone(),
                    dir: stack.run.dir().to_owned(),
                    kind: Kind::Local(Box::new(stack)),
                    images: None,
                })
            }
            Cluster::Current => {
                let program =
                    command::find("kubectl").context("no kubectl in PATH: --cluster current needs yours")?;
                let kubectl = Kubectl::new(program, None);
                let context = kubectl.run("config current-context")?.trim().to_owned();
                let kafka = options
                    .kafka
                    .clone()
                    .context("--cluster current needs --kafka HOST:PORT")?;
                let dir = current_dir()?;
                std::fs::create_dir_all(&dir)?;
                write(&dir.join("context"), &context)?;
                eprintln!(
                    "Using context {context}; the demo installs a CRD, namespace recommendation-system and pipeline default/{PIPELINE} there."
                );
                Ok(Self {
                    kubectl,
                    kafka: kafka.clone(),
                    kafka_in_cluster: kafka,
                    redis_in_cluster: None,
                    binaries: binaries.clone(),
                    kind: Kind::Current {
                        context,
                        registry: options.registry.clone(),
                    },
                    dir,
                    images: None,
                })
            }
        }
    }

    /// Whether the recommender runs as pods.
    pub fn has_pods(&self) -> bool {
        match &self.kind {
            Kind::Local(stack) => stack.node,
            Kind::Current { .. } => true,
        }
    }

    /// The local stack, if it is one.
    pub fn stack(&self) -> Option<&Stack> {
        match &self.kind {
            Kind::Local(stack) => Some(stack),
            Kind::Current { .. } => None,
        }
    }

    /// A file of the demo's own folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Gives the images of both programs to the cluster; a pipeline that is applied from now on names the recommender's.
    ///
    /// # Errors
    /// When they cannot be built or loaded.
    pub fn give_images(&mut self, steps: &mut Steps) -> Result<Images> {
        let images = steps.run("Images of both programs, into the cluster", |_| {
            self.load_images()
        })?;
        self.images = Some(images.clone());
        Ok(images)
    }

    /// Installs the CRD and the operator, with only the RBAC that it ships.
    pub fn install_operator(&mut self, steps: &mut Steps) -> Result<()> {
        if self.has_pods() {
            self.give_images(steps)?;
        }
        steps.run("CRD and operator", |progress| {
            let crds = release::workspace().join("crds");
            self.kubectl.cmd("apply --server-side --force-conflicts -f").arg(crds).run()?;
            self.kubectl.crds_established()?;
            let manifest = std::fs::read_to_string(release::workspace().join("manifests/operator.yaml"))?;
            if let Some(images) = &self.images {
                let manifest = manifest.replace("image: recommendation-operator:0.1.0", &format!("image: {}", images.operator));
                self.kubectl.apply_text(&manifest, &self.file("operator.yaml"))?;
                progress.message("waiting for the operator's pod");
                let rollout = "rollout status deployment/recommendation-operator -n recommendation-system --timeout=120s";
                self.kubectl.cmd(rollout).timeout(Duration::from_secs(130)).run()?;
            } else {
                let rbac: Vec<&str> = manifest.split("\n---").filter(|doc| !doc.contains("\nkind: Deployment")).collect();
                self.kubectl.apply_text(&rbac.join("\n---"), &self.file("operator-rbac.yaml"))?;
                self.start_operator_process()?;
            }
            Ok(())
        })
    }

    /// Applies `manifests/quickstart.yaml`, with this place's addresses and image.
    pub fn apply_pipeline(&self, steps: &mut Steps) -> Result<()> {
        let quickstart = release::workspace().join("manifests/quickstart.yaml");
        steps.run("manifests/quickstart.yaml applied", |progress| {
            let text = self
                .kubectl
                .cmd("create --dry-run=client -o json -f")
                .arg(&quickstart)
                .run()?;
            let mut object: Value = serde_json::from_str(&text).context("quickstart.yaml as JSON")?;
            object["spec"]["kafka"]["bootstrapServers"] = json!([self.kafka_in_cluster]);
            let mut changed = format!("kafka.bootstrapServers: [{}]", self.kafka_in_cluster);
            if let Some(redis) = &self.redis_in_cluster {
                object["spec"]["recommender"]["cache"] =
                    json!({"redis": {"url": format!("redis://{redis}")}});
                changed += &format!(", recommender.cache.redis.url: redis://{redis}");
            }
            if let Some(images) = &self.images {
                object["spec"]["recommender"]["image"] = json!(images.recommender);
                changed += &format!(", recommender.image: {}", images.recommender);
            }
            let rules = json!({"excludeProducts": NOT_PRODUCTS});
            changed += &format!(", recommender.rules: {rules}");
            object["spec"]["recommender"]["rules"] = rules;
            progress.line(&format!("  with the addresses of this place: {changed}"));
            self.kubectl
                .apply_text(&object.to_string(), &self.file("pipeline.json"))?;
            Ok(())
        })
    }

    /// The HTTP API with a token that may do what the demo does; starts the recommender first where it is no pod.
    pub fn connect(&self, steps: &mut Steps) -> Result<Api> {
        let base = if !self.has_pods() {
            steps.run("Recommender as a local process", |_| {
                self.start_recommender_process()
            })?;
            format!("http://127.0.0.1:{PORT}")
        } else if self.stack().is_some() {
            let service = self.kubectl.json(&format!("get service {PIPELINE}"))?;
            let port = service
                .pointer("/spec/ports/0/port")
                .and_then(Value::as_u64)
                .unwrap_or(80);
            let address = service
                .pointer("/spec/clusterIP")
                .and_then(Value::as_str)
                .context("Service without clusterIP")?;
            format!("http://{address}:{port}")
        } else {
            let forward = Daemon::new(
                "port-forward",
                command::find("kubectl").context("no kubectl in PATH")?,
            )
            .args([
                "port-forward",
                &format!("service/{PIPELINE}"),
                &format!("{PORT}:80"),
            ]);
            self.processes().start(&forward)?;
            format!("http://127.0.0.1:{PORT}")
        };
        let token = self.token()?;
        let api = Api::new(&base, Some(token));
        self.kubectl
            .until("the HTTP API answers", Duration::from_secs(60), || {
                let answer = api.get("/v1/trending?limit=1")?;
                Ok(match answer.status {
                    200 => crate::kubectl::Poll::Done(()),
                    status => crate::kubectl::Poll::Waiting(format!("HTTP {status}")),
                })
            })?;
        Ok(api)
    }

    /// `/status` of every replica.
    pub fn statuses(&self) -> Result<Vec<Value>> {
        if !self.has_pods() {
            return Ok(vec![
                Api::new(&format!("http://127.0.0.1:{INTERNAL_PORT}"), None)
                    .get("/status")?
                    .json()?,
            ]);
        }
        self.pods()?
            .iter()
            .map(|pod| {
                let text = self.kubectl.run(&format!(
                    "get --raw /api/v1/namespaces/default/pods/{pod}:9090/proxy/status"
                ))?;
                serde_json::from_str(&text).with_context(|| format!("/status of {pod}"))
            })
            .collect()
    }

    /// Requests to `route` that a pod has answered since its start.
    pub fn requests_served(&self, pod: &str, route: &str) -> Result<f64> {
        let text = self.kubectl.run(&format!(
            "get --raw /api/v1/namespaces/default/pods/{pod}:9090/proxy/metrics"
        ))?;
        let label = format!("route=\"{route}\"");
        let counters = text
            .lines()
            .filter(|line| line.starts_with("recommender_http_requests_total{") && line.contains(&label));
        Ok(counters
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    /// Names of the recommender's pods.
    pub fn pods(&self) -> Result<Vec<String>> {
        let selector = format!("app.kubernetes.io/instance={PIPELINE},app.kubernetes.io/name=recommender");
        let names = self.kubectl.run(&format!(
            "get pods -l {selector} --field-selector=status.phase=Running -o name"
        ))?;
        Ok(names
            .lines()
            .map(|name| name.trim_start_matches("pod/").to_owned())
            .collect())
    }

    fn token(&self) -> Result<String> {
        let dir = self.secret_files(&format!("{PIPELINE}-jwt"), "token")?;
        let token = Cmd::new(&self.binaries.recommender)
            .args([
                "token",
                "--user",
                "demo",
                "--scope",
                "recommendations:read",
                "--scope",
                "events:write",
            ])
            .args(["--scope", "catalog:write", "--secret-file"])
            .arg(dir.join("secret"))
            .run()
            .context("making a token from the Secret that the operator made")?;
        std::fs::remove_dir_all(dir).ok();
        Ok(token.trim().to_owned())
    }

    fn load_images(&self) -> Result<Images> {
        if let Kind::Current {
            registry: Some(registry),
            ..
        } = &self.kind
        {
            let name = |program: &str| format!("{registry}/{program}:0.1.0");
            return Ok(Images {
                operator: name("recommendation-operator"),
                recommender: name("recommender"),
            });
        }
        let load = |program: &str, binary: &Path| -> Result<String> {
            let built = images::of_program(program, binary)?;
            match &self.kind {
                Kind::Local(_) => node::import(&built.path)?,
                Kind::Current { context, .. } => images::load_into(context, &built.path)?,
            }
            Ok(built.name)
        };
        Ok(Images {
            operator: load("recommendation-operator", &self.binaries.operator)?,
            recommender: load("recommender", &self.binaries.recommender)?,
        })
    }

    pub(super) fn processes(&self) -> Processes {
        match &self.kind {
            Kind::Local(stack) => stack.run.processes(),
            Kind::Current { .. } => Processes::new(&self.dir),
        }
    }
}

/// Removes what a demo put into somebody's own cluster, if one did.
pub fn leave_current(steps: &mut Steps) -> Result<()> {
    let dir = current_dir()?;
    let Ok(context) = std::fs::read_to_string(dir.join("context")) else {
        return Ok(());
    };
    steps.run(&format!("Removed from context {context}"), |_| {
        let processes = Processes::new(&dir);
        for name in processes.names() {
            processes.stop(&name, Signal::TERM)?;
        }
        let program = command::find("kubectl").context("no kubectl in PATH")?;
        let delete = |what: &[&std::ffi::OsStr]| {
            let command = Cmd::new(&program).args(["--context", &context, "delete", "--ignore-not-found"]);
            command.args(what).timeout(Duration::from_secs(120)).run()
        };
        delete(&["recpipe".as_ref(), PIPELINE.as_ref()])?;
        delete(&["-f".as_ref(), dir.join("operator.yaml").as_os_str()])?;
        delete(&["-f".as_ref(), release::workspace().join("crds").as_os_str()])?;
        remove_all(&dir)
    })
}

/// What the demo keeps about somebody's own cluster.
fn current_dir() -> Result<PathBuf> {
    Ok(Paths::from_env()?.cache().join("current"))
}
