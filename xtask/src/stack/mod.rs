//! The local stack: real Kubernetes, Kafka and Redis on one machine, as a user may run them, with no daemon of another
//! kind in between. Everything a run starts is stopped by its own process ids.

pub mod certs;
pub mod control_plane;
pub mod kafka;
mod kafka_nodes;
pub mod kafka_security;
pub mod kafka_tools;
mod machine_before;
pub mod network;
pub mod node;
mod node_cleanup;
mod node_config;
pub mod process;
pub mod redis;
pub mod run;

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};

use self::process::Signal;
use self::run::{Ports, Run, Settings};
use crate::build::{self, Needed};
use crate::paths::{Paths, remove_all};
use crate::progress::Steps;

/// Whether a run has a real node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeMode {
    /// Where possible: as root on Linux. Where not, the reason is printed.
    Auto,
    /// Only the control plane.
    Off,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// The run's name: runs of other names stand beside it, on other ports.
    pub run_name: String,
    /// Whether etcd and the API server run.
    pub kubernetes: bool,
    /// Whether there is a real node.
    pub node: NodeMode,
    /// Whether the controller manager and the scheduler run; without them, only the API.
    pub controllers: bool,
    /// Whether Kafka runs.
    pub kafka: bool,
    /// Of how many nodes it consists: one, or three that survive the loss of one.
    pub kafka_nodes: u16,
    /// Whether Redis runs.
    pub redis: bool,
    /// Whether Kafka also listens behind TLS and logins.
    pub kafka_secured: bool,
    /// Its ports.
    pub ports: Ports,
}

impl Default for StackOptions {
    fn default() -> Self {
        Self {
            run_name: "demo".to_owned(),
            kubernetes: true,
            node: NodeMode::Auto,
            controllers: true,
            kafka: true,
            kafka_nodes: 1,
            redis: true,
            kafka_secured: false,
            ports: Ports::default(),
        }
    }
}

impl StackOptions {
    /// What has to be built or fetched for these options.
    #[must_use]
    pub fn needed(&self) -> Needed {
        Needed {
            kubernetes: self.kubernetes,
            pause: self.with_node().is_ok(),
            kafka: self.kafka,
        }
    }

    /// Whether there will be a real node, or why not.
    ///
    /// # Errors
    /// The reason, in words for the user.
    pub fn with_node(&self) -> std::result::Result<(), String> {
        match self.node {
            NodeMode::Off => Err("not asked for".to_owned()),
            NodeMode::Auto if !(self.kubernetes && self.controllers) => {
                Err("there is no scheduler to give it pods".to_owned())
            }
            NodeMode::Auto => node::possible(),
        }
    }
}

/// A running stack, and how to reach its parts.
#[derive(Clone, Debug)]
pub struct Stack {
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The `kubectl` that was built with the stack.
    pub kubectl: PathBuf,
    /// Kafka for programs of this machine: `127.0.0.1:9092`; of several nodes, all, with commas between.
    pub kafka_host: String,
    /// Every write that the API server saw, a JSON object a line.
    pub audit_log: PathBuf,
    /// Kafka for pods: `172.30.77.1:9094`; without a node, as for programs.
    pub kafka_pods: String,
    /// Redis for programs of this machine: `127.0.0.1:6379`.
    pub redis_host: String,
    /// Redis for pods; without a node, as for programs.
    pub redis_pods: String,
    /// Whether there is a real node.
    pub node: bool,
    /// The run, for stopping and starting single parts.
    pub run: Run,
}

impl Stack {
    /// Starts what does not run yet, and waits until all of it is ready. A part that runs with the same
    /// configuration is left alone.
    ///
    /// # Errors
    /// When a part cannot be built or started; what was started then keeps running, for its logs to be read, until
    /// [`Stack::down`].
    pub fn up(options: &StackOptions, steps: &mut Steps) -> Result<Self> {
        let paths = Paths::from_env()?;
        build::ensure(&paths, options.needed(), steps)?;
        let _lock = Run::lock(&paths, &options.run_name)?;
        let node = match options.with_node() {
            Ok(()) => true,
            Err(reason) => {
                if options.node == NodeMode::Auto {
                    eprintln!("No real Kubernetes node: {reason}.");
                }
                false
            }
        };
        if node && let Some(owner) = node::owner(&paths)?.filter(|owner| *owner != options.run_name) {
            bail!(
                "the node belongs to run `{owner}`, which is up: `cargo xtask stack down --run {owner}` first"
            );
        }
        let settings = Settings {
            ports: options.ports,
            kubernetes: options.kubernetes,
            node,
            controllers: options.kubernetes && options.controllers,
            kafka: options.kafka,
            kafka_nodes: options.kafka_nodes,
            redis: options.redis,
            kafka_secured: options.kafka && options.kafka_secured,
        };
        stop_what_changed(&paths, &options.run_name, &settings)?;
        let run = Run::create(&paths, &options.run_name, settings)?;
        if node {
            steps.run("Network of the node", |_| node::prepare(&run))?;
        }
        if options.kubernetes {
            steps.run("Certificates", |_| certs::ensure(&run))?;
        }
        std::thread::scope(|scope| {
            // Kafka's start is mostly waiting: it goes on beside the others.
            let kafka = options.kafka.then(|| scope.spawn(|| kafka::start(&run)));
            if options.redis {
                steps.run("Redis", |_| redis::start(&run))?;
            }
            if options.kubernetes {
                steps.run("Kubernetes API server", |_| {
                    control_plane::start_servers(&run)?;
                    control_plane::wait_servers(&run)
                })?;
            }
            if run.settings().controllers {
                steps.run("Controller manager and scheduler", |_| {
                    control_plane::start_controllers(&run)?;
                    control_plane::wait_controllers(&run)
                })?;
            }
            if node {
                steps.run("Node", |progress| node::start(&run, progress))?;
            }
            if let Some(kafka) = kafka {
                steps.run("Kafka", |_| {
                    kafka.join().map_err(|_| anyhow!("starting Kafka panicked"))?
                })?;
            }
            Ok(())
        })
        .map(|()| Self::of(&run))
    }

    /// How to reach the parts of a run, running or not.
    #[must_use]
    pub fn of(run: &Run) -> Self {
        let settings = run.settings();
        let ports = &settings.ports;
        let host = |port: u16| format!("127.0.0.1:{port}");
        Self {
            kubeconfig: run.dir().join("pki").join(format!("{}.kubeconfig", certs::ADMIN)),
            kubectl: run.paths().kubernetes("kubectl"),
            kafka_host: kafka::servers(run).join(","),
            audit_log: run.path(control_plane::AUDIT_LOG).into(),
            kafka_pods: kafka::servers_for_pods(run).join(","),
            redis_host: host(ports.redis),
            redis_pods: if settings.node {
                format!("{}:{}", network::HOST, ports.redis)
            } else {
                host(ports.redis)
            },
            node: settings.node,
            run: run.clone(),
        }
    }

    /// The run `name`, if its API server runs.
    ///
    /// # Errors
    /// When its settings cannot be read.
    pub fn running(name: &str) -> Result<Option<Self>> {
        let Some(run) = Run::open(&Paths::from_env()?, name)? else {
            return Ok(None);
        };
        if run.processes().alive("kube-apiserver").is_none() {
            return Ok(None);
        }
        Ok(Some(Self::of(&run)))
    }

    /// Stops everything of a run: every process with a pid file in its folder, the node's pods, its network, and puts
    /// back what the node changed on the machine. `wipe` also removes its data, certificates and logs; built servers stay.
    /// Returns whether anything of it was there.
    ///
    /// # Errors
    /// When a part does not end, or something cannot be put back; the other parts are stopped all the same.
    pub fn down(run_name: &str, wipe: bool) -> Result<bool> {
        let paths = Paths::from_env()?;
        let _lock = Run::lock(&paths, run_name)?;
        let Some(run) = Run::open(&paths, run_name)? else {
            return Ok(false);
        };
        let mut problems = stop_all(&run);
        problems.extend(node::down(&run).err());
        if wipe && problems.is_empty() {
            problems.extend(remove_all(run.dir()).err());
        }
        match problems
            .into_iter()
            .reduce(|all, next| anyhow!("{all:#}\n{next:#}"))
        {
            None => Ok(true),
            Some(problems) => Err(problems).with_context(|| format!("stopping run `{run_name}`")),
        }
    }
}

/// Stops every daemon of a run but the node's container runtime, which [`node::down`] still needs: first what was
/// started on top of the stack, then the node, then the servers.
fn stop_all(run: &Run) -> Vec<anyhow::Error> {
    let processes = run.processes();
    let order: Vec<&str> = [node::KUBELET, node::KUBE_PROXY]
        .into_iter()
        .chain(control_plane::DAEMONS)
        .chain([redis::DAEMON])
        .collect();
    let names = processes.names();
    let guests = names
        .iter()
        .map(String::as_str)
        .filter(|name| !order.contains(name) && *name != node::CONTAINERD && !kafka::is_daemon(name));
    guests
        .chain(order.iter().copied())
        .filter_map(|name| processes.stop(name, Signal::TERM).err())
        .chain(kafka::stop(run, None, Signal::TERM).err())
        .collect()
}

/// When a run comes up with other settings than before (with a node, on other ports), what runs of it is stopped first.
fn stop_what_changed(paths: &Paths, name: &str, settings: &Settings) -> Result<()> {
    let Some(before) = Run::open(paths, name)? else {
        return Ok(());
    };
    if before.settings() == settings {
        return Ok(());
    }
    stop_all(&before).into_iter().next().map_or(Ok(()), Err)?;
    node::down(&before)
}

/// A table of a run's daemons: name, process id or "stopped", log. One that the run consists of is listed even when
/// it left no trace.
#[must_use]
pub fn status(run: &Run) -> String {
    let (processes, settings) = (run.processes(), run.settings());
    let mut names = processes.names();
    let parts = [
        (settings.kubernetes, vec!["etcd", "kube-apiserver"]),
        (
            settings.controllers,
            vec!["kube-controller-manager", "kube-scheduler"],
        ),
        (
            settings.node,
            vec![node::CONTAINERD, node::KUBELET, node::KUBE_PROXY],
        ),
        (settings.redis, vec![redis::DAEMON]),
    ];
    for (_, daemons) in parts.into_iter().filter(|(wanted, _)| *wanted) {
        names.extend(daemons.into_iter().map(str::to_owned));
    }
    if settings.kafka {
        names.extend(kafka::daemons(run));
    }
    names.sort();
    names.dedup();
    let mut table = String::new();
    for name in names {
        let state = processes
            .alive(&name)
            .map_or("stopped".to_owned(), |pid| format!("pid {pid}"));
        table += &format!("  {name:<26} {state:<12} {}\n", processes.log(&name).display());
    }
    table
}
