//! Snapshots as bytes, in a folder and in S3.

use std::sync::Arc;

use recommender_engine::drift::DriftWindows;
use recommender_engine::{EngineConfig, EventKind, Interaction};
use tokio_util::sync::CancellationToken;

use super::keeper::{Keeper, Kept, upload};
use super::load::Snapshots;
use super::names::{Name, ticket};
use super::*;
use crate::histories::Ledger;
use crate::privacy::Privacy;
use crate::source::positions::Position;
use crate::store::Store;
use crate::store::tests::S3;

fn frozen(events: u64) -> Frozen {
    let (mut writer, _) = recommender_engine::engine(EngineConfig::default()).unwrap();
    let (mut dedup, mut insights) = (Dedup::default(), Insights::default());
    let mut drift = Drift::new(DriftWindows::default());
    for i in 0..events {
        let (customer, product) = (format!("c{}", i % 7), format!("p{}", i % 11));
        let at = 1_700_000_000_000 + i as i64;
        writer.apply(
            &Interaction::new(&customer, &product, EventKind::Purchase, at),
            at,
        );
        dedup.is_new(&i.to_string(), at);
        drift.observe(&product, EventKind::Purchase, at);
        let text =
            format!(r#"{{"customer_id":"{customer}","product_id":"{product}","event_type":"purchase"}}"#);
        insights.event(
            &customer,
            &recommendation_api::event::EventRef::parse(text.as_bytes(), None).unwrap(),
            at,
        );
    }
    let position = Position {
        next: events as i64,
        ..Position::default()
    };
    let positions = Positions {
        log: "cluster".into(),
        topics: [("events".to_owned(), [(0, position)].into())].into(),
    };
    Frozen {
        manifest: Manifest {
            created_ms: 1_700_000_000_000,
            positions,
            events,
            insights: true,
            drift: true,
            ..Manifest::default()
        },
        dedup: write_dedup(&[(0, dedup)].into()),
        engine: writer.freeze(),
        insights: insights.freeze(),
        drift,
        elsewhere: None,
    }
}

fn bytes(frozen: &Frozen) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(frozen, &mut bytes).unwrap();
    bytes
}

fn restore(mut bytes: &[u8]) -> Result<Restored, SnapshotError> {
    read(EngineConfig::default(), &mut bytes)
}

#[test]
fn what_is_read_is_what_was_written() {
    let frozen = frozen(100);
    let mut back = restore(&bytes(&frozen)).unwrap();
    assert_eq!(back.manifest, frozen.manifest);
    assert_eq!(back.reader.customer_history("c3").unwrap().len(), 11);
    let dedup = back.dedup.get_mut(&0).unwrap();
    assert!(!dedup.is_new("99", 1_700_000_001_000) && dedup.is_new("100", 1_700_000_001_000));
    let counted = |drift: &Drift| serde_json::to_value(drift).unwrap();
    assert_eq!(counted(back.drift.as_ref().unwrap()), counted(&frozen.drift));
}

#[test]
fn one_of_histories_that_are_elsewhere_tells_what_was_counted_of_them_and_programs_of_before_to_stay_away() {
    let mut frozen = frozen(5);
    assert_eq!(bytes(&frozen)[12], 1, "the program before reads it");
    let mut ledger = Ledger::new(Arc::default());
    let subject = Privacy::default().subject("ann");
    ledger.skip(subject, (0, 7), 1_000);
    frozen.manifest.elsewhere = true;
    frozen.elsewhere = Some(ledger.write(0));
    let bytes = bytes(&frozen);
    assert_eq!(bytes[12], 2);
    let back = restore(&bytes).unwrap().elsewhere;
    assert!(back.is_some() && back == frozen.elsewhere);
}

#[test]
fn a_snapshot_of_a_program_that_wrote_no_drift_is_read() {
    let mut frozen = frozen(5);
    frozen.manifest.drift = false;
    assert!(restore(&bytes(&frozen)).unwrap().drift.is_none());
}

#[test]
fn damage_is_found_wherever_it_is() {
    let good = bytes(&frozen(50));
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        // The oldest readable layout may be told lower than it is: that loses nothing.
        let harmless = (12..16).contains(&at) && bad[12] == 0;
        assert!(restore(&bad).is_err() || harmless, "a flipped bit at {at}");
        assert!(restore(&good[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_snapshot_of_a_later_program_is_read_as_long_as_that_says_it_can_be() {
    let mut later = bytes(&frozen(5));
    later[8] = 3;
    assert_eq!(restore(&later).unwrap().manifest.events, 5);
    later[12] = 3;
    assert!(matches!(restore(&later), Err(SnapshotError::Layout { found: 3 })));
}

async fn kept_in(store: Store) {
    let snapshots = Snapshots { store };
    for n in 1..=5 {
        let name = Name {
            slot: n * 1000,
            created_ms: n * 1000 + 1,
        };
        upload(&snapshots, name, frozen(n as u64 * 10)).await.unwrap();
    }
    snapshots.store.create(&ticket(1), "").await.unwrap();
    let listed = snapshots.list().await.unwrap();
    assert_eq!(listed.len(), 5);
    assert_eq!(listed[0].name.slot, 5000, "newest first");
    assert_eq!(snapshots.manifest(listed[0].name).await.unwrap().events, 50);
    let mut body = snapshots.open(listed[1].name);
    let restored = tokio::task::spawn_blocking(move || read(EngineConfig::default(), &mut body));
    assert_eq!(restored.await.unwrap().unwrap().manifest.events, 40);
    assert_eq!(snapshots.tickets(crate::clock::now_ms()).await.unwrap().len(), 1);
    assert_eq!(
        snapshots
            .prune(3, crate::clock::now_ms() + 60_000, 1_000)
            .await
            .unwrap(),
        2
    );
    assert_eq!(snapshots.list().await.unwrap().last().unwrap().name.slot, 3000);
    assert!(
        snapshots
            .tickets(crate::clock::now_ms())
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn snapshots_are_kept_in_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    kept_in(Store::folder(dir.path()).unwrap()).await;
}

#[tokio::test]
async fn snapshots_are_kept_in_s3() {
    let s3 = S3::start().await;
    kept_in(s3.store()).await;
}

#[tokio::test]
async fn of_replicas_that_start_a_slot_together_one_writes_it() {
    let dir = tempfile::tempdir().unwrap();
    let (commands, inbox) = std::sync::mpsc::channel();
    let answering = std::thread::spawn(move || {
        let mut asked = 0;
        while let Ok(crate::ingest::Command::Freeze(answer)) = inbox.recv() {
            asked += 1;
            let _ = answer.send(frozen(20));
        }
        asked
    });
    let keeper = || Keeper {
        snapshots: Snapshots {
            store: Store::folder(dir.path()).unwrap(),
        },
        interval: std::time::Duration::from_secs(600),
        commands: commands.clone(),
        progress: Default::default(),
        metrics: std::sync::Arc::new(crate::metrics::Metrics::new().unwrap()),
        covered: None,
        erasures: "erasures".to_owned(),
    };
    let replicas = [keeper(), keeper(), keeper(), keeper()];
    let going = CancellationToken::new();
    let kept = futures::future::join_all(replicas.iter().map(|replica| replica.keep(600_000, &going))).await;
    let written = kept
        .iter()
        .filter(|kept| matches!(kept, Ok(Kept::Written(_))))
        .count();
    assert_eq!(
        (written, kept.iter().filter(|kept| kept.is_err()).count()),
        (1, 0)
    );
    assert_eq!(
        replicas[0].keep(600_000, &going).await.unwrap(),
        Kept::Another,
        "the slot is done"
    );
    assert!(matches!(
        replicas[1].keep(1_200_000, &going).await.unwrap(),
        Kept::Written(_)
    ));
    drop((replicas, commands));
    assert_eq!(answering.join().unwrap(), 2);
}

#[tokio::test]
async fn one_that_is_stopped_while_it_writes_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    // The ingest thread is busy, and answers nobody.
    let (commands, inbox) = std::sync::mpsc::channel();
    let keeper = Keeper {
        snapshots: Snapshots {
            store: Store::folder(dir.path()).unwrap(),
        },
        interval: std::time::Duration::from_secs(600),
        commands,
        progress: Default::default(),
        metrics: std::sync::Arc::new(crate::metrics::Metrics::new().unwrap()),
        covered: None,
        erasures: "erasures".to_owned(),
    };
    let stop = CancellationToken::new();
    let stopping = async {
        while keeper.snapshots.tickets(0).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let (kept, ()) = tokio::join!(keeper.keep(600_000, &stop), stopping);
    assert_eq!(kept.unwrap(), Kept::Stopped);
    assert!(keeper.snapshots.tickets(0).await.unwrap().is_empty());
    drop(inbox);
}
