use std::sync::Arc;
use std::time::Instant;

use super::super::fake_log::{FakeLog, Fate, salt};
use super::*;

#[test]
fn the_first_salt_counts_until_it_is_deleted() {
    let log = FakeLog::new(true);
    let (salts, subject) = (log.salts(), log.privacy.subject("ann"));
    assert!(salts.take(subject, Some(&salt(1, "pseudonym:1"))));
    assert!(salts.take(subject, Some(&salt(2, "pseudonym:2"))));
    assert_eq!(salts.pseudonym(&subject).as_deref(), Some("pseudonym:1"));
    assert_eq!(salts.subjects(&["pseudonym:1"]), [subject]);
    let hidden = |pseudonym| salts.hide(&subject, pseudonym, "visit");
    assert!(hidden("pseudonym:1").is_some_and(|visit| visit != "visit"));
    assert_eq!(
        hidden("pseudonym:2"),
        None,
        "it is not what the customer is called"
    );
    assert!(salts.take(subject, None));
    assert_eq!((salts.pseudonym(&subject), hidden("pseudonym:1")), (None, None));
    assert!(salts.take(subject, Some(&salt(2, "pseudonym:2"))));
    assert_eq!(salts.pseudonym(&subject).as_deref(), Some("pseudonym:2"));
}

#[test]
fn what_is_no_salt_is_refused() {
    let log = FakeLog::new(true);
    let (salts, subject) = (log.salts(), log.privacy.subject("ann"));
    for value in [&b"ann"[..], b"{}", br#"{"salt":"00","pseudonym":"pseudonym:1"}"#] {
        assert!(!salts.take(subject, Some(value)));
    }
    assert!(
        !salts.take(subject, Some(&salt(1, "ann"))),
        "a pseudonym that is none"
    );
}

/// Two customers with salts.
fn two(shared: bool) -> (FakeLog, [Subject; 2]) {
    let log = FakeLog::new(shared);
    let subjects = ["ann", "bob"].map(|name| log.privacy.subject(name));
    for (n, subject) in (1u8..).zip(subjects) {
        assert!(
            log.salts()
                .take(subject, Some(&salt(n, &format!("pseudonym:{n}"))))
        );
    }
    (log, subjects)
}

fn known(log: &FakeLog, subjects: [Subject; 2]) -> [bool; 2] {
    subjects.map(|subject| log.salts().pseudonym(&subject).is_some())
}

async fn delete(log: &FakeLog, subjects: &[Subject]) -> Result<(), AppendError> {
    log.salts().delete(log, subjects, log.privacy.shared).await
}

#[tokio::test]
async fn a_deletion_waits_until_other_replicas_have_read_it_where_there_are_any() {
    for shared in [true, false] {
        let (log, subjects) = two(shared);
        let started = Instant::now();
        delete(&log, &subjects).await.unwrap();
        assert_eq!(started.elapsed() >= OTHERS_READ_WITHIN, shared);
        assert_eq!(known(&log, subjects), [false, false]);
        // Nothing is left to be deleted.
        delete(&log, &subjects).await.unwrap();
        assert_eq!(log.taken_out(Table::Salts).len(), 2);
    }
}

#[tokio::test]
async fn a_deletion_that_fails_keeps_none_of_the_others() {
    for shared in [true, false] {
        let (log, subjects) = two(shared);
        log.will([Fate::Fails]);
        let failed = delete(&log, &subjects).await;
        assert!(matches!(failed, Err(AppendError::Unavailable(_))), "{failed:?}");
        assert_eq!(known(&log, subjects), [true, false]);
        delete(&log, &subjects).await.unwrap();
        assert_eq!(known(&log, subjects), [false, false]);
        assert_eq!(log.taken_out(Table::Salts).len(), 3);
    }
}

#[tokio::test]
async fn a_salt_that_was_written_once_more_is_deleted_once_more() {
    // The old one is written as the second deletion is, by a replica that drew at once.
    let (log, subjects) = two(true);
    log.will([Fate::Read, Fate::Undone(subjects[0], salt(1, "pseudonym:1"))]);
    delete(&log, &subjects).await.unwrap();
    assert_eq!(known(&log, subjects), [false, false]);
    let keys = [subjects[0], subjects[1], subjects[0]].map(|subject| subject.hex());
    assert_eq!(log.taken_out(Table::Salts), keys);
    // A new one is who came back.
    let (log, subjects) = two(true);
    log.will([Fate::Read, Fate::Undone(subjects[0], salt(7, "pseudonym:7"))]);
    delete(&log, &subjects).await.unwrap();
    let name = log.salts().pseudonym(&subjects[0]);
    assert_eq!(name.as_deref(), Some("pseudonym:7"));
}

#[tokio::test]
async fn a_salt_that_is_written_again_and_again_is_told() {
    let (log, subjects) = two(true);
    let undone = || Fate::Undone(subjects[0], salt(1, "pseudonym:1"));
    log.will([undone(), undone(), undone()]);
    let failed = delete(&log, &subjects[..1]).await;
    assert!(matches!(failed, Err(AppendError::Unavailable(_))), "{failed:?}");
    assert_eq!(known(&log, subjects), [true, true]);
    assert_eq!(log.taken_out(Table::Salts).len(), ROUNDS);
}

#[tokio::test]
async fn a_deletion_that_nobody_reads_back_is_told() {
    let (log, subjects) = two(true);
    log.will([Fate::Unread, Fate::Read]);
    let failed = delete(&log, &subjects).await;
    assert!(matches!(failed, Err(AppendError::Unavailable(_))), "{failed:?}");
}

#[tokio::test]
async fn without_other_replicas_nothing_is_deleted_while_somebody_draws() {
    let log = Arc::new(FakeLog::new(false));
    let ann = log.privacy.subject("ann");
    // Another draw is first, and this one writes its salt once more, which takes a while.
    let written = Arc::new(Notify::new());
    log.will([
        Fate::Second(salt(1, "pseudonym:1")),
        Fate::Held(Arc::clone(&written)),
    ]);
    let drawing = {
        let log = Arc::clone(&log);
        tokio::spawn(async move { log.salts().draw(&*log, ann, "ann").await })
    };
    while log.written(Table::Salts).len() < 2 {
        tokio::task::yield_now().await;
    }
    let deleting = {
        let log = Arc::clone(&log);
        tokio::spawn(async move { delete(&log, &[ann]).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(log.taken_out(Table::Salts).is_empty());
    written.notify_one();
    assert_eq!(drawing.await.unwrap().unwrap(), "pseudonym:1");
    deleting.await.unwrap().unwrap();
    assert_eq!(log.salts().pseudonym(&ann), None);
}
