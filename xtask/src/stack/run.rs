//! One run of the stack: its folder, its ports, what it consists of.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::network;
use super::process::Processes;
use crate::paths::{Lock, Paths, write};

/// The ports of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// The API server.
    pub apiserver: u16,
    /// etcd's clients.
    pub etcd: u16,
    /// etcd's peers.
    pub etcd_peer: u16,
    /// The controller manager's health.
    pub controller_manager: u16,
    /// The scheduler's health.
    pub scheduler: u16,
    /// Kafka, for programs of this machine.
    pub kafka: u16,
    /// Kafka's own controller quorum.
    pub kafka_controller: u16,
    /// Kafka, for pods.
    pub kafka_pods: u16,
    /// Redis.
    pub redis: u16,
    /// Kafka behind TLS and logins, where it has that: this port and the next two.
    #[serde(default = "kafka_secured")]
    pub kafka_secured: u16,
    /// Kafka for clients that come through a proxy, where there are several nodes; the next port is the proxy's.
    #[serde(default = "kafka_proxied")]
    pub kafka_proxied: u16,
}

fn kafka_secured() -> u16 {
    9095
}

fn kafka_proxied() -> u16 {
    9098
}

fn one() -> u16 {
    1
}

fn yes() -> bool {
    true
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            apiserver: 6443,
            etcd: 2379,
            etcd_peer: 2380,
            controller_manager: 10_257,
            scheduler: 10_259,
            kafka: 9092,
            kafka_controller: 19_092,
            kafka_pods: 9094,
            redis: 6379,
            kafka_secured: kafka_secured(),
            kafka_proxied: kafka_proxied(),
        }
    }
}

impl Ports {
    /// The usual ports, each moved up by `offset`, so that a second run can stand beside the first.
    ///
    /// # Errors
    /// When a port would be above 65535.
    pub fn offset(offset: u16) -> Result<Self> {
        let mut ports = Self::default();
        for port in [
            &mut ports.apiserver,
            &mut ports.etcd,
            &mut ports.etcd_peer,
            &mut ports.controller_manager,
            &mut ports.scheduler,
            &mut ports.kafka,
            &mut ports.kafka_controller,
            &mut ports.kafka_pods,
            &mut ports.redis,
            &mut ports.kafka_secured,
            &mut ports.kafka_proxied,
        ] {
            *port = port
                .checked_add(offset)
                .with_context(|| format!("port {port} + {offset} is above 65535"))?;
        }
        Ok(ports)
    }
}

/// What a run consists of; kept in its folder, so that a part can be stopped and started alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Its ports.
    pub ports: Ports,
    /// Whether etcd and the API server run.
    #[serde(default = "yes")]
    pub kubernetes: bool,
    /// Whether it has a real node.
    pub node: bool,
    /// Whether the controller manager and the scheduler run.
    pub controllers: bool,
    /// Whether Kafka runs.
    pub kafka: bool,
    /// Of how many nodes it consists.
    #[serde(default = "one")]
    pub kafka_nodes: u16,
    /// Whether Redis runs.
    pub redis: bool,
    /// Whether Kafka also listens behind TLS and logins.
    #[serde(default)]
    pub kafka_secured: bool,
}

impl Settings {
    /// The address that the API server listens on: with a node, one that pods reach.
    #[must_use]
    pub fn server(&self) -> IpAddr {
        if self.node {
            network::HOST.into()
        } else {
            Ipv4Addr::LOCALHOST.into()
        }
    }

    /// The addresses that Kafka and Redis listen on.
    #[must_use]
    pub fn service_addresses(&self) -> Vec<IpAddr> {
        let mut addresses = vec![Ipv4Addr::LOCALHOST.into()];
        if self.node {
            addresses.push(network::HOST.into());
        }
        addresses
    }
}

/// One run: a folder with settings, data, certificates, logs and pid files.
#[derive(Clone, Debug)]
pub struct Run {
    paths: Paths,
    name: String,
    dir: PathBuf,
    settings: Settings,
}

impl Run {
    /// Makes or changes the run `name`.
    ///
    /// # Errors
    /// When the name is no plain folder name, or its folder cannot be written.
    pub fn create(paths: &Paths, name: &str, settings: Settings) -> Result<Self> {
        let dir = Self::folder(paths, name)?;
        write(
            &dir.join("settings.json"),
            &serde_json::to_string_pretty(&settings)?,
        )?;
        Ok(Self {
            paths: paths.clone(),
            name: name.to_owned(),
            dir,
            settings,
        })
    }

    /// The run `name` as it was made; `None` if there is none.
    ///
    /// # Errors
    /// When its settings cannot be read.
    pub fn open(paths: &Paths, name: &str) -> Result<Option<Self>> {
        let dir = Self::folder(paths, name)?;
        let text = match std::fs::read_to_string(dir.join("settings.json")) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading the settings of run {name}")),
        };
        let settings = serde_json::from_str(&text)
            .with_context(|| format!("the settings of run {name} in {} are damaged", dir.display()))?;
        Ok(Some(Self {
            paths: paths.clone(),
            name: name.to_owned(),
            dir,
            settings,
        }))
    }

    /// All runs that have a folder.
    ///
    /// # Errors
    /// When the settings of one cannot be read.
    pub fn all(paths: &Paths) -> Result<Vec<Self>> {
        let entries = std::fs::read_dir(paths.runs_dir())
            .into_iter()
            .flatten()
            .flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        let mut runs = Vec::new();
        for name in names.iter().filter(|name| !name.ends_with(".lock")) {
            runs.extend(Self::open(paths, name)?);
        }
        Ok(runs)
    }

    /// Waits for, and takes, the lock on starting and stopping a run.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn lock(paths: &Paths, name: &str) -> Result<Lock> {
        let dir = Self::folder(paths, name)?;
        std::fs::create_dir_all(paths.runs_dir()).context("making the folder of runs")?;
        // Beside the folder, not in it: wiping the run must not remove a lock that is held.
        Lock::take(
            &dir.with_extension("lock"),
            "another xtask is starting or stopping this run; waiting for it",
        )
    }

    fn folder(paths: &Paths, name: &str) -> Result<PathBuf> {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            bail!("a run's name is letters, digits and dashes, not `{name}`");
        }
        Ok(paths.runs_dir().join(name))
    }

    /// Where built servers lie.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it consists of.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its daemons.
    #[must_use]
    pub fn processes(&self) -> Processes {
        Processes::new(&self.dir)
    }

    /// A path in its folder, as text for a command line or a configuration file.
    #[must_use]
    pub fn path(&self, inner: &str) -> String {
        self.dir.join(inner).to_string_lossy().into_owned()
    }
}

/// Fails, with words for the user, when somebody else listens on the port: a daemon's own words would be in its log.
///
/// # Errors
/// When the port cannot be bound.
pub fn check_free(what: &str, address: IpAddr, port: u16) -> Result<()> {
    match TcpListener::bind((address, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "{what} needs port {port} on {address}, which another program uses (`ss -ltnp 'sport = :{port}'` shows which): \
             stop it, or move the whole stack with --port-offset"
        ),
        Err(error) => Err(error).with_context(|| format!("{what} cannot listen on {address}:{port}")),
    }
}

/// Whether something accepts connections there.
#[must_use]
pub fn accepts(address: IpAddr, port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::new(address, port), Duration::from_millis(500)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            ports: Ports::default(),
            kubernetes: true,
            node: false,
            controllers: true,
            kafka: true,
            kafka_nodes: 1,
            redis: true,
            kafka_secured: false,
        }
    }

    #[test]
    fn an_offset_moves_every_port_and_refuses_what_does_not_fit() {
        let ports = Ports::offset(1000).expect("fits");
        assert_eq!((ports.kafka, ports.scheduler), (10_092, 11_259));
        assert!(Ports::offset(60_000).is_err());
    }

    #[test]
    fn with_a_node_servers_listen_where_pods_reach_them() {
        let mut settings = settings();
        assert!(settings.server().is_loopback());
        settings.node = true;
        assert_eq!(settings.server(), IpAddr::from(network::HOST));
        assert_eq!(settings.service_addresses().len(), 2);
    }

    #[test]
    fn a_taken_port_is_named_with_what_needs_it() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
        let port = taken.local_addr().expect("bound").port();
        let error = check_free("Redis", Ipv4Addr::LOCALHOST.into(), port).expect_err("taken");
        assert!(
            error.to_string().contains(&format!("Redis needs port {port}")),
            "{error}"
        );
    }

    #[test]
    fn settings_survive_being_written() {
        let text = serde_json::to_string(&settings()).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Settings>(&text).expect("reads"),
            settings()
        );
    }
}
