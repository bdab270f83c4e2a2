//! `cargo xtask compare`: the recommender's models beside the same methods of other programs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use crate::command::Cmd;
use crate::paths::Paths;
use crate::progress::Steps;
use crate::{release, tools};

/// What the other programs need, as one line a package.
const REQUIREMENTS: &str = include_str!("../../recommender/engine/compare/requirements.txt");
const TIMEOUT: Duration = Duration::from_secs(2 * 3_600);

/// Options of `cargo xtask compare`.
#[derive(Args, Debug)]
pub struct CompareOptions {
    /// Form of the data: events, or interactions (`user item item …`)
    #[arg(long, default_value = "events", value_parser = ["events", "interactions"])]
    pub format: String,
    /// What to learn from; Online Retail of this repository if absent
    #[arg(long, requires = "test")]
    pub train: Option<PathBuf>,
    /// What to ask about
    #[arg(long)]
    pub test: Option<PathBuf>,
    /// Some of the methods, separated by commas
    #[arg(long)]
    pub methods: Option<String>,
}

/// Makes the environment, builds the recommender and prints a table of both sides.
///
/// # Errors
/// When Python or a package is missing, the build fails, or the comparison does.
pub fn run(options: &CompareOptions, steps: &mut Steps) -> Result<()> {
    let paths = Paths::from_env()?;
    let packages: Vec<&str> = REQUIREMENTS.lines().collect();
    let programs = tools::python(&paths, "compare", &packages, steps)?;
    let built = steps.run("Build the recommender", release::build)?;
    let script = release::workspace().join("recommender/engine/compare/peers.py");
    ensure!(script.is_file(), "{} is missing", script.display());
    let mut command = Cmd::new(programs.join("python"))
        .arg(&script)
        .args(["--format", &options.format])
        .arg("--recommender")
        .arg(&built.recommender)
        .timeout(TIMEOUT);
    for (name, file) in [("--train", &options.train), ("--test", &options.test)] {
        if let Some(file) = file {
            command = command.arg(name).arg(file);
        }
    }
    if let Some(methods) = &options.methods {
        command = command.args(["--methods", methods]);
    }
    command.stdout_lines(|line| println!("{line}"))
}
