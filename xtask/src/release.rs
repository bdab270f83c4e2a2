//! The shipped binaries: one release build, shared by the image, the demo and the tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::command::{Cmd, find};
use crate::progress::Progress;

/// A cold release build is about 8 minutes of two cores.
const BUILD_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// The shipped binaries.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The controller.
    pub operator: PathBuf,
    /// The service.
    pub recommender: PathBuf,
}

/// The target that shipped binaries are built for: static on Linux, whatever the machine is elsewhere.
#[must_use]
pub fn target() -> Option<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Some("x86_64-unknown-linux-musl"),
        ("linux", "aarch64") => Some("aarch64-unknown-linux-musl"),
        _ => None,
    }
}

/// The C compiler for [`target`], as Debian's `musl-tools` calls it.
#[must_use]
pub fn c_compiler() -> Option<&'static str> {
    match target()? {
        "aarch64-unknown-linux-musl" => Some("aarch64-linux-musl-gcc"),
        _ => Some("x86_64-linux-musl-gcc"),
    }
}

/// Cargo with this command, such as `build` or `test`, as the shipped binaries are built: what one of them compiles
/// serves the others.
///
/// # Errors
/// When the C compiler for static binaries is missing.
fn cargo(command: &str) -> Result<Cmd> {
    let mut cargo = Cmd::cargo().args([command, "--release"]);
    if let (Some(target), Some(compiler)) = (target(), c_compiler()) {
        ensure!(
            find(compiler).is_some(),
            "{compiler} is needed for static binaries: `apt-get install musl-tools`"
        );
        let variable = |triple: &str| format!("CC_{}", triple.replace('-', "_"));
        // Build scripts run on this machine, with its own compiler. musl's is for compiling only: as a linker it would
        // make binaries that want musl's loader.
        cargo = cargo
            .args(["--target", target])
            .env(&variable(target), compiler)
            .env("HOST_CC", "gcc")
            .env(&variable(&target.replace("musl", "gnu")), "gcc");
    }
    Ok(cargo)
}

/// Names a folder with both programs, built elsewhere.
const PREBUILT: &str = "XTASK_PROGRAMS";

/// Builds both binaries, showing which crate is at work; cargo's warnings and errors are printed as they come. Where
/// the environment variable `XTASK_PROGRAMS` names a folder that holds both (a job of CI that builds once for all
/// others), those are taken.
///
/// # Errors
/// When the C compiler or the Rust target is missing, or the build fails.
pub fn build(progress: &Progress) -> Result<Binaries> {
    if let Some(dir) = prebuilt() {
        let program = |name: &str| {
            let path = dir.join(name);
            ensure!(
                path.is_file(),
                "{PREBUILT} names {}, which has no program `{name}`",
                dir.display()
            );
            Ok(path)
        };
        return Ok(Binaries {
            operator: program("recommendation-operator")?,
            recommender: program("recommender")?,
        });
    }
    let cargo = cargo("build")?
        .args(["-p", "recommendation-operator", "-p", "recommender"])
        .args(["--message-format", "json-render-diagnostics"])
        .timeout(BUILD_TIMEOUT);
    let (mut operator, mut recommender) = (None, None);
    let mut crates = 0;
    cargo.lines(|line| {
        if let Some(name) = line.trim_start().strip_prefix("Compiling ") {
            crates += 1;
            let name = name.split(' ').next().unwrap_or(name);
            progress.message(format!("{crates} crates, now {name}"));
        } else if is_diagnostic(line) {
            progress.line(line);
        }
        match executable(line) {
            Some((name, path)) if name == "recommendation-operator" => operator = Some(path),
            Some((name, path)) if name == "recommender" => recommender = Some(path),
            _ => {}
        }
    })?;
    let built =
        |name: &str, path: Option<PathBuf>| path.with_context(|| format!("cargo built no binary `{name}`"));
    Ok(Binaries {
        operator: built("recommendation-operator", operator)?,
        recommender: built("recommender", recommender)?,
    })
}

/// The folder that `XTASK_PROGRAMS` names.
#[must_use]
pub fn prebuilt() -> Option<PathBuf> {
    std::env::var_os(PREBUILT).map(PathBuf::from)
}

/// Whether a line is for the user's eyes: not a message for machines, nor cargo's account of what it does.
fn is_diagnostic(line: &str) -> bool {
    let accounts = [
        "Blocking",
        "Downloading",
        "Downloaded",
        "Finished",
        "Fresh",
        "Locking",
        "Updating",
    ];
    !line.is_empty()
        && !line.starts_with('{')
        && !accounts
            .iter()
            .any(|account| line.trim_start().starts_with(account))
}

/// The binary that one of cargo's messages speaks of.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let name = message["target"]["name"].as_str()?.to_owned();
    Some((name, PathBuf::from(message["executable"].as_str()?)))
}

/// The folder of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in a folder of the workspace")
}

/// The folder that cargo builds into.
///
/// # Errors
/// When cargo cannot say.
pub fn target_dir() -> Result<PathBuf> {
    let metadata = Cmd::cargo()
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .run()?;
    let metadata: Value = serde_json::from_str(&metadata).context("reading cargo's metadata")?;
    match metadata["target_directory"].as_str() {
        Some(dir) => Ok(PathBuf::from(dir)),
        None => bail!("cargo's metadata names no target directory"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_about_binaries_name_one() {
        let binary =
            r#"{"reason":"compiler-artifact","target":{"name":"recommender"},"executable":"/t/recommender"}"#;
        assert_eq!(
            executable(binary),
            Some(("recommender".to_owned(), PathBuf::from("/t/recommender")))
        );
        let library = r#"{"reason":"compiler-artifact","target":{"name":"serde"},"executable":null}"#;
        assert_eq!(executable(library), None);
        assert_eq!(executable("   Compiling"), None);
    }

    #[test]
    fn warnings_are_shown_and_machine_messages_are_not() {
        assert!(is_diagnostic("warning: unused variable: `x`"));
        assert!(is_diagnostic("  --> src/main.rs:1:2"));
        assert!(!is_diagnostic(r#"{"reason":"build-finished","success":true}"#));
        assert!(!is_diagnostic(
            "    Finished `release` profile [optimized] target(s) in 1s"
        ));
        assert!(!is_diagnostic(""));
    }
}
