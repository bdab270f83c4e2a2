//! What a task installs or changes on this machine: found out, shown, asked about, done.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::build;
use crate::command::{Cmd, find};
use crate::paths::Paths;
use crate::progress::Steps;
use crate::release;
use crate::stack::{NodeMode, StackOptions, network};

/// What a task is going to use.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The stack, if any.
    pub stack: Option<StackOptions>,
    /// Whether the static release binaries are built.
    pub release: bool,
}

/// Whether changes need a yes from the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Ask on the terminal.
    Ask,
    /// Given beforehand: by `--yes`, or because nobody is there to ask (`CI=true`).
    Given,
}

impl Consent {
    /// What `--yes` and the environment variable `CI` say.
    #[must_use]
    pub fn from_flag(yes: bool) -> Self {
        Self::decide(yes, std::env::var("CI").ok().as_deref())
    }

    fn decide(yes: bool, ci: Option<&str>) -> Self {
        if yes || matches!(ci, Some("true" | "1")) {
            Self::Given
        } else {
            Self::Ask
        }
    }
}

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

/// Which part of [`Wanted`] needs a package.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Stack,
    Node,
    Kafka,
    KafkaFetch,
    Redis,
    Release,
}

const PACKAGES: [Package; 18] = [
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
];

/// Packages whose services Debian starts, and that the stack runs on its own terms.
const SERVICES: [&str; 2] = ["containerd", "redis-server"];

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

/// What has to be installed or changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Debian packages.
    pub packages: Vec<&'static str>,
    /// A Rust target.
    pub rust_target: Option<&'static str>,
    /// Servers that are built or fetched into the cache folder.
    pub builds: Vec<String>,
    /// Whether a node's network and kernel settings are set up.
    pub node: bool,
    /// The folder for built servers.
    pub cache: PathBuf,
}

impl Plan {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.rust_target.is_none() && self.builds.is_empty() && !self.node
    }

    /// The list that the user says yes to.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = String::from("This will be installed or changed on this machine:\n");
        if !self.packages.is_empty() {
            text += &format!("  packages (apt-get): {}\n", self.packages.join(" "));
            let services: Vec<&str> = SERVICES
                .into_iter()
                .filter(|name| self.packages.contains(name))
                .collect();
            if !services.is_empty() {
                text += &format!(
                    "    (their own services are not started: {})\n",
                    services.join(", ")
                );
            }
        }
        if let Some(target) = self.rust_target {
            text += &format!("  Rust target (rustup): {target}\n");
        }
        for build in &self.builds {
            text += &format!("  into {}: {build}\n", self.cache.display());
        }
        if self.node {
            text += &format!(
                "  until `cargo xtask down`, for a real Kubernetes node:\n\
                 \x20   routes {} and {} into a network namespace `{}`, over an interface `{}` ({})\n\
                 \x20   control groups and mounts of its containers; kernel settings that the kubelet makes\n\
                 \x20     (vm.overcommit_memory, vm.panic_on_oom, kernel.panic, kernel.panic_on_oops, kernel.keys.root_max*)\n",
                network::PODS,
                network::SERVICES,
                network::NAMESPACE,
                network::LINK,
                network::HOST,
            );
        }
        text
    }
}

/// Finds out what is missing.
///
/// # Errors
/// When there is no cache folder, or the Rust toolchain cannot say what it has.
pub fn survey(wanted: &Wanted) -> Result<Plan> {
    let paths = Paths::from_env()?;
    let node = wanted
        .stack
        .as_ref()
        .is_some_and(|options| options.with_node().is_ok());
    let builds = wanted
        .stack
        .as_ref()
        .map(|options| build::missing(&paths, options.needed()))
        .unwrap_or_default();
    let fetches_kafka = builds.iter().any(|build| build.contains("Kafka"));
    let is_needed = |need: Need| match need {
        Need::Stack => wanted.stack.is_some(),
        Need::Node => node,
        Need::Kafka => wanted.stack.as_ref().is_some_and(|options| options.kafka),
        Need::KafkaFetch => fetches_kafka,
        Need::Redis => wanted.stack.as_ref().is_some_and(|options| options.redis),
        Need::Release => wanted.release && release::target().is_some(),
    };
    let packages = PACKAGES
        .iter()
        .filter(|package| is_needed(package.needed) && !package.is_present())
        .map(|package| package.name);
    Ok(Plan {
        packages: packages.collect(),
        rust_target: if wanted.release { missing_target()? } else { None },
        builds,
        node: node && !network::is_up(),
        cache: paths.cache().to_owned(),
    })
}

/// As [`prepare_for`], for the demo and the tests: the whole stack, with a node where possible if `node` says so, and
/// the release binaries. `yes` is `--yes`.
///
/// # Errors
/// As [`prepare_for`].
pub fn prepare(node: bool, yes: bool, steps: &mut Steps) -> Result<()> {
    let node = if node { NodeMode::Auto } else { NodeMode::Off };
    let stack = StackOptions {
        node,
        ..StackOptions::default()
    };
    prepare_for(
        &Wanted {
            stack: Some(stack),
            release: true,
        },
        Consent::from_flag(yes),
        steps,
    )
}

/// Shows what a task needs, asks if need be, and installs it. A node's own changes are made when it starts.
///
/// # Errors
/// When the user says no or cannot be asked, or something cannot be installed.
pub fn prepare_for(wanted: &Wanted, consent: Consent, steps: &mut Steps) -> Result<()> {
    let plan = survey(wanted)?;
    if plan.builds.iter().any(|build| build.contains("Go modules")) {
        // Before the question: nobody should wait for packages only to learn that this is missing.
        build::check_go()?;
    }
    if plan.is_empty() {
        return Ok(());
    }
    eprintln!("{}", plan.describe());
    check_installable(&plan.packages)?;
    ask(consent)?;
    if !plan.packages.is_empty() {
        steps.run("Install packages", |progress| {
            install_packages(
                &plan.packages,
                |line| progress.message(line),
                |note| progress.line(note),
            )
        })?;
    }
    if let Some(target) = plan.rust_target {
        steps.run("Add the Rust target", |_| add_target(target))?;
    }
    Ok(())
}

fn check_installable(packages: &[&str]) -> Result<()> {
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

fn ask(consent: Consent) -> Result<()> {
    if consent == Consent::Given {
        return Ok(());
    }
    ensure!(
        std::io::stdin().is_terminal(),
        "standard input is no terminal, so nobody can be asked: add --yes to agree to the list above"
    );
    eprint!("Go on? [y/N] ");
    std::io::stderr().flush().context("asking")?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("reading the answer")?;
    ensure!(is_yes(&answer), "nothing was installed or changed");
    Ok(())
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

fn install_packages(
    packages: &[&str],
    mut message: impl FnMut(String),
    mut note: impl FnMut(&str),
) -> Result<()> {
    let services: Vec<&str> = SERVICES
        .into_iter()
        .filter(|name| packages.contains(name))
        .collect();
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

fn missing_target() -> Result<Option<&'static str>> {
    let Some(target) = release::target() else {
        return Ok(None);
    };
    let sysroot = Cmd::new("rustc")
        .dir(release::workspace())
        .args(["--print", "sysroot"])
        .run()?;
    let installed = Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(target)
        .join("lib")
        .is_dir();
    Ok((!installed).then_some(target))
}

fn add_target(target: &str) -> Result<()> {
    if find("rustup").is_none() {
        bail!(
            "the Rust target {target} is missing and there is no rustup to add it: install it with your toolchain's package"
        );
    }
    Cmd::new("rustup")
        .dir(release::workspace())
        .args(["target", "add", target])
        .timeout(Duration::from_secs(10 * 60))
        .run()
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consent_is_given_by_the_flag_or_by_ci() {
        assert_eq!(Consent::decide(true, None), Consent::Given);
        assert_eq!(Consent::decide(false, Some("true")), Consent::Given);
        assert_eq!(Consent::decide(false, Some("false")), Consent::Ask);
        assert_eq!(Consent::decide(false, None), Consent::Ask);
    }

    #[test]
    fn only_a_clear_yes_is_a_yes() {
        assert!(is_yes("y\n") && is_yes(" YES \n"));
        assert!(!is_yes("\n") && !is_yes("n\n") && !is_yes("yeah no\n"));
    }

    #[test]
    fn a_plan_names_packages_target_builds_and_what_a_node_changes() {
        let plan = Plan {
            packages: vec!["redis-server", "make"],
            rust_target: Some("x86_64-unknown-linux-musl"),
            builds: vec!["etcd 1".to_owned()],
            node: true,
            cache: PathBuf::from("/cache"),
        };
        let text = plan.describe();
        for part in [
            "redis-server make",
            "not started: redis-server",
            "linux-musl",
            "into /cache: etcd 1",
            "10.96.0.0/16",
            "vm.panic_on_oom",
        ] {
            assert!(text.contains(part), "`{part}` is not in:\n{text}");
        }
        assert!(!plan.is_empty() && Plan::default().is_empty());
    }

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
}
