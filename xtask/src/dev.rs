//! `cargo xtask dev`: rebuilds and restarts on save.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use clap::Args;

use crate::release::workspace;
use crate::stack::Stack;

/// How often the sources are looked at: well under the time of the shortest build.
const LOOK: Duration = Duration::from_millis(400);

/// Options of `cargo xtask dev`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cargo xtask dev                                 the recommender in embedded mode, on 127.0.0.1:8080
  cargo xtask dev -- serve --embedded /tmp/a.db   with arguments of your own
  cargo xtask dev --program operator              the operator against the demo's control plane (cargo xtask stack up)")]
pub struct DevOptions {
    /// What to run
    #[arg(long, value_enum, default_value_t = Program::Recommender)]
    pub program: Program,
    /// Arguments of the program
    #[arg(last = true)]
    pub args: Vec<String>,
}

/// Programs.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
pub enum Program {
    /// `recommender serve --embedded`
    Recommender,
    /// `recommendation-operator run`
    Operator,
}

/// Builds, starts, and does so again whenever a source changes, until interrupted.
///
/// # Errors
/// When cargo cannot be started.
pub fn run(options: &DevOptions) -> Result<()> {
    let (package, default, folders): (_, &[&str], &[&str]) = match options.program {
        Program::Recommender => ("recommender", &["serve", "--embedded"], &["api", "recommender"]),
        Program::Operator => (
            "recommendation-operator",
            &["run", "--metrics-listen", "127.0.0.1:9091"],
            &["api", "operator", "ksql"],
        ),
    };
    let args: Vec<String> = if options.args.is_empty() {
        default.iter().map(|&arg| arg.to_owned()).collect()
    } else {
        options.args.clone()
    };
    let kubeconfig = Stack::running(crate::demo::RUN)?.map(|stack| stack.kubeconfig);
    let mut running: Option<Child> = None;
    let mut seen = None;
    loop {
        let newest = folders
            .iter()
            .filter_map(|folder| newest(&workspace().join(folder)))
            .max();
        if newest != seen {
            seen = newest;
            // What runs goes on until the new one is built: a typing error does not take the service away.
            if build(package)? {
                stop(running.take());
                running = Some(start(package, &args, kubeconfig.as_deref())?);
            }
        }
        if let Some(child) = &mut running
            && let Some(status) = child.try_wait()?
        {
            eprintln!("{package} ended ({status}); it starts again at the next save");
            running = None;
        }
        thread::sleep(LOOK);
    }
}

fn build(package: &str) -> Result<bool> {
    let status = Command::new("cargo")
        .args(["build", "--package", package])
        .current_dir(workspace())
        .status();
    Ok(status.context("starting cargo")?.success())
}

fn start(package: &str, args: &[String], kubeconfig: Option<&Path>) -> Result<Child> {
    eprintln!("▶ {package} {}", args.join(" "));
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let mut command = Command::new(target.join("debug").join(package));
    if let Some(file) = kubeconfig {
        command.env("KUBECONFIG", file);
    }
    command
        .args(args)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {package}"))
}

fn stop(child: Option<Child>) {
    if let Some(mut child) = child {
        // Killed, not asked: a developer waits for it, and nothing here has state that a restart does not rebuild.
        child.kill().ok();
        child.wait().ok();
    }
}

/// When the newest source below a folder was written.
fn newest(dir: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    entries
        .filter_map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                return newest(&path);
            }
            let source = path
                .extension()
                .is_some_and(|e| e == "rs" || e == "toml" || e == "sql");
            source.then(|| entry.metadata().ok()?.modified().ok()).flatten()
        })
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_source_is_newer_and_other_files_do_not_count() {
        let dir = workspace()
            .join("target")
            .join(format!("dev-test-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("inner")).expect("a folder below target");
        assert_eq!(newest(&dir), None);
        std::fs::write(dir.join("inner/a.rs"), "").expect("writes");
        std::fs::write(dir.join("b.txt"), "").expect("writes");
        assert!(newest(&dir).is_some());
        std::fs::remove_dir_all(dir).expect("removes");
    }
}
