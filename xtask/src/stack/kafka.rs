//! Apache Kafka: one node in KRaft mode, broker and controller in one process. It listens on loopback and, when there is
//! a real node, on the address at which pods reach this machine.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::process::{Daemon, Signal};
use super::run::{Run, check_free};
use super::{kafka_security, network};
use crate::command::{Cmd, find};
use crate::paths::write;

/// The daemon's name.
pub const DAEMON: &str = "kafka";

/// Ready in about 10 seconds on two free cores.
const READY: Duration = Duration::from_secs(180);

/// Starts Kafka, formats its storage before the first time, and waits until it is ready. Topics of an earlier
/// life are kept.
///
/// # Errors
/// When Java is missing, a port is taken, or Kafka dies or takes too long.
pub fn start(run: &Run) -> Result<()> {
    ensure!(
        find("java").is_some(),
        "Java 17 or newer is needed for Kafka: `apt-get install default-jre-headless`"
    );
    let ports = &run.settings().ports;
    let processes = run.processes();
    if processes.alive(DAEMON).is_none() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        check_free("Kafka", loopback, ports.kafka)?;
        check_free("Kafka", loopback, ports.kafka_controller)?;
        if run.settings().node {
            check_free("Kafka", network::HOST.into(), ports.kafka_pods)?;
        }
        for port in kafka_security::ports(run) {
            check_free("Kafka", loopback, port)?;
        }
    }
    kafka_security::ensure(run)?;
    let properties = run.dir().join("kafka/server.properties");
    let daemon = java(run)
        .args(["-Xms256m", "-Xmx256m", "-XX:MaxDirectMemorySize=128m"])
        .args([
            format!("-Dkafka.logs.dir={}", run.path("kafka/logs")),
            "kafka.Kafka".to_owned(),
        ])
        .args([properties.to_string_lossy()])
        .config(properties.clone(), server_properties(run));
    if !run.dir().join("kafka/data/meta.properties").exists() {
        write(&properties, &server_properties(run))?;
        format(run)?;
    }
    processes.start(&daemon)?;
    let log = processes.log(DAEMON);
    processes.wait_ready(DAEMON, READY, || {
        fs::read(&log).is_ok_and(|log| String::from_utf8_lossy(&log).contains("Kafka Server started"))
    })?;
    Ok(())
}

/// Stops Kafka: `Signal::TERM` closes it in order, `Signal::KILL` is a crash. Its data stays. Returns whether it ran.
///
/// # Errors
/// When it does not end.
pub fn stop(run: &Run, signal: Signal) -> Result<bool> {
    run.processes().stop(DAEMON, signal)
}

/// Kafka's JVM: starts fast and keeps small, for a machine that has other things to do.
fn java(run: &Run) -> Daemon {
    let kafka = run.paths().kafka_dir();
    Daemon::new(DAEMON, find("java").unwrap_or_else(|| "java".into())).args([
        "-XX:+UseSerialGC".to_owned(),
        // Without it Kafka 4 logs nothing, and nothing would tell when it has started.
        format!(
            "-Dlog4j2.configurationFile={}",
            kafka.join("log4j2.properties").display()
        ),
        "-cp".to_owned(),
        format!("{}/*", kafka.join("libs").display()),
    ])
}

fn format(run: &Run) -> Result<()> {
    let mut id = [0_u8; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut id))
        .context("making a cluster id")?;
    let cluster_id = cluster_id(id);
    let java = java(run);
    Cmd::new(&java.program)
        .args(["-Xmx64m", "-XX:TieredStopAtLevel=1"])
        .args(&java.args)
        .args(["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t"])
        .arg(cluster_id)
        .arg("-c")
        .arg(run.dir().join("kafka/server.properties"))
        .args(kafka_security::users(run))
        .timeout(Duration::from_secs(120))
        .run()
        .context("formatting Kafka's storage")?;
    Ok(())
}

/// Sixteen random bytes as Kafka writes ids. One that began with a dash would be taken for an option, by the storage tool
/// and by every other one.
fn cluster_id(mut random: [u8; 16]) -> String {
    random[0] &= 0x7f;
    URL_SAFE_NO_PAD.encode(random)
}

fn server_properties(run: &Run) -> String {
    let ports = &run.settings().ports;
    let mut clients = format!("PLAINTEXT://127.0.0.1:{}", ports.kafka);
    if run.settings().node {
        clients += &format!(",PODS://{}:{}", network::HOST, ports.kafka_pods);
    }
    clients += &kafka_security::listeners(run);
    let controller = ports.kafka_controller;
    // One node: every internal topic has one replica.
    let properties = [
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", "1".to_owned()),
        ("controller.quorum.voters", format!("1@127.0.0.1:{controller}")),
        (
            "listeners",
            format!("{clients},CONTROLLER://127.0.0.1:{controller}"),
        ),
        ("advertised.listeners", clients),
        ("inter.broker.listener.name", "PLAINTEXT".to_owned()),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        (
            "listener.security.protocol.map",
            "PLAINTEXT:PLAINTEXT,PODS:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned()
                + &kafka_security::protocols(run),
        ),
        ("log.dirs", run.path("kafka/data")),
        ("num.partitions", "1".to_owned()),
        ("auto.create.topics.enable", "false".to_owned()),
        ("default.replication.factor", "1".to_owned()),
        ("min.insync.replicas", "1".to_owned()),
        ("offsets.topic.replication.factor", "1".to_owned()),
        ("offsets.topic.num.partitions", "3".to_owned()),
        ("transaction.state.log.replication.factor", "1".to_owned()),
        ("transaction.state.log.min.isr", "1".to_owned()),
        ("transaction.state.log.num.partitions", "3".to_owned()),
        ("share.coordinator.state.topic.replication.factor", "1".to_owned()),
        ("share.coordinator.state.topic.min.isr", "1".to_owned()),
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

    #[test]
    fn no_cluster_id_begins_like_an_option() {
        for first in 0..=u8::MAX {
            let mut random = [0xff; 16];
            random[0] = first;
            let id = cluster_id(random);
            assert_eq!(id.len(), 22);
            assert!(id.starts_with(|c: char| c.is_ascii_alphanumeric()), "{id}");
        }
    }
}
