//! `cargo xtask soak operator`: the operator's own soak tests at full size, as it is shipped.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::servers;
use crate::command::Cmd;
use crate::machine;
use crate::progress::Steps;
use crate::release;
use crate::stack::Stack;

const RUN: &str = "soak-operator";
/// Beside the runs of tests and demos.
const PORT_OFFSET: u16 = 1_400;
/// Build, cold starts and the applying of thousands of pipelines.
const LIMIT: Duration = Duration::from_secs(90 * 60);

/// Options of `cargo xtask soak operator`.
#[derive(Args, Debug)]
pub struct OperatorOptions {
    /// Pipelines
    #[arg(long, default_value_t = 1_000)]
    pub pipelines: u32,
    /// How long nothing may be written, in minutes
    #[arg(long, default_value_t = 10)]
    pub minutes: u64,
    /// Ports of its servers, beside those of another such run
    #[arg(long, default_value_t = PORT_OFFSET)]
    pub port_offset: u16,
    /// Do not ask before packages are installed
    #[arg(long)]
    pub yes: bool,
}

/// Runs the soak tests on servers of their own.
pub(super) fn run(options: &OperatorOptions, steps: &mut Steps) -> Result<()> {
    machine::prepare(false, options.yes, steps)?;
    let shipped = steps.run("Both programs built", release::build)?;
    let stack = Stack::up(&servers(RUN, options.port_offset)?, steps)?;
    let test = Cmd::cargo()
        .args(["test", "--workspace"])
        .arg("--all-features")
        .args([
            "--test",
            "cluster",
            "--",
            "soak::",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("TEST_KUBECONFIG", &stack.kubeconfig)
        .env("TEST_AUDIT_LOG", &stack.audit_log)
        .env("TEST_KAFKA", &stack.kafka_host)
        .env("SOAK_OPERATOR", &shipped.operator)
        .env("SOAK_PIPELINES", options.pipelines.to_string())
        .env("SOAK_SECONDS", (options.minutes * 60).to_string())
        .timeout(LIMIT + Duration::from_secs(options.minutes * 60));
    let result = steps.run("the soak of the operator", |_| {
        test.stdout_lines(|line| println!("{line}"))
    });
    steps.run("its servers stopped", |_| Stack::down(RUN, true))?;
    result
}
