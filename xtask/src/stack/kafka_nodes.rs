//! The nodes of a Kafka: their names, folders, ports and configuration.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::kafka_security;
use super::network;
use super::run::Run;

/// The first node's daemon; of further ones with their number behind it.
const DAEMON: &str = "kafka";
/// From the ports of one node to those of the next.
const PORTS_APART: u16 = 20;

/// One node, counted from 1.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    run: &'a Run,
    number: u16,
}

/// The addresses of one node for clients that come through a proxy: what it listens on, and what it tells clients,
/// where the proxy is to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// `host:port` that the proxy connects to.
    pub listens: String,
    /// `host:port` that clients are told.
    pub told: String,
}

/// The nodes of a run.
pub(super) fn nodes(run: &Run) -> Vec<Node<'_>> {
    (1..=run.settings().kafka_nodes)
        .map(|number| Node { run, number })
        .collect()
}

/// One of them.
///
/// # Errors
/// When there is no such node.
pub(super) fn node(run: &Run, number: u16) -> Result<Node<'_>> {
    let count = run.settings().kafka_nodes;
    ensure!(
        (1..=count).contains(&number),
        "Kafka has {count} node(s) here: there is no node {number}"
    );
    Ok(Node { run, number })
}

impl<'a> Node<'a> {
    pub(super) fn run(self) -> &'a Run {
        self.run
    }

    /// Its own port of a kind whose first is the first node's.
    pub(super) fn port(self, first: u16) -> u16 {
        first + (self.number - 1) * PORTS_APART
    }

    pub(super) fn daemon(self) -> String {
        match self.number {
            1 => DAEMON.to_owned(),
            further => format!("{DAEMON}-{further}"),
        }
    }

    /// Its folder, of the daemon's name.
    pub(super) fn dir(self) -> PathBuf {
        self.run.dir().join(self.daemon())
    }

    pub(super) fn properties_file(self) -> PathBuf {
        self.dir().join("server.properties")
    }

    pub(super) fn is_ready(self) -> bool {
        fs::read(self.run.processes().log(&self.daemon()))
            .is_ok_and(|log| String::from_utf8_lossy(&log).contains("Kafka Server started"))
    }

    pub(super) fn client(self) -> String {
        format!("127.0.0.1:{}", self.port(self.run.settings().ports.kafka))
    }

    pub(super) fn controller(self) -> String {
        format!(
            "127.0.0.1:{}",
            self.port(self.run.settings().ports.kafka_controller)
        )
    }

    pub(super) fn proxied(self) -> Proxied {
        let port = self.port(self.run.settings().ports.kafka_proxied);
        Proxied {
            listens: format!("127.0.0.1:{port}"),
            told: format!("127.0.0.1:{}", port + 1),
        }
    }
}

/// Whether a daemon is a node of Kafka.
#[must_use]
pub fn is_daemon(name: &str) -> bool {
    name.strip_prefix(DAEMON)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The names of all nodes' daemons.
#[must_use]
pub fn daemons(run: &Run) -> Vec<String> {
    nodes(run).into_iter().map(Node::daemon).collect()
}

/// Where programs of this machine find the nodes: `host:port` each.
#[must_use]
pub fn servers(run: &Run) -> Vec<String> {
    nodes(run).into_iter().map(Node::client).collect()
}

/// Where pods find the nodes; without a real node of Kubernetes, as programs do.
#[must_use]
pub fn servers_for_pods(run: &Run) -> Vec<String> {
    if !run.settings().node {
        return servers(run);
    }
    let first = run.settings().ports.kafka_pods;
    let address = |node: Node<'_>| format!("{}:{}", network::HOST, node.port(first));
    nodes(run).into_iter().map(address).collect()
}

/// Where a proxy may stand before each node; where there is more than one.
#[must_use]
pub fn proxied(run: &Run) -> Vec<Proxied> {
    let all = nodes(run);
    if all.len() == 1 {
        return Vec::new();
    }
    all.into_iter().map(Node::proxied).collect()
}

/// The file that Kafka reads.
pub(super) fn server_properties(node: Node<'_>) -> String {
    let run = node.run;
    let ports = &run.settings().ports;
    let all = nodes(run);
    let mut listeners = format!("PLAINTEXT://{}", node.client());
    if run.settings().node {
        listeners += &format!(",PODS://{}:{}", network::HOST, node.port(ports.kafka_pods));
    }
    listeners += &kafka_security::listeners(node);
    let mut advertised = listeners.clone();
    let mut protocols = "PLAINTEXT:PLAINTEXT,PODS:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned()
        + &kafka_security::protocols(run);
    if all.len() > 1 {
        let Proxied { listens, told } = node.proxied();
        listeners += &format!(",PROXIED://{listens}");
        advertised += &format!(",PROXIED://{told}");
        protocols += ",PROXIED:PLAINTEXT";
    }
    let voters: Vec<String> = all
        .iter()
        .map(|voter| format!("{}@{}", voter.number, voter.controller()))
        .collect();
    // What Kafka keeps for itself survives the loss of one node of three.
    let (copies, in_sync) = if all.len() >= 3 { ("3", "2") } else { ("1", "1") };
    let properties = [
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", node.number.to_string()),
        ("controller.quorum.voters", voters.join(",")),
        (
            "listeners",
            format!("{listeners},CONTROLLER://{}", node.controller()),
        ),
        ("advertised.listeners", advertised),
        ("inter.broker.listener.name", "PLAINTEXT".to_owned()),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("listener.security.protocol.map", protocols),
        ("log.dirs", node.dir().join("data").to_string_lossy().into_owned()),
        ("num.partitions", "1".to_owned()),
        ("auto.create.topics.enable", "false".to_owned()),
        ("default.replication.factor", copies.to_owned()),
        ("min.insync.replicas", in_sync.to_owned()),
        ("offsets.topic.replication.factor", copies.to_owned()),
        ("offsets.topic.num.partitions", "3".to_owned()),
        ("transaction.state.log.replication.factor", copies.to_owned()),
        ("transaction.state.log.min.isr", in_sync.to_owned()),
        ("transaction.state.log.num.partitions", "3".to_owned()),
        (
            "share.coordinator.state.topic.replication.factor",
            copies.to_owned(),
        ),
        ("share.coordinator.state.topic.min.isr", in_sync.to_owned()),
        ("share.coordinator.state.topic.num.partitions", "3".to_owned()),
        ("group.initial.rebalance.delay.ms", "0".to_owned()),
        ("num.network.threads", "2".to_owned()),
        ("num.io.threads", "2".to_owned()),
        ("background.threads", "2".to_owned()),
        ("log.segment.bytes", "16777216".to_owned()),
        ("log.cleaner.dedupe.buffer.size", "8388608".to_owned()),
    ];
    let all = properties.into_iter().chain(kafka_security::properties(run));
    all.fold(String::new(), |text, (key, value)| {
        text + key + "=" + &value + "\n"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(dir: &std::path::Path, kafka_nodes: u16) -> Run {
        let settings = crate::stack::run::Settings {
            ports: crate::stack::run::Ports::default(),
            kubernetes: false,
            node: false,
            controllers: false,
            kafka: true,
            kafka_nodes,
            redis: false,
            kafka_secured: true,
        };
        let paths = crate::paths::Paths::below(dir);
        Run::create(&paths, "nodes", settings).expect("writes")
    }

    #[test]
    fn nodes_have_ports_of_their_own_and_one_quorum() {
        let dir = tempfile::tempdir().expect("temp dir");
        let run = run(dir.path(), 3);
        let mut taken = Vec::new();
        for node in nodes(&run) {
            let properties = server_properties(node);
            assert!(
                properties.contains(
                    "controller.quorum.voters=1@127.0.0.1:19092,2@127.0.0.1:19112,3@127.0.0.1:19132\n"
                ),
                "{properties}"
            );
            assert!(properties.contains("\nmin.insync.replicas=2\n"), "{properties}");
            let listeners = properties
                .lines()
                .find_map(|line| line.strip_prefix("listeners="))
                .expect("listens");
            taken.extend(listeners.split(',').map(str::to_owned));
            taken.push(node.proxied().told);
        }
        let ports: std::collections::HashSet<_> = taken.iter().map(|one| one.rsplit(':').next()).collect();
        assert_eq!(ports.len(), taken.len(), "{taken:?}");
        assert_eq!(
            servers(&run).join(","),
            "127.0.0.1:9092,127.0.0.1:9112,127.0.0.1:9132"
        );
        assert!(
            node(&run, 4).is_err() && node(&run, 0).is_err(),
            "there are three"
        );
    }

    #[test]
    fn one_node_needs_no_second_copy_and_no_proxy() {
        let dir = tempfile::tempdir().expect("temp dir");
        let run = run(dir.path(), 1);
        let properties = server_properties(nodes(&run)[0]);
        assert!(
            properties.contains("\nmin.insync.replicas=1\n") && !properties.contains("PROXIED"),
            "{properties}"
        );
        assert!(proxied(&run).is_empty());
        assert!(is_daemon("kafka") && is_daemon("kafka-2") && !is_daemon("redis"));
    }
}
