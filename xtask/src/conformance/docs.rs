//! The documents as the book that readers get: built by mdBook, and every link and anchor of the pages it makes followed by
//! LinkChecker.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::command::Cmd;
use crate::paths::Paths;
use crate::progress::Steps;
use crate::tools::catalog::{LINKCHECKER, MDBOOK};
use crate::{release, tools};

/// LinkChecker as its own command starts it, but for one thing: started by root it becomes `nobody`, who can read
/// neither its modules nor the book below root's home.
const START: &str =
    "import os; os.geteuid = lambda: 1; from linkcheck.command.linkchecker import linkchecker; linkchecker()";

/// Builds the book and follows its links.
pub(super) fn run(steps: &mut Steps) -> Result<()> {
    let paths = Paths::from_env()?;
    let mdbook = MDBOOK.ensure(&paths, steps)?;
    let python = tools::python(&paths, "linkchecker", &[LINKCHECKER], steps)?.join("python");
    let scratch = tempfile::tempdir()?;
    let book = scratch.path().join("book");
    steps.run("mdbook build", |_| build(&mdbook, &book))?;
    let said = steps.run("every link and anchor leads somewhere", |_| {
        follow(&python, &book, scratch.path())
    })?;
    println!("{said}");
    Ok(())
}

fn build(mdbook: &Path, book: &Path) -> Result<()> {
    let output = Cmd::new(mdbook)
        .args(["build", "--dest-dir"])
        .arg(book)
        .arg(release::workspace().join("docs"))
        .output()?;
    let complaints: Vec<&str> = output
        .stderr
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"))
        .collect();
    ensure!(
        output.status.success() && complaints.is_empty(),
        "mdbook: {}",
        output.stderr
    );
    Ok(())
}

/// LinkChecker's closing line; an anchor that is not there is only a warning to it, and so an error by option.
fn follow(python: &Path, book: &Path, scratch: &Path) -> Result<String> {
    let config = scratch.join("linkchecker.conf");
    std::fs::write(&config, "[AnchorCheck]\n[output]\nwarnings=1\n")?;
    let output = Cmd::new(python)
        .args(["-c", START, "--no-status", "--config"])
        .arg(&config)
        .arg(book.join("index.html"))
        .timeout(Duration::from_secs(300))
        .output()?;
    let closing = output
        .stdout
        .lines()
        .find(|line| line.starts_with("That's it."))
        .unwrap_or_default();
    ensure!(
        output.status.success() && closing.contains(" 0 warnings found"),
        "{}\n{}",
        output.stdout,
        output.stderr
    );
    Ok(closing.to_owned())
}
