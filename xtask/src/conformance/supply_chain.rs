//! What we ship on top of, and what builds it.

use std::time::Duration;

use anyhow::Result;

use crate::command::Cmd;
use crate::paths::Paths;
use crate::progress::Steps;
use crate::release;
use crate::tools::catalog;

/// cargo-deny without its advisories, which are fetched from outside the package registries (CI does), and actionlint.
pub(super) fn run(steps: &mut Steps) -> Result<()> {
    let paths = Paths::from_env()?;
    let actionlint = catalog::ACTIONLINT.ensure(&paths, steps)?;
    let deny = catalog::CARGO_DENY.ensure(&paths, steps)?;
    steps.run("actionlint", |_| {
        Cmd::new(&actionlint)
            .dir(release::workspace())
            .args(["-no-color", "-shellcheck="])
            .run()
    })?;
    let output = steps.run("cargo deny check bans licenses sources", |_| {
        Cmd::new(&deny)
            .dir(release::workspace())
            .args([
                "--color",
                "never",
                "check",
                "--hide-inclusion-graph",
                "bans",
                "licenses",
                "sources",
            ])
            .timeout(Duration::from_secs(300))
            .output()
    })?;
    // It reports on standard error; the last line sums up.
    let summary = output.stderr.lines().rfind(|line| !line.trim().is_empty());
    println!("{}", summary.unwrap_or_default());
    anyhow::ensure!(output.status.success(), "{}", output.stderr);
    Ok(())
}
