//! Three brokers that no other test uses: they are killed, and cut off.

use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::cable::{Cable, Line};
use crate::shop::server;
use crate::support::eventually;

/// Copies of each record.
pub const COPIES: usize = 3;

/// The brokers, and a cable to each.
pub struct Brokers {
    /// Their own addresses, past the cables.
    pub direct: String,
    /// Where the cables begin, which is what the brokers tell those who come through them.
    pub through_cables: Vec<String>,
    cables: Vec<Cable>,
}

impl Brokers {
    pub async fn new() -> Self {
        let (mut through_cables, mut cables) = (Vec::new(), Vec::new());
        for pair in server("TEST_BROKERS_PROXIED").split(',') {
            let (listens, told) = pair.split_once('=').unwrap();
            cables.push(Cable::between(told, listens).await);
            through_cables.push(told.to_owned());
        }
        assert_eq!(cables.len(), COPIES);
        Self {
            direct: server("TEST_BROKERS"),
            through_cables,
            cables,
        }
    }

    /// All of them at once.
    pub fn are(&self, line: Line) {
        for cable in &self.cables {
            cable.is(line);
        }
    }

    /// The node that leads a topic's first partition.
    pub async fn leader(&self, topic: &str) -> i32 {
        let found = self.partitions(topic).await;
        found.iter().find(|partition| partition.0 == 0).unwrap().1
    }

    /// SIGKILL to one node.
    pub async fn kill(&self, node: i32) {
        task(&["stop", "kafka", "--kill"], node).await;
    }

    /// Starts it again, and waits until every partition of a topic has all its copies.
    pub async fn start(&self, node: i32, topic: &str) {
        task(&["start", "kafka"], node).await;
        eventually("every copy", || async {
            let partitions = self.partitions(topic).await;
            partitions.iter().all(|(_, _, copies)| *copies == COPIES)
        })
        .await;
    }

    /// Of each partition: its number, its leader, its copies that are in step.
    async fn partitions(&self, topic: &str) -> Vec<(i32, i32, usize)> {
        let (direct, topic) = (self.direct.clone(), topic.to_owned());
        let ask = move || {
            let mut config = ClientConfig::new();
            let consumer: BaseConsumer = config.set("bootstrap.servers", direct).create().unwrap();
            let metadata = consumer
                .fetch_metadata(Some(&topic), Duration::from_secs(10))
                .unwrap();
            let partitions = metadata.topics()[0].partitions().iter();
            partitions
                .map(|partition| (partition.id(), partition.leader(), partition.isr().len()))
                .collect()
        };
        tokio::task::spawn_blocking(ask).await.unwrap()
    }
}

/// What `cargo xtask stack` does with one node.
async fn task(words: &[&str], node: i32) {
    let mut command = Command::new(server("TEST_XTASK"));
    command.arg("stack").args(words);
    command.args(["--kafka-node", &node.to_string()]);
    command.args(["--run", &server("TEST_BROKERS_RUN")]);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?} {node}: {said}");
}
