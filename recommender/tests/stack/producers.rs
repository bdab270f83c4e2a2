//! The examples for shops that write to Kafka themselves: with kafka-python and with kafkajs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use tokio::process::Command;

use crate::shop::{Shop, kafka};
use crate::support::{Running, token};

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(path)
}

/// A folder for what a package manager fetches, kept between runs.
fn kept(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

async fn done(command: &mut Command) {
    let ran = command.output().await;
    let ran = ran.unwrap_or_else(|e| panic!("{command:?} is needed: {e}"));
    let (out, err) = (
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr),
    );
    assert!(ran.status.success(), "{command:?}\n{out}\n{err}");
}

/// What one example writes is learned as what one customer did.
async fn learned(run: &mut Command) {
    let shop = Shop::new(3).await;
    let topic = shop.config.topics.events.clone();
    let service = Running::start(shop.replica()).await.ready().await;
    done(run.env("KAFKA", kafka()).env("TOPIC", topic)).await;
    service.learned(3).await;
    let own = token("ann", &[]);
    let known = service
        .call(Method::GET, "/v1/customers/ann", Some(&own), None)
        .await
        .json();
    let history = known["history"].as_array().unwrap();
    assert_eq!(history.len(), 1, "{known}");
    assert_eq!(
        (&history[0]["product_id"], &history[0]["kind"]),
        (&"red-mug".into(), &"bought".into()),
        "{known}"
    );
    service.stop().await;
}

#[tokio::test]
async fn what_the_producer_in_python_writes_is_learned_and_without_kafka_it_says_so_and_ends() {
    let packages = kept("python-example");
    done(
        Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--upgrade", "--target"])
            .arg(&packages)
            .arg("--requirement")
            .arg(example("python/requirements.txt")),
    )
    .await;
    let producer = || {
        let mut run = Command::new("python3");
        run.arg(example("python/produce.py")).env("PYTHONPATH", &packages);
        run
    };
    learned(&mut producer()).await;
    // Nobody listens; somebody listens and never answers; Kafka answers, and has no such topic.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    for (servers, topic) in [
        ("127.0.0.1:9", "events"),
        (&address, "events"),
        (&kafka(), "not/a/topic"),
    ] {
        let mut run = producer();
        run.env("KAFKA", servers)
            .env("TOPIC", topic)
            .env("KAFKA_TIMEOUT", "3");
        let ran = tokio::time::timeout(Duration::from_secs(30), run.kill_on_drop(true).output()).await;
        let ran = ran.expect("it ends by itself").unwrap();
        let told = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "{servers}: {told}");
        let wanted = format!("no event was acknowledged by Kafka at {servers}");
        assert!(told.contains(&wanted) && !told.contains("Traceback"), "{told}");
    }
}

#[tokio::test]
async fn what_the_producer_in_node_writes_is_learned() {
    // Beside its modules, which are not fetched into the sources.
    let dir = kept("node-example");
    for file in ["package.json", "package-lock.json", "produce.mjs"] {
        std::fs::copy(example("node").join(file), dir.join(file)).unwrap();
    }
    done(
        Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(&dir),
    )
    .await;
    let mut run = Command::new("node");
    run.arg(dir.join("produce.mjs"));
    learned(&mut run).await;
}
