//! `cargo xtask soak recommender`: what it depends on goes away under load.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::check;
use crate::command::Cmd;
use crate::machine::{self, Consent, Wanted};
use crate::progress::Steps;
use crate::release;
use crate::stack::run::Ports;
use crate::stack::{NodeMode, Stack, StackOptions};

/// Its ports stand beside those of a demo and of the tests.
const PORT_OFFSET: u16 = 1_400;
/// Building and everything that is not waited for.
const LIMIT: Duration = Duration::from_secs(90 * 60);

/// Where histories are while things go away.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Histories {
    /// In the memory of each replica.
    #[default]
    Memory,
    /// In Redis.
    Redis,
}

/// Options of `cargo xtask soak recommender`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cargo xtask soak recommender                  a minute for each fault: about 15 minutes
  cargo xtask soak recommender --seconds 10     a quick look
  cargo xtask soak recommender --histories redis --writers 1
                                                replicas that hold few of the customers")]
pub struct RecommenderOptions {
    /// How long each thing is gone, in seconds
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Customers who read all the while, some forty requests a second each
    #[arg(long, default_value_t = 8)]
    pub readers: u32,
    /// Writers, some 800 events a second each
    #[arg(long, default_value_t = 2)]
    pub writers: u32,
    /// Where customers' histories are; what Redis keeps of one customer is 1,024 events, so let one writer do
    #[arg(long, value_enum, default_value_t)]
    pub histories: Histories,
    /// Do not ask before packages are installed
    #[arg(long)]
    pub yes: bool,
}

/// Runs the recommender's test of faults with real clocks, on the program as it is shipped, on servers of its own.
pub(super) fn run(options: &RecommenderOptions, steps: &mut Steps) -> Result<()> {
    const RUN: &str = "soak-recommender";
    let servers = StackOptions {
        run_name: RUN.into(),
        kubernetes: false,
        node: NodeMode::Off,
        controllers: false,
        kafka: true,
        kafka_nodes: 3,
        redis: true,
        kafka_secured: false,
        ports: Ports::offset(PORT_OFFSET)?,
    };
    let wanted = Wanted {
        stack: Some(servers.clone()),
        release: true,
        ..Wanted::default()
    };
    machine::prepare_for(&wanted, Consent::from_flag(options.yes), steps)?;
    let shipped = steps.run("Both programs built", release::build)?;
    let result = Stack::up(&servers, steps).and_then(|stack| {
        let test = Cmd::cargo()
            .args(["test", "--workspace", "--all-features"])
            .args(["--test", "stack", "--", "--exact", "--nocapture"])
            .arg("ordeal::whatever_goes_away_under_load_no_read_fails_and_no_acknowledged_event_is_lost_or_doubled")
            .env("TEST_REDIS", format!("redis://{}", stack.redis_host))
            .env("FAULTS_RECOMMENDER", &shipped.recommender)
            .env("FAULT_SECONDS", options.seconds.to_string())
            .env("FAULT_READERS", options.readers.to_string())
            .env("FAULT_HISTORIES", format!("{:?}", options.histories))
            .env("FAULT_WRITERS", options.writers.to_string())
            .timeout(LIMIT + Duration::from_secs(options.seconds * 14));
        let test = check::brokers(test, &stack)?;
        let mut passed = false;
        steps.run("the soak of the recommender", |_| {
            test.stdout_lines(|line| {
                println!("{line}");
                passed |= line.starts_with("test result: ok. 1 passed");
            })
        })?;
        ensure!(passed, "the test of faults was not run");
        Ok(())
    });
    steps.run("its servers stopped", |_| Stack::down(RUN, true))?;
    result
}
