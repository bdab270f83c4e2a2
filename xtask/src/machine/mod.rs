//! What a task installs or changes on this machine: found out, shown, asked about, done.

mod packages;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use self::packages::Need;
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
    /// Whether pages are tested in a browser.
    pub browser: bool,
    /// Whether Prometheus runs, or its promtool.
    pub prometheus: bool,
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
            let services = packages::services(&self.packages);
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
        // Only the tests want the secured listeners.
        Need::Clients => wanted.stack.as_ref().is_some_and(|options| options.kafka_secured),
        Need::Browser => wanted.browser,
        Need::Prometheus => wanted.prometheus,
    };
    Ok(Plan {
        packages: packages::missing(is_needed),
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
            ..Wanted::default()
        },
        Consent::from_flag(yes),
        steps,
    )
}

/// As [`prepare_for`], for tests of pages in a browser.
///
/// # Errors
/// As [`prepare_for`].
pub fn prepare_browser(yes: bool, steps: &mut Steps) -> Result<()> {
    let wanted = Wanted {
        browser: true,
        ..Wanted::default()
    };
    prepare_for(&wanted, Consent::from_flag(yes), steps)
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
    packages::check_installable(&plan.packages)?;
    ask(consent)?;
    if !plan.packages.is_empty() {
        steps.run("Install packages", |progress| {
            packages::install(
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
}
