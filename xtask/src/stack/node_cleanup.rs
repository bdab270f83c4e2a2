//! Stopping a node: its containers, mounts, network and control groups, then the machine as it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::machine_before::{self, Before};
use super::network;
use super::node::{self, CGROUP, CONTAINERD, KUBE_PROXY, KUBELET, ctr, runtime_dir, socket};
use super::run::Run;
use crate::command::Cmd;
use crate::paths::remove_all;

/// Stops the node and puts everything back. A run that never had a node is left alone.
pub(super) fn down(run: &Run) -> Result<()> {
    let Some(before) = Before::recall(run)? else {
        return Ok(());
    };
    if node::owner(run.paths())?.is_some_and(|owner| owner != run.name()) {
        // This run's node ended with the machine, and another run has one now: it will put things back.
        return machine_before::forget(run);
    }
    let processes = run.processes();
    processes.stop(KUBELET, Signal::TERM)?;
    processes.stop(KUBE_PROXY, Signal::TERM)?;
    if processes.alive(CONTAINERD).is_some() {
        remove_containers();
    }
    processes.stop(CONTAINERD, Signal::TERM)?;
    kill_shims();
    unmount(&[run.dir().join("node"), runtime_dir()])?;
    // Their interfaces go with them; their addresses are free again.
    for namespace in pod_namespaces()
        .into_iter()
        .filter(|name| !before.pod_namespaces.contains(name))
    {
        Cmd::new("ip")
            .args(["netns", "del", namespace.as_str()])
            .run()
            .context("removing a pod's namespace")?;
    }
    remove_all(&run.dir().join("node/ipam"))?;
    remove_cni_results(Path::new("/var/lib/cni/results"));
    network::down()?;
    for group in groups(CGROUP) {
        remove_group(&group)?;
    }
    for group in groups("k8s.io")
        .into_iter()
        .filter(|group| !before.containerd_groups.contains(group))
    {
        remove_group(&group)?;
    }
    before.restore_kernel()?;
    if !before.netns_mounted && mounts().iter().any(|mount| mount == Path::new("/run/netns")) {
        let last = fs::read_dir("/run/netns").is_ok_and(|mut entries| entries.next().is_none());
        if last {
            detach(Path::new("/run/netns"))?;
        }
    }
    remove_all(&runtime_dir())?;
    before.prune_folders();
    machine_before::forget(run)
}

/// Kills and removes every container in our containerd. What it does not manage, the steps after it do.
fn remove_containers() {
    let list = |kind: &str| -> Vec<String> {
        let listed = ctr()
            .args([kind, "ls", "-q"])
            .timeout(Duration::from_secs(20))
            .run()
            .unwrap_or_default();
        listed.lines().map(str::to_owned).collect()
    };
    for task in list("tasks") {
        ctr()
            .args(["tasks", "kill", "--signal", "SIGKILL", task.as_str()])
            .output()
            .ok();
    }
    for task in list("tasks") {
        ctr()
            .args(["tasks", "rm", "--force", task.as_str()])
            .output()
            .ok();
    }
    for container in list("containers") {
        ctr().args(["containers", "rm", container.as_str()]).output().ok();
    }
}

/// Ends shims that are left: only those whose command line names our own socket.
fn kill_shims() {
    let ours = socket();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            .and_then(Pid::from_raw)
        else {
            continue;
        };
        let command_line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if is_our_shim(&command_line, &ours) {
            // It may have ended since.
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

fn is_our_shim(command_line: &[u8], socket: &Path) -> bool {
    let words: Vec<&str> = command_line
        .split(|byte| *byte == 0)
        .map(|word| std::str::from_utf8(word).unwrap_or(""))
        .collect();
    words[0]
        .rsplit('/')
        .next()
        .is_some_and(|name| name.starts_with("containerd-shim"))
        && words.iter().any(|word| Path::new(word) == socket)
}

/// Where something is mounted, in the order of mounting.
pub(super) fn mounts() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        // The kernel writes a blank as its octal code.
        .map(|path| PathBuf::from(path.replace("\\040", " ")))
        .collect()
}

/// Unmounts everything below these folders, the last mounted first.
fn unmount(folders: &[PathBuf]) -> Result<()> {
    for mount in mounts()
        .iter()
        .rev()
        .filter(|mount| folders.iter().any(|folder| mount.starts_with(folder)))
    {
        detach(mount)?;
    }
    Ok(())
}

/// Unmounts by the system call: the `umount` command leaves a folder of its own in `/run`.
#[cfg(target_os = "linux")]
fn detach(mount: &Path) -> Result<()> {
    use rustix::mount::{UnmountFlags, unmount};
    unmount(mount, UnmountFlags::DETACH).with_context(|| format!("unmounting {}", mount.display()))
}

/// Elsewhere there is no node, and so nothing mounted for one.
#[cfg(not(target_os = "linux"))]
fn detach(_: &Path) -> Result<()> {
    Ok(())
}

/// Removes what CNI remembers of our pods: theirs are the names that begin with our network's.
fn remove_cni_results(results: &Path) {
    for entry in fs::read_dir(results).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(container) = name
            .strip_prefix("recstack-")
            .and_then(|rest| rest.strip_suffix("-eth0"))
        else {
            continue;
        };
        fs::remove_file(results.join(format!("cni-loopback-{container}-lo"))).ok();
        fs::remove_file(entry.path()).ok();
    }
}

/// Namespaces of pods, by the names that containerd gives them.
pub(super) fn pod_namespaces() -> Vec<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("cni-"))
        .collect()
}

/// The control groups of this name, at the top of every hierarchy.
pub(super) fn groups(name: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut groups: Vec<PathBuf> = hierarchies
        .chain([root.to_owned()])
        .map(|dir| dir.join(name))
        .filter(|dir| dir.is_dir())
        .collect();
    groups.sort();
    groups
}

/// Removes a control group and those in it, deepest first. Processes in it need a moment to be gone.
fn remove_group(group: &Path) -> Result<()> {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path())?;
        }
    }
    let mut last = Ok(());
    for _ in 0..50 {
        last = fs::remove_dir(group);
        if last.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    last.with_context(|| format!("removing the control group {}", group.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shims_of_our_own_socket_are_ours() {
        let socket = Path::new("/run/ours/containerd.sock");
        let ours =
            b"/usr/bin/containerd-shim-runc-v2\0-namespace\0k8s.io\0-address\0/run/ours/containerd.sock\0";
        let theirs = b"/usr/bin/containerd-shim-runc-v2\0-address\0/run/containerd/containerd.sock\0";
        let editor = b"vi\0/run/ours/containerd.sock\0";
        assert!(is_our_shim(ours, socket));
        assert!(!is_our_shim(theirs, socket));
        assert!(!is_our_shim(editor, socket));
        assert!(!is_our_shim(b"", socket));
    }

    #[test]
    fn what_cni_remembers_of_other_pods_stays() {
        let dir = tempfile::tempdir().expect("temp dir");
        for name in [
            "recstack-a1-eth0",
            "cni-loopback-a1-lo",
            "cni-loopback-b2-lo",
            "other-b2-eth0",
        ] {
            fs::write(dir.path().join(name), "{}").expect("writes");
        }
        remove_cni_results(dir.path());
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .expect("reads")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["cni-loopback-b2-lo", "other-b2-eth0"]);
    }
}
