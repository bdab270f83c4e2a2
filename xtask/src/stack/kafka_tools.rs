//! Kafka's own console tools: records in and out of a topic without any code of ours in between.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::run::Run;
use crate::command::{Cmd, find};

/// Writes records with null keys to a topic, exactly as given.
///
/// # Errors
/// When Kafka does not take them.
pub fn produce(run: &Run, topic: &str, records: &[&str]) -> Result<()> {
    let file: PathBuf = run.dir().join("records.txt");
    std::fs::write(&file, records.join("\n") + "\n")?;
    let input = std::fs::File::open(&file)?;
    tool(run, "ConsoleProducer")?
        .args(["--topic", topic, "--sync"])
        .stdin(input)
        .run()
        .with_context(|| format!("writing to {topic}"))?;
    Ok(())
}

/// All records of a topic, one a line: headers, then the value. Reads until nothing came for `quiet`.
///
/// # Errors
/// When the topic cannot be read.
pub fn consume(run: &Run, topic: &str, quiet: Duration) -> Result<String> {
    // The tool ends with an error when it times out, which is how it learns that it has read everything.
    let output = tool(run, "consumer.ConsoleConsumer")?
        .args([
            "--topic",
            topic,
            "--from-beginning",
            "--formatter-property",
            "print.headers=true",
        ])
        .args(["--timeout-ms", &quiet.as_millis().to_string()])
        .output()
        .with_context(|| format!("reading {topic}"))?;
    Ok(output.stdout)
}

/// The names of all topics.
///
/// # Errors
/// When Kafka does not answer.
pub fn topics(run: &Run) -> Result<Vec<String>> {
    let listed = tool(run, "TopicCommand")?
        .arg("--list")
        .run()
        .context("listing topics")?;
    Ok(listed.lines().map(str::to_owned).collect())
}

fn tool(run: &Run, class: &str) -> Result<Cmd> {
    let java = find("java").context("Java 17 or newer is needed for Kafka")?;
    Ok(Cmd::new(java)
        .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(format!("{}/*", run.paths().kafka_dir().join("libs").display()))
        .arg(format!("org.apache.kafka.tools.{class}"))
        .args([
            "--bootstrap-server",
            &format!("127.0.0.1:{}", run.settings().ports.kafka),
        ])
        .timeout(Duration::from_secs(60)))
}
