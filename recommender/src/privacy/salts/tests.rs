use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::future::BoxFuture;
use recommendation_api::records::{Ends, Product};
use recommendation_api::{Event, Impression};

use super::super::Privacy;
use super::*;
use crate::log::Appended;

fn record(salt: u8, pseudonym: &str) -> Vec<u8> {
    let salt = hex::encode([salt; 32]);
    serde_json::to_vec(&Salt {
        salt,
        pseudonym: pseudonym.to_owned(),
    })
    .unwrap()
}

#[test]
fn the_first_salt_counts_until_it_is_deleted() {
    let (salts, subject) = (Salts::default(), Privacy::default().subject("ann"));
    assert!(salts.take(subject, Some(&record(1, "pseudonym:1"))));
    assert!(salts.take(subject, Some(&record(2, "pseudonym:2"))));
    assert_eq!(salts.pseudonym(&subject).as_deref(), Some("pseudonym:1"));
    assert_eq!(salts.subjects(&["pseudonym:1"]), [subject]);
    assert_ne!(salts.hide(&subject, "visit").as_deref(), Some("visit"));
    assert!(salts.take(subject, None));
    assert_eq!(
        (salts.pseudonym(&subject), salts.hide(&subject, "visit")),
        (None, None)
    );
    assert!(salts.take(subject, Some(&record(2, "pseudonym:2"))));
    assert_eq!(salts.pseudonym(&subject).as_deref(), Some("pseudonym:2"));
}

#[test]
fn what_is_no_salt_is_refused() {
    let (salts, subject) = (Salts::default(), Privacy::default().subject("ann"));
    for value in [&b"ann"[..], b"{}", br#"{"salt":"00","pseudonym":"pseudonym:1"}"#] {
        assert!(!salts.take(subject, Some(value)));
    }
    assert!(
        !salts.take(subject, Some(&record(1, "ann"))),
        "a pseudonym that is none"
    );
}

/// A log whose salts are read as soon as they are written, unless it is told what becomes of a write.
#[derive(Default)]
struct Fake {
    salts: Salts,
    /// By order of writes.
    fates: Mutex<VecDeque<Fate>>,
    tombstones: Mutex<Vec<String>>,
}

enum Fate {
    Read,
    Fails,
    /// Nobody reads it back.
    Unread,
    /// Read, and then another replica's write of this salt.
    Undone(Subject, Vec<u8>),
}

impl Log for Fake {
    fn append<'a>(&'a self, _: &'a [Event]) -> BoxFuture<'a, Appended> {
        Box::pin(async { Vec::new() })
    }

    fn put_products<'a>(&'a self, _: &'a [Product]) -> BoxFuture<'a, Appended> {
        Box::pin(async { Vec::new() })
    }

    fn put_impressions<'a>(&'a self, _: &'a [Impression]) -> BoxFuture<'a, Appended> {
        Box::pin(async { Vec::new() })
    }

    fn put<'a>(
        &'a self,
        table: Table,
        key: &'a str,
        value: Option<Vec<u8>>,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        assert_eq!(table, Table::Salts);
        let subject = Subject::parse(key.as_bytes()).expect("keyed by subject");
        let fate = self.fates.lock().unwrap().pop_front().unwrap_or(Fate::Read);
        if value.is_none() {
            self.tombstones.lock().unwrap().push(key.to_owned());
        }
        Box::pin(async move {
            match fate {
                Fate::Fails => return Err(AppendError::Unavailable("cut".into())),
                Fate::Unread => {}
                Fate::Read => assert!(self.salts.take(subject, value.as_deref())),
                Fate::Undone(other, salt) => {
                    assert!(self.salts.take(subject, value.as_deref()));
                    assert!(self.salts.take(other, Some(&salt)));
                }
            }
            Ok(())
        })
    }

    fn ends(&self) -> BoxFuture<'_, Result<Ends, AppendError>> {
        Box::pin(async { Ok(Ends::new()) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

impl Fake {
    /// What becomes of the next writes.
    fn with(self, fates: impl IntoIterator<Item = Fate>) -> Self {
        *self.fates.lock().unwrap() = fates.into_iter().collect();
        self
    }
}

/// Two customers with salts.
fn two() -> (Fake, [Subject; 2]) {
    let privacy = Privacy::default();
    let subjects = ["ann", "bob"].map(|name| privacy.subject(name));
    let fake = Fake::default();
    for (n, subject) in (1u8..).zip(subjects) {
        assert!(
            fake.salts
                .take(subject, Some(&record(n, &format!("pseudonym:{n}"))))
        );
    }
    (fake, subjects)
}

fn known(fake: &Fake, subjects: [Subject; 2]) -> [bool; 2] {
    subjects.map(|subject| fake.salts.pseudonym(&subject).is_some())
}

#[tokio::test]
async fn a_deletion_waits_until_other_replicas_have_read_it_where_there_are_any() {
    for shared in [true, false] {
        let (fake, subjects) = two();
        let started = Instant::now();
        fake.salts.delete(&fake, &subjects, shared).await.unwrap();
        assert_eq!(started.elapsed() >= OTHERS_READ_WITHIN, shared);
        assert_eq!(known(&fake, subjects), [false, false]);
        // Nothing is left to be deleted.
        fake.salts.delete(&fake, &subjects, shared).await.unwrap();
        assert_eq!(fake.tombstones.lock().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_deletion_that_fails_keeps_none_of_the_others() {
    for shared in [true, false] {
        let (fake, subjects) = two();
        let fake = fake.with([Fate::Fails]);
        let failed = fake.salts.delete(&fake, &subjects, shared).await;
        assert!(matches!(failed, Err(AppendError::Unavailable(_))), "{failed:?}");
        assert_eq!(known(&fake, subjects), [true, false]);
        fake.salts.delete(&fake, &subjects, shared).await.unwrap();
        assert_eq!(known(&fake, subjects), [false, false]);
    }
}

#[tokio::test]
async fn a_salt_that_was_written_once_more_is_deleted_once_more() {
    // The old one is written as the second deletion is, by a replica that drew at once.
    let (fake, subjects) = two();
    let undone = Fate::Undone(subjects[0], record(1, "pseudonym:1"));
    let fake = fake.with([Fate::Read, undone]);
    fake.salts.delete(&fake, &subjects, true).await.unwrap();
    assert_eq!(known(&fake, subjects), [false, false]);
    assert_eq!(
        *fake.tombstones.lock().unwrap(),
        [subjects[0].hex(), subjects[1].hex(), subjects[0].hex()]
    );
    // A new one is who came back.
    let (fake, subjects) = two();
    let returned = Fate::Undone(subjects[0], record(7, "pseudonym:7"));
    let fake = fake.with([Fate::Read, returned]);
    fake.salts.delete(&fake, &subjects, true).await.unwrap();
    assert_eq!(fake.salts.pseudonym(&subjects[0]).as_deref(), Some("pseudonym:7"));
}

#[tokio::test]
async fn a_deletion_that_nobody_reads_back_is_told() {
    let (fake, subjects) = two();
    let fake = fake.with([Fate::Unread, Fate::Read]);
    let failed = fake.salts.delete(&fake, &subjects, true).await;
    assert!(matches!(failed, Err(AppendError::Unavailable(_))), "{failed:?}");
}

#[tokio::test]
async fn without_other_replicas_nothing_is_deleted_while_somebody_draws() {
    let (fake, subjects) = two();
    let fake = Arc::new(fake);
    let drawing = fake.salts.draws.read().await;
    let deleting = {
        let fake = Arc::clone(&fake);
        tokio::spawn(async move { fake.salts.delete(&*fake, &subjects, false).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(known(&fake, subjects), [true, true]);
    drop(drawing);
    deleting.await.unwrap().unwrap();
    assert_eq!(known(&fake, subjects), [false, false]);
}
