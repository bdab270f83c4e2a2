//! Many pipelines on one operator, a process of its own. `cargo xtask soak operator` runs these at full size, with the
//! binary that is shipped.

mod scale;
mod times;

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::Harness;

/// Whatever should happen at full size happens within this time.
const PATIENCE: Duration = Duration::from_secs(3_600);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Whether what is measured is what is shipped: a build for tests is larger and slower by itself.
fn shipped() -> bool {
    std::env::var_os("SOAK_OPERATOR").is_some()
}

/// The operator as a process.
struct Process {
    child: tokio::process::Child,
    address: String,
    http: reqwest::Client,
    begun: Instant,
}

impl Process {
    async fn start(harness: &Harness, resync: u64) -> Self {
        let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = port.local_addr().unwrap().to_string();
        drop(port);
        // At full size, the binary that is shipped.
        let built = env!("CARGO_BIN_EXE_recommendation-operator");
        let program = std::env::var("SOAK_OPERATOR").unwrap_or_else(|_| built.to_owned());
        let child = tokio::process::Command::new(program)
            .args(["run", "--metrics-listen", &address, "--log-format", "text"])
            .args([
                "--watch-namespaces",
                &harness.namespace,
                "--resync",
                &resync.to_string(),
            ])
            .env("KUBECONFIG", std::env::var("TEST_KUBECONFIG").unwrap())
            .env("RUST_LOG", "error")
            // What the API server's audit log knows it by.
            .env("POD_NAME", "soak")
            .env_remove("POD_NAMESPACE")
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            child,
            address,
            http: reqwest::Client::new(),
            begun: Instant::now(),
        }
    }

    /// All metrics as they are now.
    async fn scrape(&self) -> String {
        let url = format!("http://{}/metrics", self.address);
        match self.http.get(url).send().await {
            Ok(answer) => answer.text().await.unwrap(),
            Err(_) => String::new(),
        }
    }

    /// The sum of a metric over its labels.
    async fn metric(&self, name: &str) -> f64 {
        sum(&self.scrape().await, name, |_| true)
    }

    async fn reconciles(&self) -> f64 {
        self.metric("recommendation_operator_reconciles_total").await
    }

    /// Requests to the API server that were no reads.
    async fn writes(&self) -> f64 {
        let reads = |line: &str| line.contains("\"GET\"");
        sum(
            &self.scrape().await,
            "recommendation_operator_kubernetes_requests_total",
            |line| !reads(line),
        )
    }

    async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// The sum of those lines of a metric.
fn sum(text: &str, name: &str, lines: impl Fn(&str) -> bool) -> f64 {
    let found = text.lines().filter(|line| line.starts_with(name) && lines(line));
    found
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

async fn within<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) -> Duration {
    let begun = Instant::now();
    while !done().await {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    begun.elapsed()
}

/// Writes to the test's namespace that the API server has logged of the operators of these tests.
fn logged(harness: &Harness) -> Vec<String> {
    let file = std::env::var("TEST_AUDIT_LOG").expect("TEST_AUDIT_LOG is not set: run `cargo xtask test`");
    let text = std::fs::read_to_string(file).unwrap();
    // The last line may be half there.
    let events = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let own = |event: &Value| {
        event["userAgent"]
            .as_str()
            .is_some_and(|by| by.ends_with("(soak)"))
            && event["objectRef"]["namespace"] == harness.namespace.as_str()
    };
    let what = |event: Value| format!("{} {}", event["verb"], event["requestURI"]);
    events.filter(own).map(what).collect()
}
