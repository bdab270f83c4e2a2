//! Snapshots of embedded mode: a start from one, from the one before, and none lost on the way.

use std::path::{Path, PathBuf};

use recommendation_api::HumanDuration;
use recommendation_api::config::RecommenderConfig;
use recommender::service::{Mode, embedded_state_dir};
use reqwest::Method;
use serde_json::json;

use crate::support::{Running, event, eventually, options, recommended, snapshots_in, token};

fn config(dir: &Path) -> RecommenderConfig {
    let mut config = RecommenderConfig::default();
    config.model.exploration = 0.0;
    config.snapshots = snapshots_in(&embedded_state_dir(&dir.join("shop.db")));
    config
}

async fn start(config: &RecommenderConfig, dir: &Path) -> Running {
    let mode = Mode::Embedded(dir.join("shop.db"));
    Running::start(options(config.clone(), mode, dir))
        .await
        .ready()
        .await
}

async fn post(service: &Running, from: usize, to: usize) {
    let events: Vec<_> = (from..to)
        .map(|i| {
            let mut event = event(&format!("c{}", i % 13), &format!("p{}", i * 5 % 17), "purchase");
            // Each a second time, as a shop that retries: it counts once, also over a restart.
            event["event_id"] = json!(format!("e{}", i / 2));
            event
        })
        .collect();
    let writer = token("shop", &["events:write"]);
    let answer = service
        .call(
            Method::POST,
            "/v1/events/batch",
            Some(&writer),
            Some(&json!(events)),
        )
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

async fn metric(service: &Running, line: &str) -> bool {
    service
        .internal("/metrics")
        .await
        .text
        .lines()
        .any(|found| found == line)
}

fn newest(dir: &Path) -> PathBuf {
    let snapshots = embedded_state_dir(&dir.join("shop.db")).join("snapshots");
    let files = std::fs::read_dir(snapshots)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).max().unwrap()
}

#[tokio::test]
async fn a_start_from_a_snapshot_knows_everything_and_counts_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let service = start(&config, dir.path()).await;
    post(&service, 0, 201).await;
    eventually("a snapshot", || {
        metric(&service, r#"recommender_snapshots_total{outcome="written"} 1"#)
    })
    .await;
    // One more than the snapshot covers: the second half of a pair of which it covers the first.
    post(&service, 201, 302).await;
    service.learned(151).await;
    eventually("a second snapshot", || {
        metric(&service, r#"recommender_snapshots_total{outcome="written"} 2"#)
    })
    .await;
    let before = recommended(&service, "c3").await;
    service.stop().await;

    // The newest is damaged: the one before and the log behind it do.
    let path = newest(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let service = start(&config, dir.path()).await;
    service.learned(151).await;
    assert!(metric(&service, r#"recommender_snapshots_total{outcome="skipped"} 1"#).await);
    assert!(
        !metric(&service, "recommender_snapshot_created_seconds 0").await,
        "started from a snapshot"
    );
    assert!(
        !metric(&service, r#"recommender_events_total{type="purchase"} 151"#).await,
        "read it all again"
    );
    assert_eq!(recommended(&service, "c3").await, before);
    service.stop().await;
}

#[tokio::test]
async fn snapshots_of_another_database_are_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let service = start(&config, dir.path()).await;
    post(&service, 0, 20).await;
    eventually("a snapshot", || {
        metric(&service, r#"recommender_snapshots_total{outcome="written"} 1"#)
    })
    .await;
    service.stop().await;
    for file in ["shop.db", "shop.db-wal", "shop.db-shm"] {
        let _ = std::fs::remove_file(dir.path().join(file));
    }
    let service = start(&config, dir.path()).await;
    assert_eq!(service.status().await["events"], 0);
    assert!(metric(&service, r#"recommender_snapshots_total{outcome="skipped"} 1"#).await);
    service.stop().await;
}

#[tokio::test]
async fn events_past_their_retention_leave_the_log_once_snapshots_cover_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.privacy.retention = HumanDuration::from_secs(0);
    let service = start(&config, dir.path()).await;
    post(&service, 0, 20).await;
    let rows = || async {
        let database = rusqlite::Connection::open(dir.path().join("shop.db")).unwrap();
        database
            .query_row("SELECT COUNT(*) FROM events", [], |row| row.get::<_, i64>(0))
            .unwrap()
            == 0
    };
    eventually("an empty log", rows).await;
    service.stop().await;
    let service = start(&config, dir.path()).await;
    assert_eq!(service.status().await["events"], 10, "the snapshot knows them");
    post(&service, 20, 22).await;
    service.learned(11).await;
    service.stop().await;
}
