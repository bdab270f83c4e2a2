//! The console's tests in a headless browser: `recommender/tests/console/`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::Cmd;
use crate::paths::{is_built, mark_built};
use crate::progress::Steps;
use crate::release;

const INSTALL_LIMIT: Duration = Duration::from_secs(10 * 60);
/// The program is that of the integration tests; alone, it has to be compiled first.
const BUILD_LIMIT: Duration = Duration::from_secs(60 * 60);
const TEST_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Names a folder that the documentation's pictures are made anew in.
const PICTURES: &str = "CONSOLE_PICTURES";

/// Tests by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

/// Runs the tests, shows what they print, and counts them in `outcome`.
pub(crate) fn run(outcome: &mut Outcome, steps: &mut Steps) -> Result<()> {
    let dir = release::workspace().join("recommender/tests/console");
    let lock =
        std::fs::read_to_string(dir.join("package-lock.json")).context("the lock file of the tests")?;
    let modules = dir.join("node_modules");
    if !is_built(&modules, &lock) {
        steps.run("npm ci", |_| {
            Cmd::new("npm")
                .dir(&dir)
                .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
                .timeout(INSTALL_LIMIT)
                .run()?;
            mark_built(&modules, &lock)
        })?;
    }
    let program = steps.run("the recommender", |_| program())?;
    let node = |args: &[&str]| {
        Cmd::new("node")
            .dir(&dir)
            .args(args)
            .env("RECOMMENDER", &program)
            .timeout(TEST_LIMIT)
    };
    steps.run("tests in the browser", |_| {
        node(&["--test", "--test-reporter=tap"]).stdout_lines(|line| {
            println!("{line}");
            outcome.take(line);
        })
    })?;
    if let Some(folder) = std::env::var_os(PICTURES) {
        let folder = std::path::absolute(folder)?;
        steps.run("pictures of the console", |_| {
            node(&["screens.js"])
                .arg(folder)
                .stdout_lines(|line| println!("{line}"))
        })?;
    }
    Ok(())
}

/// The program as integration tests build it.
fn program() -> Result<PathBuf> {
    Cmd::cargo()
        .args([
            "build",
            "--package",
            "recommender",
            "--all-features",
            "--bin",
            "recommender",
        ])
        .timeout(BUILD_LIMIT)
        .stderr_inherited()
        .run()?;
    Ok(release::target_dir()?.join("debug/recommender"))
}

impl Outcome {
    /// Reads the closing lines of TAP as Node writes them: `# pass 12`.
    fn take(&mut self, line: &str) {
        let Some((word, number)) = line.strip_prefix("# ").and_then(|rest| rest.split_once(' ')) else {
            return;
        };
        let Ok(number) = number.trim().parse::<u64>() else {
            return;
        };
        match word {
            "pass" => self.passed += number,
            "fail" | "cancelled" => self.failed += number,
            "skipped" | "todo" => self.skipped += number,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_node_are_counted() {
        let mut outcome = Outcome::default();
        for line in [
            "ok 1 - # pass 3 of them",
            "# page load to first recommendation: median 80 ms",
            "# tests 9",
            "# pass 5",
            "# fail 1",
            "# cancelled 1",
            "# skipped 2",
            "# todo 0",
            "# duration_ms 12.5",
        ] {
            outcome.take(line);
        }
        let expected = Outcome {
            passed: 5,
            failed: 2,
            skipped: 2,
        };
        assert_eq!(outcome, expected);
    }
}
