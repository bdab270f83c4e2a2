//! Many pipelines on one operator, a process of its own: how soon it has seen all of them, how much memory they take, and
//! that it writes nothing once they are as declared. `cargo xtask soak operator` runs this at full size.

use std::process::Stdio;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::api::{Patch, PatchParams};
use kube::config::Kubeconfig;
use kube::core::PartialObjectMeta;
use recommendation_api::pipeline::RecommendationPipeline;
use serde_json::{Value, json};

use crate::harness::Harness;

/// What all pipelines share; the first makes it, the others look.
const TOPICS: [&str; 7] = [
    "customer_behavior",
    "products",
    "customer_profiles",
    "customer_behavior_dead_letter",
    "customer_erasures",
    "customer_salts",
    "recommendation_impressions",
];
/// Whatever should happen at full size happens within this time.
const PATIENCE: Duration = Duration::from_secs(900);
/// Memory of an operator that has nothing to do, and what each pipeline may add to it.
const MEMORY: (f64, f64) = (60.0 * 1024.0 * 1024.0, 64.0 * 1024.0);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
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

    /// The sum of a metric over its labels, where `labels` occurs in the line.
    async fn metric(&self, name: &str, labels: &str) -> f64 {
        let url = format!("http://{}/metrics", self.address);
        let Ok(answer) = self.http.get(url).send().await else {
            return 0.0;
        };
        let text = answer.text().await.unwrap();
        let lines = text
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(labels));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    async fn reconciles(&self) -> f64 {
        self.metric("recommendation_operator_reconciles_total", "").await
    }

    /// Requests to the API server that were no reads.
    async fn writes(&self) -> f64 {
        let all = self
            .metric("recommendation_operator_kubernetes_requests_total", "")
            .await;
        all - self
            .metric("recommendation_operator_kubernetes_requests_total", "\"GET\"")
            .await
    }

    async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}

async fn converged(harness: &Harness) -> usize {
    let pipelines = harness
        .api::<RecommendationPipeline>()
        .list(&Default::default())
        .await
        .unwrap();
    let ready = |pipeline: &RecommendationPipeline| {
        let conditions = pipeline.status.iter().flat_map(|s| &s.conditions);
        let mut topics = conditions.filter(|c| c.type_ == "TopicsReady");
        topics.any(|c| c.status == "True" && c.observed_generation == pipeline.metadata.generation)
    };
    pipelines.items.iter().filter(|pipeline| ready(pipeline)).count()
}

async fn within<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) -> Duration {
    let begun = Instant::now();
    while !done().await {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    begun.elapsed()
}

fn pipeline(harness: &Harness, name: &str, observe: bool) -> Value {
    let topics: Vec<Value> = TOPICS
        .iter()
        .map(|topic| match observe {
            true => json!({"name": topic, "managementPolicy": "Observe"}),
            false => json!({"name": topic, "partitions": 1}),
        })
        .collect();
    harness.manifest(name, json!({"topics": topics, "recommender": {"replicas": 1}}))
}

#[tokio::test]
async fn many_pipelines_are_seen_soon_held_in_little_memory_and_written_to_no_more() {
    let count = number("SOAK_PIPELINES", 15);
    let quiet = Duration::from_secs(number("SOAK_SECONDS", 5));
    let _: Kubeconfig = Kubeconfig::read_from(std::env::var("TEST_KUBECONFIG").unwrap()).unwrap();
    let harness = Harness::new().await;
    let operator = Process::start(&harness, 30).await;
    let api = harness.api::<RecommendationPipeline>();
    let params = PatchParams::apply("tests").force();
    let apply = |name: String, observe: bool| {
        let (api, params, manifest) = (api.clone(), params.clone(), pipeline(&harness, &name, observe));
        async move { api.patch(&name, &params, &Patch::Apply(&manifest)).await.unwrap() }
    };
    apply("first".to_owned(), false).await;
    harness
        .condition("first", "TopicsReady", "True", "AsDeclared")
        .await;
    let idle = operator.metric("process_resident_memory_bytes", "").await;
    let begun = Instant::now();
    futures::stream::iter(1..count)
        .map(|n| apply(format!("shop-{n}"), true))
        .buffer_unordered(16)
        .for_each(|_| std::future::ready(()))
        .await;
    let made = begun.elapsed();
    let wanted = usize::try_from(count).unwrap();
    within("every pipeline to be as declared", || async {
        converged(&harness).await == wanted
    })
    .await;
    println!(
        "{count} pipelines applied in {made:.1?}, as declared after {:.1?}",
        begun.elapsed()
    );
    operator.stop().await;

    let operator = Process::start(&harness, 30).await;
    let expected = f64::from(u32::try_from(count).unwrap());
    within("every pipeline to be seen", || async {
        operator.reconciles().await >= expected
    })
    .await;
    let cold = operator.begun.elapsed();
    let memory = operator.metric("process_resident_memory_bytes", "").await;
    println!(
        "a cold start has looked at all of them after {cold:.1?}, {} writes",
        operator.writes().await
    );
    let mib = |bytes: f64| bytes / 1024.0 / 1024.0;
    println!(
        "resident memory: {:.0} MiB, {:.0} MiB with one pipeline: {:.1} KiB a pipeline",
        mib(memory),
        mib(idle),
        (memory - idle) / 1024.0 / expected
    );
    let versions =
        |list: kube::core::ObjectList<PartialObjectMeta<RecommendationPipeline>>| -> Vec<Option<String>> {
            list.items
                .into_iter()
                .map(|item| item.metadata.resource_version)
                .collect()
        };
    let before = versions(api.list_metadata(&Default::default()).await.unwrap());
    tokio::time::sleep(quiet).await;
    assert_eq!(
        operator.writes().await,
        0.0,
        "what is as declared is not written to"
    );
    let after = versions(api.list_metadata(&Default::default()).await.unwrap());
    assert_eq!(before, after);
    println!("no write in {quiet:?}");
    let later = operator.metric("process_resident_memory_bytes", "").await;
    println!("resident memory then: {:.0} MiB", mib(later));
    // The limit is for what is shipped: a build for tests is larger by itself.
    if !cfg!(debug_assertions) {
        assert!(later < MEMORY.0 + MEMORY.1 * expected, "{:.0} MiB", mib(later));
    }
    operator.stop().await;

    let operator = Process::start(&harness, 1).await;
    within("every pipeline to be seen", || async {
        operator.reconciles().await >= expected
    })
    .await;
    let (begun, looked) = (Instant::now(), operator.reconciles().await);
    tokio::time::sleep(quiet.min(Duration::from_secs(20))).await;
    let rate = (operator.reconciles().await - looked) / begun.elapsed().as_secs_f64();
    println!("{rate:.0} reconciles a second that change nothing");
    assert_eq!(operator.writes().await, 0.0);
    operator.stop().await;
    harness.remove().await;
}
