//! The servers of the local stack, built or fetched once from package registries and kept by version.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::command::{Cmd, find};
use crate::image::{self, ImageSpec};
use crate::paths::{ETCD_VERSION, KAFKA_VERSION, KUBERNETES_VERSION, Paths, install, is_built, write};
use crate::progress::{Progress, Steps};

/// A cold build of Kubernetes is about 7 minutes of two free cores; a slow machine may need several times that.
const BUILD_TIMEOUT: Duration = Duration::from_secs(90 * 60);

/// The name of the image that holds a pod's namespaces.
pub const PAUSE_IMAGE: &str = "recommendation-stack.local/pause:1";

const KUBERNETES_FILES: [(&str, &str); 4] = [
    ("go.mod", include_str!("../stack/kubernetes/go.mod")),
    ("go.sum", include_str!("../stack/kubernetes/go.sum")),
    ("main.go", include_str!("../stack/kubernetes/main.go")),
    ("node_linux.go", include_str!("../stack/kubernetes/node_linux.go")),
];
const ETCD_FILES: [(&str, &str); 2] = [
    ("go.mod", include_str!("../stack/etcd/go.mod")),
    ("go.sum", include_str!("../stack/etcd/go.sum")),
];
const KAFKA_FILES: [(&str, &str); 2] = [
    ("pom.xml", include_str!("../stack/kafka/pom.xml")),
    (
        "log4j2.properties",
        include_str!("../stack/kafka/log4j2.properties"),
    ),
];
const PAUSE_FILES: [(&str, &str); 1] = [("pause.c", include_str!("../stack/pause/pause.c"))];

/// The oldest Go that the module files accept.
const GO_MINOR: u32 = 26;

/// Which servers a task needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needed {
    /// etcd, kubectl and Kubernetes' daemons.
    pub kubernetes: bool,
    /// The pause image, which pods of a real node need.
    pub pause: bool,
    /// Kafka's jars.
    pub kafka: bool,
}

/// The parts that are not built yet, each with what its first build costs: what a user should know before saying yes.
#[must_use]
pub fn missing(paths: &Paths, needed: Needed) -> Vec<String> {
    let mut missing = Vec::new();
    if needed.kubernetes && !is_built(&paths.kubernetes_dir(), &kubernetes_recipe()) {
        missing.push(format!(
            "Kubernetes {KUBERNETES_VERSION}, built from Go modules (about 7 minutes of two cores, 0.2 GB kept; \
             Go's own caches grow by about 4 GB)"
        ));
    }
    if needed.kubernetes && !is_built(&paths.etcd_dir(), &etcd_recipe()) {
        missing.push(format!(
            "etcd {ETCD_VERSION}, built from Go modules (1 to 2 minutes)"
        ));
    }
    if needed.kafka && !is_built(&paths.kafka_dir(), &kafka_recipe()) {
        missing.push(format!(
            "Apache Kafka {KAFKA_VERSION}, jars from Maven Central (55 MB)"
        ));
    }
    missing
}

/// Builds or fetches what is not there yet. Go's and Maven's own caches are used as they are.
///
/// # Errors
/// When a tool is missing or a build fails; nothing half-built stays.
pub fn ensure(paths: &Paths, needed: Needed, steps: &mut Steps) -> Result<()> {
    let _lock = paths.lock()?;
    let mut part = |wanted: bool, dir: &Path, recipe: &str, name: &str, build: Build| -> Result<()> {
        if !wanted || is_built(dir, recipe) {
            return Ok(());
        }
        steps.run(name, |progress| {
            install(dir, recipe, |into| build(into, progress))
        })
    };
    part(
        needed.kubernetes,
        &paths.kubernetes_dir(),
        &kubernetes_recipe(),
        &format!("Build Kubernetes {KUBERNETES_VERSION}"),
        kubernetes,
    )?;
    part(
        needed.kubernetes,
        &paths.etcd_dir(),
        &etcd_recipe(),
        &format!("Build etcd {ETCD_VERSION}"),
        etcd,
    )?;
    part(
        needed.pause,
        &paths.pause_dir(),
        &recipe(&PAUSE_FILES, PAUSE_IMAGE),
        "Build the pause image",
        pause,
    )?;
    part(
        needed.kafka,
        &paths.kafka_dir(),
        &kafka_recipe(),
        &format!("Fetch Kafka {KAFKA_VERSION}"),
        kafka,
    )
}

type Build = fn(&Path, &Progress) -> Result<()>;

fn kubernetes_recipe() -> String {
    recipe(&KUBERNETES_FILES, &stamp())
}

fn etcd_recipe() -> String {
    recipe(&ETCD_FILES, ETCD_VERSION)
}

fn kafka_recipe() -> String {
    recipe(&KAFKA_FILES, KAFKA_VERSION)
}

/// What a build is made from, as one line: when it changes, the build is repeated.
fn recipe(files: &[(&str, &str)], flags: &str) -> String {
    let mut hash = Sha256::new();
    for (name, content) in files {
        hash.update(name);
        hash.update([0]);
        hash.update(content);
        hash.update([0]);
    }
    hash.update(flags);
    hex::encode(hash.finalize())
}

/// Linker flags that give the version: unstamped, the API server reports v0.0.0-master.
fn stamp() -> String {
    let mut parts = KUBERNETES_VERSION.split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut flags = "-s -w".to_owned();
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        let values = BTreeMap::from([
            ("gitVersion", format!("v{KUBERNETES_VERSION}")),
            ("gitMajor", major.to_owned()),
            ("gitMinor", minor.to_owned()),
            ("gitTreeState", "clean".to_owned()),
            ("gitCommit", "unknown".to_owned()),
            ("buildDate", "2026-01-01T00:00:00Z".to_owned()),
        ]);
        for (name, value) in values {
            flags += &format!(" -X {package}.{name}={value}");
        }
    }
    flags
}

fn lay_out(files: &[(&str, &str)], dir: &Path) -> Result<()> {
    files
        .iter()
        .try_for_each(|(name, content)| write(&dir.join(name), content))
}

fn kubernetes(into: &Path, progress: &Progress) -> Result<()> {
    let source = into.join("source");
    lay_out(&KUBERNETES_FILES, &source)?;
    let bin = into.join("bin");
    fs::create_dir_all(&bin)?;
    let kubectl = "k8s.io/kubernetes/cmd/kubectl";
    go_build(&source, &[".", kubectl], progress, |go, package| {
        let name = if package == "." { "kubernetes" } else { "kubectl" };
        go.arg("-ldflags")
            .arg(stamp())
            .arg("-o")
            .arg(bin.join(name))
            .arg(package)
    })?;
    #[cfg(unix)]
    for daemon in [
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kube-proxy",
        "kubelet",
    ] {
        std::os::unix::fs::symlink("kubernetes", bin.join(daemon))?;
    }
    Ok(())
}

fn etcd(into: &Path, progress: &Progress) -> Result<()> {
    let source = into.join("source");
    lay_out(&ETCD_FILES, &source)?;
    let bin = into.join("bin");
    fs::create_dir_all(&bin)?;
    go_build(
        &source,
        &["go.etcd.io/etcd/server/v3"],
        progress,
        |go, package| {
            go.args(["-ldflags", "-s -w", "-o"])
                .arg(bin.join("etcd"))
                .arg(package)
        },
    )
}

/// Go in a folder with a module file.
pub(crate) fn go_command(source: &Path) -> Cmd {
    // -mod=mod: the module files name the tools only, and Go may complete go.sum in this copy of it.
    Cmd::new("go")
        .dir(source)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-buildvcs=false -mod=mod -trimpath")
        .env("GOWORK", "off")
        // A module file that asks for a newer Go gets it, as a module, also where `local` is the machine's default.
        .env("GOTOOLCHAIN", "auto")
        .timeout(BUILD_TIMEOUT)
}

/// Builds packages, showing how far it is.
pub(crate) fn go_build(
    source: &Path,
    packages: &[&str],
    progress: &Progress,
    with_output: impl Fn(Cmd, &str) -> Cmd,
) -> Result<()> {
    check_go()?;
    progress.message("looking for modules to download");
    let (mut downloads, mut total) = (0_u64, 0_u64);
    go_command(source)
        .args(["list", "-deps", "-f", "{{.ImportPath}}"])
        .args(packages)
        .lines(|line| {
            if line.starts_with("go: downloading") {
                downloads += 1;
                progress.message(format!("modules downloaded: {downloads}"));
            } else {
                total += 1;
            }
        })?;
    progress.length(total, "packages compiled or found in Go's cache");
    // `-v` names each package as it is compiled; what Go's cache holds is not named, so a warm build ends early.
    let mut compiled = 0;
    for package in packages {
        with_output(go_command(source).args(["build", "-v"]), package).lines(|line| {
            if !line.starts_with("go: ") {
                compiled += 1;
                progress.position(compiled.min(total));
            }
        })?;
    }
    Ok(())
}

/// Whether there is a Go that can build the module files.
///
/// # Errors
/// When there is none, in words for the user: it is in no Debian release that is new enough.
pub fn check_go() -> Result<()> {
    ensure!(
        find("go").is_some(),
        "Go is needed to build Kubernetes: install Go 1.{GO_MINOR} or newer from https://go.dev/dl/"
    );
    let version = Cmd::new("go").arg("version").run()?;
    let local_only = Cmd::new("go").args(["env", "GOTOOLCHAIN"]).run()?.trim() == "local";
    match go_minor(&version) {
        // Older ones fetch the toolchain that go.mod asks for, unless told not to.
        Some(minor) if minor >= GO_MINOR || (minor >= 21 && !local_only) => Ok(()),
        _ => bail!(
            "Go 1.{GO_MINOR} or newer is needed to build Kubernetes and etcd (found: {}); get it from https://go.dev/dl/, \
             or let Go fetch it: `go env -w GOTOOLCHAIN=auto`",
            version.trim()
        ),
    }
}

fn go_minor(version: &str) -> Option<u32> {
    let (_, rest) = version.split_once(" go1.")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn pause(into: &Path, _: &Progress) -> Result<()> {
    lay_out(&PAUSE_FILES, into)?;
    let binary = into.join("pause");
    Cmd::new("gcc")
        .args(["-static", "-Os", "-s", "-o"])
        .arg(&binary)
        .arg(into.join("pause.c"))
        .timeout(Duration::from_secs(120))
        .run()
        .context("building the pause image needs gcc and libc6-dev")?;
    image::build(&ImageSpec {
        name: PAUSE_IMAGE.to_owned(),
        binary,
        entrypoint: "/pause".to_owned(),
        labels: BTreeMap::new(),
        archive: into.join("pause.tar"),
        compressed: false,
    })?;
    Ok(())
}

fn kafka(into: &Path, progress: &Progress) -> Result<()> {
    ensure!(
        find("mvn").is_some(),
        "Maven is needed to fetch Kafka: `apt-get install maven`, or https://maven.apache.org"
    );
    lay_out(&KAFKA_FILES, into)?;
    let mut jars = 0;
    Cmd::new("mvn")
        .args(["-B", "-ntp", "-f"])
        .arg(into.join("pom.xml"))
        .arg("org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies")
        .arg("-DincludeScope=runtime")
        .arg(format!("-DoutputDirectory={}", into.join("libs").display()))
        .timeout(Duration::from_secs(30 * 60))
        .lines(|line| {
            if line.contains("Copying ") {
                jars += 1;
                progress.message(format!("{jars} jars"));
            }
        })?;
    ensure!(jars > 0, "Maven ended well but copied no jars");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_carries_the_version_in_both_packages() {
        let stamp = stamp();
        assert!(
            stamp.contains("component-base/version.gitVersion=v1.34.10"),
            "{stamp}"
        );
        assert!(stamp.contains("client-go/pkg/version.gitMinor=34"), "{stamp}");
    }

    #[test]
    fn a_recipe_changes_with_a_file_or_a_flag() {
        let one = recipe(&[("a", "1")], "x");
        assert_eq!(one, recipe(&[("a", "1")], "x"));
        assert_ne!(one, recipe(&[("a", "2")], "x"));
        assert_ne!(one, recipe(&[("a", "1")], "y"));
    }

    #[test]
    fn module_files_name_the_versions_that_the_folders_are_named_by() {
        assert!(
            KUBERNETES_FILES[0]
                .1
                .contains(&format!("k8s.io/kubernetes v{KUBERNETES_VERSION}"))
        );
        assert!(
            ETCD_FILES[0]
                .1
                .contains(&format!("go.etcd.io/etcd/server/v3 v{ETCD_VERSION}"))
        );
        assert!(
            KAFKA_FILES[0]
                .1
                .contains(&format!("<kafka.version>{KAFKA_VERSION}<"))
        );
    }

    #[test]
    fn the_version_of_go_is_read_from_what_it_prints() {
        assert_eq!(go_minor("go version go1.26.8 linux/amd64"), Some(26));
        assert_eq!(go_minor("go version go1.27rc1 linux/amd64"), Some(27));
        assert_eq!(go_minor("gccgo (Debian) 12"), None);
    }
}
