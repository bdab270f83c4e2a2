//! Debian packages: what is missing, and installing it without starting the services that come along.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command::{Cmd, find};

/// A Debian package, and how to tell that what it brings is there, whoever brought it.
struct Package {
    name: &'static str,
    sign: Sign,
    needed: Need,
}

enum Sign {
    Program(&'static str),
    /// One of these files.
    File(&'static [&'static str]),
}

/// What needs a package.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// The control plane.
    Stack,
    /// A real node.
    Node,
    /// Running Kafka.
    Kafka,
    /// Fetching Kafka.
    KafkaFetch,
    /// Redis.
    Redis,
    /// The static release binaries.
    Release,
    /// The examples of clients, which the tests run.
    Clients,
    /// A headless browser and what drives it.
    Browser,
    /// Prometheus and promtool.
    Prometheus,
}

const PACKAGES: [Package; 27] = [
    Package::new("openssl", Sign::Program("openssl"), Need::Stack),
    Package::new("containerd", Sign::Program("containerd"), Need::Node),
    Package::new("runc", Sign::Program("runc"), Need::Node),
    Package::new(
        "containernetworking-plugins",
        Sign::File(&[
            "/usr/lib/cni/bridge",
            "/opt/cni/bin/bridge",
            "/usr/libexec/cni/bridge",
        ]),
        Need::Node,
    ),
    Package::new("iptables", Sign::Program("iptables"), Need::Node),
    Package::new("nftables", Sign::Program("nft"), Need::Node),
    Package::new("conntrack", Sign::Program("conntrack"), Need::Node),
    Package::new("iproute2", Sign::Program("ip"), Need::Node),
    Package::new("procps", Sign::Program("sysctl"), Need::Node),
    Package::new("gcc", Sign::Program("gcc"), Need::Node),
    Package::new(
        "libc6-dev",
        Sign::File(&[
            "/usr/lib/x86_64-linux-gnu/libc.a",
            "/usr/lib/aarch64-linux-gnu/libc.a",
            "/usr/lib64/libc.a",
        ]),
        Need::Node,
    ),
    Package::new("default-jre-headless", Sign::Program("java"), Need::Kafka),
    Package::new("maven", Sign::Program("mvn"), Need::KafkaFetch),
    Package::new("redis-server", Sign::Program("redis-server"), Need::Redis),
    Package::new("musl-tools", Sign::Program("musl-gcc"), Need::Release),
    // librdkafka is built from its sources, its C++ part included.
    Package::new("g++", Sign::Program("g++"), Need::Release),
    Package::new("make", Sign::Program("make"), Need::Release),
    Package::new("git", Sign::Program("git"), Need::Release),
    Package::new("python3", Sign::Program("python3"), Need::Clients),
    Package::new("python3-pip", Sign::Program("pip3"), Need::Clients),
    Package::new("nodejs", Sign::Program("node"), Need::Clients),
    Package::new("npm", Sign::Program("npm"), Need::Clients),
    Package::new("chromium", Sign::Program("chromium"), Need::Browser),
    Package::new("nodejs", Sign::Program("node"), Need::Browser),
    Package::new("npm", Sign::Program("npm"), Need::Browser),
    // So that pictures look alike wherever they are made.
    Package::new(
        "fonts-inter",
        Sign::File(&["/usr/share/fonts/opentype/inter/Inter-Regular.otf"]),
        Need::Browser,
    ),
    Package::new("prometheus", Sign::Program("prometheus"), Need::Prometheus),
];

/// Packages whose services Debian starts, and that the stack runs on its own terms.
const SERVICES: [&str; 3] = ["containerd", "redis-server", "prometheus"];

impl Package {
    const fn new(name: &'static str, sign: Sign, needed: Need) -> Self {
        Self { name, sign, needed }
    }

    fn is_present(&self) -> bool {
        match self.sign {
            Sign::Program(program) => find(program).is_some(),
            Sign::File(files) => files.iter().any(|file| Path::new(file).exists()),
        }
    }
}

/// The packages that are needed and whose signs are missing.
pub(super) fn missing(is_needed: impl Fn(Need) -> bool) -> Vec<&'static str> {
    let missing = PACKAGES
        .iter()
        .filter(|package| is_needed(package.needed) && !package.is_present());
    missing.map(|package| package.name).collect()
}

/// The packages among these whose services are left off.
pub(super) fn services(packages: &[&'static str]) -> Vec<&'static str> {
    SERVICES
        .into_iter()
        .filter(|name| packages.contains(name))
        .collect()
}

/// Whether this user can install these packages on this machine.
pub(super) fn check_installable(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let command = format!(
        "apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    );
    ensure!(
        find("apt-get").is_some(),
        "this machine has no apt-get: install what these Debian packages bring by its own means, and start again: {}",
        packages.join(" ")
    );
    ensure!(
        rustix::process::geteuid().is_root(),
        "only root can install packages: run `sudo {command}` and start again"
    );
    Ok(())
}

/// Installs packages.
pub(super) fn install(
    packages: &[&'static str],
    mut message: impl FnMut(String),
    mut note: impl FnMut(&str),
) -> Result<()> {
    let services = services(packages);
    let _no_starts = if services.is_empty() {
        None
    } else {
        NoServiceStarts::begin(Path::new("/usr/sbin/policy-rc.d"))?
    };
    let apt = |args: &[&str]| {
        Cmd::new("apt-get")
            .args(["-o", "DPkg::Lock::Timeout=120"])
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .timeout(Duration::from_secs(20 * 60))
    };
    apt(&["update"])
        .lines(|line| message(line.to_owned()))
        .context("refreshing the list of packages")?;
    apt(&["install", "-y", "--no-install-recommends"])
        .args(packages)
        .lines(|line| message(line.to_owned()))
        .context("installing packages")?;
    if Path::new("/run/systemd/system").exists() && !services.is_empty() {
        // Else they would start at the next boot, on the ports that the stack uses.
        Cmd::new("systemctl")
            .arg("disable")
            .args(&services)
            .run()
            .context("leaving the packages' own services off")?;
        note(&format!(
            "Services of the new packages are left off: {}",
            services.join(", ")
        ));
    }
    Ok(())
}

/// While it lives, package scripts start no services.
struct NoServiceStarts {
    policy: PathBuf,
}

impl NoServiceStarts {
    /// Lays down the policy, unless the machine has one of its own.
    fn begin(policy: &Path) -> Result<Option<Self>> {
        if policy.exists() {
            return Ok(None);
        }
        // Debian's policy layer: 101 means "action forbidden".
        fs::write(policy, "#!/bin/sh\nexit 101\n")
            .with_context(|| format!("writing {}", policy.display()))?;
        let guard = Self {
            policy: policy.to_owned(),
        };
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(policy, fs::Permissions::from_mode(0o755))
                .context("making the policy a program")?;
        }
        Ok(Some(guard))
    }
}

impl Drop for NoServiceStarts {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.policy) {
            eprintln!(
                "{} could not be removed ({error}): remove it, or no service will start",
                self.policy.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_kept_from_starting_only_while_packages_are_installed() {
        let dir = tempfile::tempdir().expect("temp dir");
        let policy = dir.path().join("policy-rc.d");
        let guard = NoServiceStarts::begin(&policy).expect("writes");
        assert!(guard.is_some() && policy.exists());
        drop(guard);
        assert!(!policy.exists());
        fs::write(&policy, "theirs").expect("writes");
        drop(NoServiceStarts::begin(&policy).expect("leaves it"));
        assert_eq!(fs::read_to_string(&policy).expect("still there"), "theirs");
    }

    #[test]
    fn no_package_is_asked_for_that_nothing_needs() {
        assert!(missing(|_| false).is_empty());
    }
}
