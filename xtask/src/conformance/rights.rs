//! The shipped ClusterRole is the least that is enough: with any single right taken away, a pipeline's life does not come
//! to its end. `cargo xtask test` takes away rule by rule.

use std::time::Duration;

use anyhow::Result;

use super::with_stack;
use crate::command::Cmd;
use crate::progress::Steps;

/// Eighty rights, half a minute each, some at the same time; and a build.
const LIMIT: Duration = Duration::from_secs(60 * 60);

pub(super) fn run(steps: &mut Steps) -> Result<()> {
    with_stack(false, true, steps, |stack, steps| {
        steps.run("a life without each right", |_| {
            let test = Cmd::cargo()
                .args(["test", "--workspace"])
                .arg("--all-features")
                .args(["--test", "cluster", "--", "--exact", "--nocapture"])
                .arg("rights::without_any_one_right_of_the_shipped_role_a_pipelines_life_does_not_come_to_its_end")
                .env("TEST_KUBECONFIG", &stack.kubeconfig)
                .env("TEST_KAFKA", &stack.kafka_host)
                .env("RIGHTS", "all")
                .timeout(LIMIT);
            test.stdout_lines(|line| println!("{line}"))
        })
    })
}
