//! Every parser that meets bytes from outside, with very many made-up inputs: the properties that unit tests check with
//! a few hundred, run with as many as wanted.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::command::Cmd;
use crate::progress::Steps;

const TIMEOUT: Duration = Duration::from_secs(6 * 3600);
/// What their names say: nothing makes a parser panic, and both ways of reading an event agree on every text.
const PROPERTIES: [&str; 2] = ["panic", "both_ways_of_reading"];
/// A list of texts, and no property.
const LIST: &str = "hostile_texts_never_panic";

/// Runs every property with `cases` inputs, and prints executions and findings.
pub(super) fn run(cases: u64, steps: &mut Steps) -> Result<()> {
    let (mut properties, mut found) = (0u64, Vec::new());
    steps.run("Parsers", |progress| {
        let tests = Cmd::cargo()
            .args([
                "test",
                "--workspace",
                "--all-features",
                "--lib",
                "--no-fail-fast",
                "--",
            ])
            .args(PROPERTIES)
            .args(["--skip", LIST])
            .env("PROPTEST_CASES", cases.to_string())
            // Failing inputs are printed; a run leaves no files behind.
            .env("PROPTEST_FAILURE_PERSISTENCE", "off")
            .timeout(TIMEOUT);
        let result = tests.lines(|line| {
            let Some(name) = line.strip_prefix("test ") else {
                if line.contains("minimal failing input") {
                    progress.line(line);
                }
                return;
            };
            if let Some(name) = name.strip_suffix(" ... ok") {
                properties += 1;
                progress.line(&format!("{name}: {cases} executions"));
            } else if let Some(name) = name.strip_suffix(" ... FAILED") {
                properties += 1;
                found.push(name.to_owned());
            }
        });
        // A property that fails is a finding; anything else is an error of this run.
        if found.is_empty() { result } else { Ok(()) }
    })?;
    println!(
        "{properties} properties, {} executions, {} findings",
        properties * cases,
        found.len()
    );
    if properties == 0 {
        bail!("no property was run");
    }
    if !found.is_empty() {
        bail!("findings: {}", found.join(", "));
    }
    Ok(())
}
