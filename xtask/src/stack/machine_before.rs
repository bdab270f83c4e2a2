//! How the machine was before a node changed it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use super::node_cleanup::{groups, mounts, pod_namespaces};
use super::run::Run;
use crate::paths::write;

/// Kernel settings that the kubelet changes for the whole machine.
const KERNEL_SETTINGS: [&str; 6] = [
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
];

/// Folders with fixed names that iproute2, containerd, CNI and the kubelet make where there are none.
const FIXED_FOLDERS: [&str; 9] = [
    // The mount command's, which the kubelet calls.
    "/run/mount",
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
pub(super) struct Before {
    /// The boot that this is about: after another one, kernel settings are new.
    boot: String,
    kernel_settings: BTreeMap<String, String>,
    /// Those of [`FIXED_FOLDERS`] that did not exist.
    absent: Vec<PathBuf>,
    /// Whether `/run/netns` was a mount: iproute2 makes it one.
    pub(super) netns_mounted: bool,
    /// Namespaces of pods of another container runtime.
    pub(super) pod_namespaces: Vec<String>,
    /// Control groups of containerd's that existed: one of another containerd is not ours to remove.
    pub(super) containerd_groups: Vec<PathBuf>,
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
    let earlier = Before::recall(run)?;
    if earlier.as_ref().is_some_and(|before| before.boot == boot()) {
        return Ok(());
    }
    // What an earlier boot's node made and could not remove is still not the machine's own.
    let made_earlier = earlier.map(|before| before.absent).unwrap_or_default();
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
            .filter(|path| !path.exists() || made_earlier.contains(path))
            .collect(),
        netns_mounted: mounts().iter().any(|mount| mount == Path::new("/run/netns")),
        pod_namespaces: pod_namespaces(),
        containerd_groups: groups("k8s.io"),
        handed_on: fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control").ok(),
    };
    write(&memory(run), &serde_json::to_string_pretty(&before)?)
}

/// Forgets it, once everything is put back.
pub(super) fn forget(run: &Run) -> Result<()> {
    fs::remove_file(memory(run)).context("forgetting how the machine was")
}

impl Before {
    /// What was written down, if anything.
    pub(super) fn recall(run: &Run) -> Result<Option<Self>> {
        match fs::read_to_string(memory(run)) {
            Ok(text) => Ok(Some(
                serde_json::from_str(&text).context("the memory of how the machine was is damaged")?,
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("reading how the machine was"),
        }
    }

    /// Puts the kernel's settings back. After another boot there is nothing to put back.
    pub(super) fn restore_kernel(&self) -> Result<()> {
        if self.boot != boot() {
            return Ok(());
        }
        let mut refused = Vec::new();
        for (name, value) in &self.kernel_settings {
            let file = setting_file(name);
            let now = fs::read_to_string(&file).unwrap_or_default();
            if now.trim() != value
                && let Err(error) = fs::write(&file, value)
            {
                refused.push(format!("{name}={value}: {error}"));
            }
        }
        if let (Some(old), Ok(now)) = (
            &self.handed_on,
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

    /// Removes the folders that were made since.
    pub(super) fn prune_folders(&self) {
        for folder in &self.absent {
            prune(folder);
        }
    }
}

/// Removes a folder that did not exist before, as far as it holds nothing of worth: empty folders, sockets that
/// nobody listens on, pipes, links, and the kubelet's checkpoints. A file of anybody else keeps its folders.
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
    } else if (kind.is_socket() && UnixStream::connect(path).is_err())
        || kind.is_fifo()
        || kind.is_symlink()
        || name == "kubelet_internal_checkpoint"
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
    fn a_kernel_setting_is_a_file_below_proc_sys() {
        assert_eq!(
            setting_file("kernel.keys.root_maxkeys"),
            Path::new("/proc/sys/kernel/keys/root_maxkeys")
        );
    }
}
