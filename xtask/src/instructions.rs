//! `cargo xtask bench instructions`: what an answer of each model takes, in instructions: the same under every load, and
//! on every machine with the same vector instructions.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::bench::Output;
use crate::command::{Cmd, find};
use crate::progress::Steps;
use crate::release;

const MODELS: [&str; 7] = [
    "Popularity",
    "ItemKnn",
    "Rp3Beta",
    "SessionKnn",
    "Ease",
    "ImplicitAls",
    "Hybrid",
];
/// A build of the engine alone, or one model under valgrind, which takes seconds on a machine at rest.
const TIMEOUT: Duration = Duration::from_secs(1_200);

/// Counts and prints.
///
/// # Errors
/// When valgrind is missing, or the example does not build or run.
pub fn run(output: Output, steps: &mut Steps) -> Result<()> {
    ensure!(
        find("valgrind").is_some(),
        "valgrind counts the instructions: `apt-get install valgrind`"
    );
    let target = release::workspace().join("target/instructions");
    steps.run("The example built, with its symbols", |_| {
        Cmd::cargo()
            .args(["build", "--quiet", "--release", "--package", "recommender-engine"])
            .args(["--no-default-features", "--example", "answers", "--target-dir"])
            .arg(&target)
            .env("CARGO_PROFILE_RELEASE_STRIP", "none")
            .timeout(TIMEOUT)
            .run()
    })?;
    let program = target.join("release/examples/answers");
    let models = target.join("models");
    std::fs::create_dir_all(&models).with_context(|| models.display().to_string())?;
    steps.run("Ease and ImplicitAls fitted", |_| {
        Cmd::new(&program).arg("fit").arg(&models).timeout(TIMEOUT).run()
    })?;
    if let Output::Text = output {
        println!("model         instructions an answer");
    }
    for model in MODELS {
        let (instructions, answers) =
            steps.run(&format!("{model} counted"), |_| count(&program, model, &models))?;
        let each = instructions / answers.max(1);
        match output {
            Output::Json => println!("{}", json!({"model": model, "instructionsPerAnswer": each})),
            Output::Text => println!("{model:<12}  {each:>10}"),
        }
    }
    Ok(())
}

fn count(program: &Path, model: &str, models: &Path) -> Result<(u64, u64)> {
    let said = Cmd::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no", "--toggle-collect=answers::asked"])
        .arg(program)
        .arg(model)
        .arg(models)
        .timeout(TIMEOUT)
        .output()?;
    ensure!(said.status.success(), "{}", said.stderr);
    parse(&said.stdout, &said.stderr)
}

/// The example prints how many answers there were, valgrind what was collected.
fn parse(stdout: &str, stderr: &str) -> Result<(u64, u64)> {
    let answers = stdout
        .trim()
        .parse()
        .context("the example says how many answers there were")?;
    let collected = stderr
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .context("valgrind says what it collected")?;
    let instructions = collected.1.trim().parse().context("a number of instructions")?;
    ensure!(
        instructions > 0,
        "nothing was collected: is the function still called `asked`?"
    );
    Ok((instructions, answers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_valgrind_collected_is_read_and_nothing_is_an_error() {
        let said = |collected| format!("==1== Events    : Ir\n==1== Collected : {collected}\n");
        assert_eq!(parse("200\n", &said("4200")).unwrap(), (4_200, 200));
        assert!(parse("200\n", &said("0")).is_err());
        assert!(parse("", &said("1")).is_err());
    }
}
