//! What a node changes on the machine: remembered before the first change, put back when it goes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::network;
use super::node::{CGROUP, CONTAINERD, KUBE_PROXY, KUBELET, ctr, runtime_dir, socket};
use super::run::Run;
use crate::command::Cmd;
use crate::paths::{remove_all, write};

/// Kernel settings that the kubelet changes for the whole machine.
pub(crate) const KERNEL_SETTINGS: [&str; 6] = [
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
];

/// Folders with fixed names that iproute2, containerd, CNI and the kubelet make where there are none.
const FIXED_FOLDERS: [&str; 8] = [
    "/run/netns",
    "/run/containerd",
    "/run/recommendation-stack",
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/var/log/containers",
    "/var/log/pods",
    "/usr/libexec/kubernetes",
];

/// How the machine was.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    /// The boot that this is about: after another one, kernel settings are new.
    boot: String,
    kernel_settings: BTreeMap<String, String>,
    /// Those of [`FIXED_FOLDERS`] that did not exist.
    absent: Vec<PathBuf>,
    /// Whether `/run/netns` was a mount: iproute2 makes it one.
    netns_mounted: bool,
    /// Namespaces of pods of another container runtime.
    pod_namespaces: Vec<String>,
    /// Control groups of containerd's that existed: one of another containerd is not ours to remove.
    containerd_groups: Vec<PathBuf>,
    /// The controllers that the top control group of version 2 handed on.
    handed_on: Option<String>,
}

fn memory(run: &Run) -> PathBuf {
    run.dir().join("machine-before.json")
}

fn setting_file(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// Writes down how the machine is, unless that was done in this boot already.
pub(super) fn remember(run: &Run) -> Result<()> {
    if recall(run)?.is_some_and(|before| before.boot == boot()) {
        return Ok(());
    }
    let kernel_settings = KERNEL_SETTINGS
        .iter()
        .filter_map(|name| {
            Some((
                (*name).to_owned(),
                fs::read_to_string(setting_file(name)).ok()?.trim().to_owned(),
            ))
        })
        .collect();
    let before = Before {
        boot: boot(),
        kernel_settings,
        absent: FIXED_FOLDERS
            .iter()
            .map(PathBuf::from)
            .filter(|path| !path.exists())
            .collect(),
        netns_mounted: mounts().iter().any(|mount| mount == Path::new("/run/netns")),
        pod_namespaces: pod_namespaces(),
        containerd_groups: groups("k8s.io"),
        handed_on: fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control").ok(),
    };
    write(&memory(run), &serde_json::to_string_pretty(&before)?)
}

fn recall(run: &Run) -> Result<Option<Before>> {
    match fs::read_to_string(memory(run)) {
        Ok(text) => Ok(Some(
            serde_json::from_str(&text).context("the memory of how the machine was is damaged")?,
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("reading how the machine was"),
    }
}

/// Stops the node and puts everything back. A run that never had a node is left alone.
pub(super) fn down(run: &Run) -> Result<()> {
    let Some(before) = recall(run)? else { return Ok(()) };
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
    if before.boot == boot() {
        restore_kernel(&before)?;
    }
    if !before.netns_mounted && mounts().iter().any(|mount| mount == Path::new("/run/netns")) {
        let last = fs::read_dir("/run/netns").is_ok_and(|mut entries| entries.next().is_none());
        if last {
            detach(Path::new("/run/netns"))?;
        }
    }
    remove_all(&runtime_dir())?;
    for folder in &before.absent {
        prune(folder);
    }
    fs::remove_file(memory(run)).context("forgetting how the machine was")
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

fn mounts() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(PathBuf::from)
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
fn pod_namespaces() -> Vec<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("cni-"))
        .collect()
}

/// The control groups of this name, at the top of every hierarchy.
fn groups(name: &str) -> Vec<PathBuf> {
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

fn restore_kernel(before: &Before) -> Result<()> {
    let mut refused = Vec::new();
    for (name, value) in &before.kernel_settings {
        let file = setting_file(name);
        let now = fs::read_to_string(&file).unwrap_or_default();
        if now.trim() != value
            && let Err(error) = fs::write(&file, value)
        {
            refused.push(format!("{name}={value}: {error}"));
        }
    }
    if let (Some(old), Ok(now)) = (
        &before.handed_on,
        fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control"),
    ) {
        let old: Vec<&str> = old.split_ascii_whitespace().collect();
        for controller in now.split_ascii_whitespace().filter(|name| !old.contains(name)) {
            // Refused when a group made since uses it: then it is no longer only ours.
            fs::write("/sys/fs/cgroup/cgroup.subtree_control", format!("-{controller}")).ok();
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    Err(anyhow!(
        "kernel settings could not be put back: {}",
        refused.join(", ")
    ))
}

/// Removes a folder that did not exist before, as far as it holds nothing of worth: empty folders, sockets, pipes,
/// links, and the kubelet's checkpoints. A file of anybody else keeps its folders.
fn prune(path: &Path) {
    let Ok(kind) = path.symlink_metadata().map(|metadata| metadata.file_type()) else {
        return;
    };
    let name = path.file_name().unwrap_or_default();
    if kind.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            prune(&entry.path());
        }
        fs::remove_dir(path).ok();
    } else if kind.is_socket() || kind.is_fifo() || kind.is_symlink() || name == "kubelet_internal_checkpoint"
    {
        fs::remove_file(path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_somebody_elses_file_is_kept() {
        let dir = tempfile::tempdir().expect("temp dir");
        let made = dir.path().join("made");
        fs::create_dir_all(made.join("empty/deeper")).expect("makes");
        prune(&made);
        assert!(!made.exists());
        fs::create_dir_all(made.join("empty")).expect("makes");
        fs::write(made.join("theirs"), "x").expect("writes");
        prune(&made);
        assert!(made.join("theirs").exists() && !made.join("empty").exists());
    }

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

    #[test]
    fn a_kernel_setting_is_a_file_below_proc_sys() {
        assert_eq!(
            setting_file("kernel.keys.root_maxkeys"),
            Path::new("/proc/sys/kernel/keys/root_maxkeys")
        );
    }
}
