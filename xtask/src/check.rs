//! `cargo xtask test`: every check of correctness, in the order in which a mistake is cheapest to find.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::command::Cmd;
use crate::paths::Paths;
use crate::progress::{Steps, seconds};
use crate::release;
use crate::stack::run::Ports;
use crate::stack::{NodeMode, Stack, StackOptions, kafka, kafka_security};
use crate::{conformance, console, e2e, machine};

/// Limit of a run that had to build the servers or the programs, and of one that had not.
const BUDGET_COLD: Duration = Duration::from_secs(75 * 60);
const BUDGET_WARM: Duration = Duration::from_secs(20 * 60);
/// The run of the stack that the integration tests use: an API server without controllers, Kafka, Redis.
const RUN: &str = "test";
/// Its ports stand beside those of a demo that may be up.
const PORT_OFFSET: u16 = 1000;
/// The run of the three brokers that are killed.
const BROKERS: &str = "test-brokers";
const BROKERS_PORT_OFFSET: u16 = 1200;
/// A single step of cargo may compile everything.
const CARGO_LIMIT: Duration = Duration::from_secs(60 * 60);

/// Options of `cargo xtask test`.
#[derive(Args, Debug, Default)]
pub struct TestOptions {
    /// Do not ask before packages are installed
    #[arg(long)]
    pub yes: bool,
    /// Only these tiers (default: all, in this order)
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Tier>,
}

/// Tiers of tests.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// rustfmt and clippy.
    Lint,
    /// Tests that need nothing.
    Unit,
    /// Tests against a real API server, Kafka and Redis.
    Integration,
    /// The console in a headless browser.
    Console,
    /// The main job, from nothing to live recommendations.
    EndToEnd,
}

/// Tests of one tier.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Runs every check and prints the tests by tier and the time of each step.
///
/// # Errors
/// When a check fails, a test is skipped under `CI=true`, or the budget is exceeded.
pub fn run(options: &TestOptions, steps: &mut Steps) -> Result<()> {
    let begun = Instant::now();
    let cold = is_cold()?;
    let wanted = |tier: Tier| options.only.is_empty() || options.only.contains(&tier);
    let mut tiers: Vec<(&str, Count)> = Vec::new();
    let result = tiers_in_order(options, steps, &mut tiers, wanted);
    println!("\n{}", steps.table());
    let mut all = Count::default();
    for (tier, count) in &tiers {
        println!(
            "{tier}: {} passed, {} failed, {} skipped",
            count.passed, count.failed, count.skipped
        );
        all.passed += count.passed;
        all.failed += count.failed;
        all.skipped += count.skipped;
    }
    result?;
    if all.skipped > 0 && std::env::var("CI").is_ok_and(|ci| ci == "true") {
        bail!("{} tests were skipped: under CI=true none may be", all.skipped);
    }
    let (budget, kind) = if cold {
        (BUDGET_COLD, "cold")
    } else {
        (BUDGET_WARM, "warm")
    };
    let took = begun.elapsed();
    println!("{kind} run: {} of {}", seconds(took), seconds(budget));
    if took > budget {
        bail!(
            "over budget: the {kind} run took {}, its limit is {}",
            seconds(took),
            seconds(budget)
        );
    }
    println!("{} passed, {} failed", all.passed, all.failed);
    Ok(())
}

fn tiers_in_order(
    options: &TestOptions,
    steps: &mut Steps,
    tiers: &mut Vec<(&'static str, Count)>,
    wanted: impl Fn(Tier) -> bool,
) -> Result<()> {
    if wanted(Tier::Lint) {
        steps.run("rustfmt", |_| {
            cargo(&["fmt", "--all", "--check"]).stderr_inherited().run()
        })?;
        steps.run("clippy, warnings denied", |_| {
            cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--",
                "-D",
                "warnings",
            ])
            .stderr_inherited()
            .run()
        })?;
    }
    if wanted(Tier::Unit) {
        tiers.push(("unit", Count::default()));
        let count = &mut tiers.last_mut().expect("pushed above").1;
        steps.run("unit tests", |_| {
            tests(
                count,
                cargo(&[
                    "test",
                    "--workspace",
                    "--all-features",
                    "--lib",
                    "--bins",
                    "--no-fail-fast",
                ]),
            )
        })?;
        steps.run("documentation tests", |_| {
            tests(count, cargo(&["test", "--workspace", "--all-features", "--doc"]))
        })?;
    }
    if wanted(Tier::Integration) || wanted(Tier::EndToEnd) {
        machine::prepare(wanted(Tier::EndToEnd), options.yes, steps)?;
    }
    if wanted(Tier::Integration) {
        let stack = Stack::up(
            &StackOptions {
                run_name: RUN.into(),
                kubernetes: true,
                node: NodeMode::Off,
                controllers: false,
                kafka: true,
                kafka_nodes: 1,
                redis: true,
                kafka_secured: true,
                ports: Ports::offset(PORT_OFFSET)?,
            },
            steps,
        )?;
        // Brokers that are killed and cut off, which no other test leans on.
        let brokers = Stack::up(
            &StackOptions {
                run_name: BROKERS.into(),
                kubernetes: false,
                node: NodeMode::Off,
                controllers: false,
                kafka: true,
                kafka_nodes: 3,
                redis: false,
                kafka_secured: false,
                ports: Ports::offset(BROKERS_PORT_OFFSET)?,
            },
            steps,
        )?;
        tiers.push(("integration", Count::default()));
        let count = &mut tiers.last_mut().expect("pushed above").1;
        let result = steps.run("integration tests", |_| {
            let command = cargo(&[
                "test",
                "--workspace",
                "--all-features",
                "--test",
                "*",
                "--no-fail-fast",
            ])
            .env("TEST_KUBECONFIG", &stack.kubeconfig)
            .env("TEST_AUDIT_LOG", &stack.audit_log)
            .env("TEST_KAFKA", &stack.kafka_host)
            .env("TEST_REDIS", format!("redis://{}", stack.redis_host));
            tests(count, self::brokers(secured(command, &stack), &brokers)?)
        });
        steps.run("their servers stopped", |_| {
            Stack::down(BROKERS, true)?;
            Stack::down(RUN, true)
        })?;
        result?;
    }
    if wanted(Tier::Console) {
        machine::prepare_browser(options.yes, steps)?;
        let mut outcome = console::Outcome::default();
        let result = console::run(&mut outcome, steps);
        tiers.push((
            "console",
            Count {
                passed: outcome.passed,
                failed: outcome.failed,
                skipped: outcome.skipped,
            },
        ));
        result?;
    }
    if wanted(Tier::EndToEnd) {
        tiers.push(("end-to-end", Count::default()));
        let count = &mut tiers.last_mut().expect("pushed above").1;
        let result = e2e::run(steps, |passed| {
            if passed {
                count.passed += 1
            } else {
                count.failed += 1
            }
        });
        steps.run("the end-to-end stack stopped", |_| Stack::down(e2e::RUN, true))?;
        result?;
        // Every request of the collection, against the program that was just built.
        let collection = conformance::postman::run(steps);
        if collection.is_ok() {
            count.passed += 1;
        } else {
            count.failed += 1;
        }
        collection?;
    }
    Ok(())
}

/// Whether servers or programs have to be built first.
fn is_cold() -> Result<bool> {
    let program = release::target_dir()?
        .join(release::target().unwrap_or(""))
        .join("release/recommender");
    Ok(!program.exists() || !Paths::from_env()?.kubernetes("kube-apiserver").exists())
}

/// Tells the tests how to reach Kafka behind TLS and logins.
fn secured(command: Cmd, stack: &Stack) -> Cmd {
    let Some(secured) = kafka_security::of(&stack.run) else {
        return command;
    };
    command
        .env("TEST_KAFKA_SASL", secured.sasl)
        .env("TEST_KAFKA_TLS", secured.tls)
        .env("TEST_KAFKA_MTLS", secured.mtls)
        .env("TEST_KAFKA_CERTIFICATES", secured.certificates)
}

/// Tells the tests about brokers that they may kill and cut off, and how.
///
/// # Errors
/// When this program's own path is unknown.
pub(crate) fn brokers(command: Cmd, stack: &Stack) -> Result<Cmd> {
    let proxied: Vec<String> = kafka::proxied(&stack.run)
        .into_iter()
        .map(|node| format!("{}={}", node.listens, node.told))
        .collect();
    Ok(command
        .env("TEST_BROKERS", &stack.kafka_host)
        .env("TEST_BROKERS_PROXIED", proxied.join(","))
        .env("TEST_BROKERS_RUN", stack.run.name())
        .env("TEST_XTASK", std::env::current_exe()?))
}

fn cargo(args: &[&str]) -> Cmd {
    Cmd::cargo().args(args).timeout(CARGO_LIMIT)
}

/// Runs a test command, shows what it prints, and counts its closing lines.
fn tests(count: &mut Count, command: Cmd) -> Result<()> {
    command.stdout_lines(|line| {
        println!("{line}");
        if let Some(closing) = closing_line(line) {
            count.passed += closing.passed;
            count.failed += closing.failed;
            count.skipped += closing.skipped;
        }
    })
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn closing_line(line: &str) -> Option<Count> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |word: &str| -> Option<u64> {
        rest.split("; ")
            .find_map(|part| part.strip_suffix(word)?.trim().parse().ok())
    };
    Some(Count {
        passed: number("passed")?,
        failed: number("failed")?,
        skipped: number("ignored")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_cargo_test_are_counted() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(
            closing_line(line),
            Some(Count {
                passed: 3,
                failed: 2,
                skipped: 1
            })
        );
        assert_eq!(closing_line("running 3 tests"), None);
    }
}
