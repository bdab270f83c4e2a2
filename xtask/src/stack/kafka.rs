//! Apache Kafka in KRaft mode: one node, or three that survive the loss of one; each is broker and controller in one
//! process. They listen on loopback and, when there is a real node, on the address at which pods reach this machine.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::kafka_nodes::{Node, node, nodes, server_properties};
pub use super::kafka_nodes::{Proxied, daemons, is_daemon, proxied, servers, servers_for_pods};
use super::process::{Daemon, Signal};
use super::run::{Run, check_free};
use super::{kafka_security, network};
use crate::command::{Cmd, find};
use crate::paths::write;

/// Ready in about 10 seconds on two free cores, three nodes in 14.
const READY: Duration = Duration::from_secs(180);

/// Starts Kafka, formats its storage before the first time, and waits until it is ready. Topics of an earlier
/// life are kept.
///
/// # Errors
/// When Java is missing, a port is taken, or a node dies or takes too long.
pub fn start(run: &Run) -> Result<()> {
    kafka_security::ensure(run)?;
    let all = nodes(run);
    // All before the first is waited for: one alone has no quorum, and never gets ready.
    for node in &all {
        launch(*node)?;
    }
    all.into_iter().try_for_each(wait)
}

/// Starts one node again, and waits until it is ready.
///
/// # Errors
/// As [`start`], and when there is no such node.
pub fn start_node(run: &Run, number: u16) -> Result<()> {
    let node = node(run, number)?;
    launch(node)?;
    wait(node)
}

fn launch(node: Node<'_>) -> Result<()> {
    ensure!(
        find("java").is_some(),
        "Java 17 or newer is needed for Kafka: `apt-get install default-jre-headless`"
    );
    let run = node.run();
    let ports = &run.settings().ports;
    let processes = run.processes();
    if processes.alive(&node.daemon()).is_none() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        check_free("Kafka", loopback, node.port(ports.kafka))?;
        check_free("Kafka", loopback, node.port(ports.kafka_controller))?;
        if run.settings().node {
            check_free("Kafka", network::HOST.into(), node.port(ports.kafka_pods))?;
        }
        for port in kafka_security::ports(run) {
            check_free("Kafka", loopback, node.port(port))?;
        }
    }
    let properties = node.properties_file();
    let content = server_properties(node);
    let daemon = java(node)
        .args(["-Xms256m", "-Xmx256m", "-XX:MaxDirectMemorySize=128m"])
        .args([
            format!("-Dkafka.logs.dir={}", node.dir().join("logs").display()),
            "kafka.Kafka".to_owned(),
        ])
        .args([properties.to_string_lossy()])
        .config(properties.clone(), content.clone());
    if !node.dir().join("data/meta.properties").exists() {
        write(&properties, &content)?;
        format(node)?;
    }
    processes.start(&daemon).map(drop)
}

fn wait(node: Node<'_>) -> Result<()> {
    let processes = node.run().processes();
    processes
        .wait_ready(&node.daemon(), READY, || node.is_ready())
        .map(drop)
}

/// Stops Kafka, or one node of it: `Signal::TERM` closes it in order, `Signal::KILL` is a crash. Its data stays.
/// Returns whether it ran.
///
/// # Errors
/// When it does not end.
pub fn stop(run: &Run, number: Option<u16>, signal: Signal) -> Result<bool> {
    let stopped = match number {
        Some(number) => vec![node(run, number)?],
        None => nodes(run),
    };
    let processes = run.processes();
    // At once: the last of them would wait in vain for a quorum to take leave of.
    let results: Vec<Result<bool>> = std::thread::scope(|scope| {
        let threads: Vec<_> = stopped
            .into_iter()
            .map(|node| {
                let processes = &processes;
                scope.spawn(move || processes.stop(&node.daemon(), signal))
            })
            .collect();
        let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined
            .map(|result| result.map_err(|_| anyhow!("stopping Kafka panicked"))?)
            .collect()
    });
    let ran: Vec<bool> = results.into_iter().collect::<Result<_>>()?;
    Ok(ran.contains(&true))
}

/// Kafka's JVM: starts fast and keeps small, for a machine that has other things to do.
fn java(node: Node<'_>) -> Daemon {
    let kafka = node.run().paths().kafka_dir();
    Daemon::new(&node.daemon(), find("java").unwrap_or_else(|| "java".into())).args([
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

fn format(node: Node<'_>) -> Result<()> {
    let java = java(node);
    Cmd::new(&java.program)
        .args(["-Xmx64m", "-XX:TieredStopAtLevel=1"])
        .args(&java.args)
        .args(["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t"])
        .arg(kept_cluster_id(node.run())?)
        .arg("-c")
        .arg(node.properties_file())
        .args(kafka_security::users(node.run()))
        .timeout(Duration::from_secs(120))
        .run()
        .context("formatting Kafka's storage")?;
    Ok(())
}

/// The id that all nodes of a run are formatted with; made before the first.
fn kept_cluster_id(run: &Run) -> Result<String> {
    let file = run.dir().join("kafka-cluster-id");
    if let Ok(id) = fs::read_to_string(&file) {
        return Ok(id);
    }
    let mut random = [0_u8; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .context("making a cluster id")?;
    let id = cluster_id(random);
    write(&file, &id)?;
    Ok(id)
}

/// Sixteen random bytes as Kafka writes ids. One that began with a dash would be taken for an option, by the storage tool
/// and by every other one.
fn cluster_id(mut random: [u8; 16]) -> String {
    random[0] &= 0x7f;
    URL_SAFE_NO_PAD.encode(random)
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
