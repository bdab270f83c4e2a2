//! Tools that come as crates.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::command::Cmd;
use crate::paths::{Paths, install, is_built};
use crate::progress::Steps;

/// A program of a crate.
#[derive(Clone, Copy, Debug)]
pub struct CargoTool {
    /// The crate, and the program.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Further arguments of `cargo install`: what to leave out.
    pub args: &'static [&'static str],
}

impl CargoTool {
    /// Builds it unless that was done, and returns the program.
    ///
    /// # Errors
    /// When the build fails.
    pub fn ensure(&self, paths: &Paths, steps: &mut Steps) -> Result<PathBuf> {
        let dir = paths.tool_dir(self.name, self.version);
        let _lock = paths.lock_tool(self.name)?;
        if !is_built(&dir, self.version) {
            steps.run(&format!("Build {} {}", self.name, self.version), |progress| {
                install(&dir, self.version, |into| {
                    let mut crates = 0;
                    Cmd::cargo()
                        .args([
                            "install",
                            "--locked",
                            "--no-track",
                            self.name,
                            "--version",
                            self.version,
                        ])
                        .args(self.args)
                        .arg("--root")
                        .arg(into)
                        .arg("--target-dir")
                        .arg(into.join("target"))
                        .timeout(Duration::from_secs(60 * 60))
                        .lines(|line| {
                            if line.trim_start().starts_with("Compiling ") {
                                crates += 1;
                                progress.message(format!("{crates} crates"));
                            }
                        })?;
                    crate::paths::remove_all(&into.join("target"))
                })
            })?;
        }
        Ok(dir.join("bin").join(self.name))
    }
}
