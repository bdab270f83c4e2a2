//! A real node, `node1`: containerd, runc, kubelet and kube-proxy in a network namespace of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::certs::{KUBELET as KUBELET_USER, NODE_NAME};
use super::process::{Daemon, Processes};
use super::run::Run;
use super::{control_plane, machine_before, network, node_cleanup, node_config};
use crate::command::{Cmd, find};
use crate::paths::Paths;
use crate::progress::Progress;

/// The kubelet's daemon name.
pub const KUBELET: &str = "kubelet";
/// kube-proxy's daemon name.
pub const KUBE_PROXY: &str = "kube-proxy";
/// The container runtime's daemon name.
pub const CONTAINERD: &str = "containerd";

/// The parent control group of all pods, so that `/kubepods` does not land at the top of the machine's.
pub(super) const CGROUP: &str = "recstack-node1";

/// Where Debian's and other distributions' packages put CNI plugins.
const CNI_PLUGINS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

const READY: Duration = Duration::from_secs(120);

/// Sockets and mounts of containers: outside the cache folder, for a socket's path may not be long.
pub(super) fn runtime_dir() -> PathBuf {
    PathBuf::from("/run/recommendation-stack/node1")
}

/// containerd's socket.
pub(super) fn socket() -> PathBuf {
    runtime_dir().join("containerd.sock")
}

/// Whether this machine and user can have a real node.
///
/// # Errors
/// The reason why not, in words for the user.
pub fn possible() -> std::result::Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Err("that needs Linux".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        return Err("that needs root (containers, a network namespace, routes)".to_owned());
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !may_administer(&status) {
        return Err(
            "this root may not administer networks and mounts (CAP_NET_ADMIN, CAP_SYS_ADMIN)".to_owned(),
        );
    }
    Ok(())
}

/// Whether the effective capabilities in `/proc/self/status` hold `CAP_NET_ADMIN` (12) and `CAP_SYS_ADMIN` (21).
fn may_administer(status: &str) -> bool {
    let needed = 1_u64 << 12 | 1 << 21;
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .is_some_and(|bits| bits & needed == needed)
}

/// The run whose node is up: there is one node on a machine.
///
/// # Errors
/// When the settings of a run cannot be read.
pub fn owner(paths: &Paths) -> Result<Option<String>> {
    let runs = Run::all(paths)?;
    let owner = runs.iter().find(|run| {
        let processes = run.processes();
        [KUBELET, KUBE_PROXY, CONTAINERD]
            .iter()
            .any(|name| processes.alive(name).is_some())
    });
    Ok(owner.map(|run| run.name().to_owned()))
}

/// Remembers what the node will change on the machine, then makes its network and control group.
///
/// # Errors
/// When the network cannot be made, or the memory not be written.
pub fn prepare(run: &Run) -> Result<()> {
    machine_before::remember(run)?;
    network::up()?;
    fs::create_dir_all(runtime_dir()).context("making the node's runtime folder")?;
    cgroup(Path::new("/sys/fs/cgroup"))
}

/// Starts the node's daemons and waits until Kubernetes calls it Ready.
///
/// # Errors
/// When one dies or the node is not Ready in time.
pub fn start(run: &Run, progress: &Progress) -> Result<()> {
    let processes = run.processes();
    for folder in ["cni", "kubelet", "podlogs"] {
        fs::create_dir_all(run.dir().join("node").join(folder)).context("making the node's folders")?;
    }
    progress.message("containerd");
    start_containerd(run, &processes)?;
    import(&run.paths().pause_dir().join("pause.tar"))?;
    let last_report = condition(run, "lastHeartbeatTime");
    progress.message("kubelet and kube-proxy");
    // Until the new kubelet has reported, Kubernetes shows what the one before it said last.
    let stale = if processes.start(&kubelet(run))? {
        Some(last_report)
    } else {
        None
    };
    processes.start(&kube_proxy(run))?;
    progress.message("waiting for Ready");
    processes.wait_ready(KUBELET, READY, || {
        condition(run, "status").as_deref() == Some("True")
            && stale
                .as_ref()
                .is_none_or(|last_report| condition(run, "lastHeartbeatTime") != *last_report)
    })?;
    // A proxy that died would leave a node that is Ready and Services that lead nowhere.
    processes.wait_ready(KUBE_PROXY, READY, || {
        Cmd::new("nsenter")
            .args([
                &format!("--net=/run/netns/{}", network::NAMESPACE),
                "nft",
                "list",
                "table",
                "ip",
                "kube-proxy",
            ])
            .succeeds()
    })?;
    Ok(())
}

fn start_containerd(run: &Run, processes: &Processes) -> Result<()> {
    let program = find("containerd").context("containerd is needed: `apt-get install containerd`")?;
    let plugins = CNI_PLUGINS
        .into_iter()
        .find(|dir| Path::new(dir).join("bridge").exists())
        .context("CNI plugins are needed: `apt-get install containernetworking-plugins`")?;
    let config = run.dir().join("node/containerd.toml");
    let mut daemon = Daemon::new(CONTAINERD, program)
        .args(["-c".to_owned(), config.to_string_lossy().into_owned()])
        .config(config, node_config::containerd(run, plugins))
        .config(
            run.dir().join("node/cni/10-recstack.conflist"),
            node_config::cni(run),
        )
        // Pods ask nobody: there is no DNS server.
        .config(
            run.dir().join("node/resolv.conf"),
            "nameserver 127.0.0.1\n".to_owned(),
        );
    daemon.netns = Some(network::NAMESPACE.to_owned());
    processes.start(&daemon)?;
    processes.wait_ready(CONTAINERD, READY, || ctr().arg("version").succeeds())?;
    Ok(())
}

/// Gives an image archive to the node.
///
/// # Errors
/// When the node's containerd does not run or refuses the archive.
pub fn import(archive: &Path) -> Result<()> {
    ctr()
        .args(["images", "import"])
        .arg(archive)
        .timeout(Duration::from_secs(120))
        .run()
        .with_context(|| format!("giving {} to the node", archive.display()))?;
    Ok(())
}

/// containerd's command line, for the namespace that Kubernetes uses.
pub(super) fn ctr() -> Cmd {
    Cmd::new("ctr")
        .arg("--address")
        .arg(socket())
        .args(["--namespace", "k8s.io"])
}

/// A field of the node's Ready condition; `None` while there is no such node.
fn condition(run: &Run, field: &str) -> Option<String> {
    let jsonpath = format!(r#"-o=jsonpath={{.status.conditions[?(@.type=="Ready")].{field}}}"#);
    control_plane::kubectl(run)
        .args(["get", "node", NODE_NAME, &jsonpath])
        .run()
        .ok()
}

fn kubelet(run: &Run) -> Daemon {
    let config = run.dir().join("node/kubelet.yaml");
    let mut daemon = Daemon::new(KUBELET, run.paths().kubernetes("kubelet"))
        .args([
            format!("--config={}", config.display()),
            format!(
                "--kubeconfig={}",
                run.path(&format!("pki/{KUBELET_USER}.kubeconfig"))
            ),
            format!("--root-dir={}", run.path("node/kubelet")),
            format!("--cert-dir={}", run.path("pki")),
            format!("--hostname-override={NODE_NAME}"),
            format!("--node-ip={}", network::NODE),
            "--v=2".to_owned(),
        ])
        .config(config, node_config::kubelet(run));
    daemon.netns = Some(network::NAMESPACE.to_owned());
    daemon
}

fn kube_proxy(run: &Run) -> Daemon {
    let config = run.dir().join("node/kube-proxy.yaml");
    let mut daemon = Daemon::new(KUBE_PROXY, run.paths().kubernetes("kube-proxy"))
        .args([format!("--config={}", config.display()), "--v=2".to_owned()])
        .config(config, node_config::kube_proxy(run));
    daemon.netns = Some(network::NAMESPACE.to_owned());
    daemon
}

/// Makes the parent group in every hierarchy: the kubelet refuses a `cgroupRoot` that is missing in one.
fn cgroup(root: &Path) -> Result<()> {
    if root.join("cgroup.controllers").exists() {
        // Version 2: one hierarchy, and a group has the controllers that its parent hands on.
        let offered =
            fs::read_to_string(root.join("cgroup.controllers")).context("reading cgroup.controllers")?;
        for controller in offered.split_ascii_whitespace() {
            // One that cannot be handed on (a busy `rdma`, say) is not needed either: the kubelet names those that are.
            fs::write(root.join("cgroup.subtree_control"), format!("+{controller}")).ok();
        }
        return fs::create_dir_all(root.join(CGROUP)).context("making the pods' control group");
    }
    let known = fs::read_to_string("/proc/cgroups").context("reading /proc/cgroups")?;
    for hierarchy in hierarchies(&known) {
        let parent = root.join(hierarchy);
        if parent.is_dir() {
            fs::create_dir_all(parent.join(CGROUP))
                .with_context(|| format!("making the pods' control group for {hierarchy}"))?;
        }
    }
    // A new cpuset is empty, and nothing can run in an empty one.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let parent = root.join("cpuset");
        if let Ok(all) = fs::read_to_string(parent.join(file)) {
            fs::write(parent.join(CGROUP).join(file), all.trim())
                .with_context(|| format!("setting {file} of the pods' control group"))?;
        }
    }
    Ok(())
}

/// The names in `/proc/cgroups` that are switched on, and systemd's own hierarchy.
fn hierarchies(known: &str) -> Vec<&str> {
    known
        .lines()
        .filter(|line| !line.starts_with('#') && line.ends_with("\t1"))
        .filter_map(|line| line.split_ascii_whitespace().next())
        .chain(["systemd"])
        .collect()
}

/// Stops the node and puts back what it changed on the machine.
///
/// # Errors
/// When something does not end, or cannot be put back.
pub fn down(run: &Run) -> Result<()> {
    node_cleanup::down(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_that_are_switched_off_are_left_out() {
        let known = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nnet_cls\t0\t1\t0\n";
        assert_eq!(hierarchies(known), ["cpu", "systemd"]);
    }

    #[test]
    fn a_root_without_its_capabilities_gets_no_node() {
        assert!(may_administer("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(!may_administer("CapEff:\t00000000a80425fb\n"));
        assert!(!may_administer(""));
    }
}
