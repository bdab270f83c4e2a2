//! Other projects' tools that checks run (helm, kubeconform, newman, schemathesis, …): from package registries, built or
//! installed once and kept by version beside the stack's servers.

pub mod cargo;
pub mod catalog;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::build::{go_build, go_command};
use crate::command::{Cmd, find};
use crate::paths::{Paths, install, is_built, write};
use crate::progress::Steps;

/// Fetching and installing packages of Python or Node.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// A program of a Go module.
#[derive(Clone, Copy, Debug)]
pub struct GoTool {
    /// What it is called once built.
    pub name: &'static str,
    /// Its module.
    pub module: &'static str,
    /// Its version, `v1.2.3`.
    pub version: &'static str,
    /// The main package.
    pub package: &'static str,
    /// `replace` lines of the module's own go.mod that concern third parties: `go build` in another module ignores
    /// them. `old => new v1.2.3` each.
    pub replace: &'static [&'static str],
    /// The version of Go that it needs.
    pub go: &'static str,
    /// Files and folders of the module that are kept beside the program: CRDs, scripts that it calls.
    pub keep: &'static [&'static str],
    /// Our own `main.go` around a module that is a library; empty for a module that has a program.
    pub main: &'static str,
}

impl GoTool {
    /// What most tools have: nothing but their program, from a Go that builds the stack too.
    const PLAIN: Self = Self {
        name: "",
        module: "",
        version: "",
        package: "",
        replace: &[],
        go: "1.26",
        keep: &[],
        main: "",
    };

    fn go_mod(&self) -> String {
        let mut text = format!(
            "module xtask.local/{}\n\ngo {}\n\nrequire {} {}\n",
            self.name, self.go, self.module, self.version
        );
        for line in self.replace {
            text += &format!("replace {line}\n");
        }
        text
    }

    /// What `go get` is asked for. A package without a version is upgraded to the newest.
    fn wanted(&self) -> String {
        if self.main.is_empty() {
            format!("{}@{}", self.package, self.version)
        } else {
            self.package.to_owned()
        }
    }

    /// Builds it unless that was done, and returns the program.
    ///
    /// # Errors
    /// When Go is missing or the build fails.
    pub fn ensure(&self, paths: &Paths, steps: &mut Steps) -> Result<PathBuf> {
        let dir = paths.tool_dir(self.name, self.version);
        let mut recipe = format!("{}\n{}{}", self.go_mod(), self.package, self.main);
        for kept in self.keep {
            recipe += &format!("\nkeep {kept}");
        }
        let program = dir.join(self.name);
        let _lock = paths.lock_tool(self.name)?;
        if !is_built(&dir, &recipe) {
            steps.run(&format!("Build {} {}", self.name, self.version), |progress| {
                install(&dir, &recipe, |into| {
                    let source = into.join("source");
                    write(&source.join("go.mod"), &self.go_mod())?;
                    if !self.main.is_empty() {
                        write(&source.join("main.go"), self.main)?;
                    }
                    // The list of dependencies, which a build of somebody else's program lacks.
                    go_command(&source).args(["get", &self.wanted()]).run()?;
                    go_build(&source, &[self.package], progress, |go, package| {
                        go.args(["-ldflags", "-s -w", "-o"])
                            .arg(into.join(self.name))
                            .arg(package)
                    })?;
                    self.copy_kept(&source, into)
                })
            })?;
        }
        Ok(program)
    }

    /// What the module has at `path`, one of [`GoTool::keep`].
    #[must_use]
    pub fn kept(&self, paths: &Paths, path: &str) -> PathBuf {
        let name = Path::new(path).file_name().unwrap_or_default();
        paths.tool_dir(self.name, self.version).join("kept").join(name)
    }

    fn copy_kept(&self, source: &Path, into: &Path) -> Result<()> {
        if self.keep.is_empty() {
            return Ok(());
        }
        let module = go_command(source)
            .args(["list", "-m", "-f", "{{.Dir}}", self.module])
            .run()?;
        let kept = into.join("kept");
        fs::create_dir_all(&kept)?;
        for path in self.keep {
            Cmd::new("cp")
                .args(["-r", "--no-preserve=mode"])
                .arg(Path::new(module.trim()).join(path))
                .arg(&kept)
                .run()?;
        }
        Ok(())
    }
}

/// Installs packages of Python (`name==version` each) into a virtual environment of their own, unless that was done, and
/// returns its folder of programs.
///
/// # Errors
/// When Python or its `venv` is missing, or a package cannot be installed.
pub fn python(paths: &Paths, name: &str, packages: &[&str], steps: &mut Steps) -> Result<PathBuf> {
    let recipe = packages.join("\n");
    let dir = paths.tool_dir(name, "python");
    let _lock = paths.lock_tool(name)?;
    if !is_built(&dir, &recipe) {
        ensure!(
            find("python3").is_some(),
            "{name} needs Python: `apt-get install python3-venv`"
        );
        steps.run(&format!("Install {name}"), |_| {
            // A virtual environment holds its own path: it cannot be made elsewhere and moved here.
            if dir.exists() {
                fs::remove_dir_all(&dir)?;
            }
            Cmd::new("python3")
                .args(["-m", "venv"])
                .arg(&dir)
                .timeout(INSTALL_TIMEOUT)
                .run()
                .context("`apt-get install python3-venv` brings what is missing")?;
            Cmd::new(dir.join("bin/python"))
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                .args(packages)
                .timeout(INSTALL_TIMEOUT)
                .run()?;
            crate::paths::mark_built(&dir, &recipe)
        })?;
    }
    Ok(dir.join("bin"))
}

/// Installs packages of Node (`name@version` each) into a folder of their own, unless that was done, and returns that
/// folder, which holds `node_modules`.
///
/// # Errors
/// When npm is missing or a package cannot be installed.
pub fn node(paths: &Paths, name: &str, packages: &[&str], steps: &mut Steps) -> Result<PathBuf> {
    let recipe = packages.join("\n");
    let dir = paths.tool_dir(name, "node");
    let _lock = paths.lock_tool(name)?;
    if !is_built(&dir, &recipe) {
        ensure!(
            find("npm").is_some(),
            "{name} needs Node.js with npm: `apt-get install npm`, or https://nodejs.org"
        );
        steps.run(&format!("Install {name}"), |_| {
            install(&dir, &recipe, |into| npm(into, packages))
        })?;
    }
    Ok(dir)
}

fn npm(into: &Path, packages: &[&str]) -> Result<()> {
    write(&into.join("package.json"), "{\"private\": true}\n")?;
    Cmd::new("npm")
        .dir(into)
        .args(["install", "--no-audit", "--no-fund", "--loglevel=error"])
        .args(packages)
        .timeout(INSTALL_TIMEOUT)
        .run()
        .map(drop)
}
