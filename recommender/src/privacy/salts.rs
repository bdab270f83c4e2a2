//! Pseudonyms: what the log calls a customer instead of their id, HMAC-SHA256 of the id with a salt of the customer's
//! own. Once the salt is deleted nobody can tell whose the records were (crypto-shredding).
//!
//! Salts are drawn at a customer's first event, by whichever replica takes it. Two may draw at once: the one that
//! stands first in the log counts, for every replica reads them in one order, and whoever drew the other writes the
//! first once more, so that compaction keeps it.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use recommendation_api::records::Salt;
use sha2::Sha256;
use tokio::sync::Notify;

use super::Subject;
use crate::log::{AppendError, Log, Table};

/// Begins every pseudonym.
pub const PREFIX: &str = "pseudonym:";
/// Longest to wait until a salt that was written, or its deletion, is read.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// In this time other replicas have read what this one has: as an erasure is promised to be everywhere.
const OTHERS_READ_WITHIN: Duration = Duration::from_secs(1);

type Bytes = [u8; 32];

fn keyed(salt: &Bytes, text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(salt).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    hex::encode(&mac.finalize().into_bytes()[..16])
}

struct Known {
    salt: Bytes,
    pseudonym: String,
}

/// The salts that were read.
#[derive(Default)]
pub struct Salts {
    known: RwLock<HashMap<Subject, Known>>,
    read: Notify,
}

impl Salts {
    fn look<T>(&self, subject: &Subject, look: impl FnOnce(&Known) -> T) -> Option<T> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(subject).map(look)
    }

    /// What the log calls a customer.
    pub fn pseudonym(&self, subject: &Subject) -> Option<String> {
        self.look(subject, |known| known.pseudonym.clone())
    }

    /// Another text that would lead to the customer (a visit's id), as the log has it.
    pub fn hide(&self, subject: &Subject, text: &str) -> Option<String> {
        self.look(subject, |known| keyed(&known.salt, text))
    }

    /// Whose pseudonyms these are.
    pub fn subjects(&self, pseudonyms: &[&str]) -> Vec<Subject> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_one = |known: &Known| pseudonyms.contains(&&*known.pseudonym);
        known
            .iter()
            .filter(|(_, known)| is_one(known))
            .map(|(subject, _)| *subject)
            .collect()
    }

    /// Takes up a record; false for one that is none of ours. `None` deletes.
    pub fn take(&self, subject: Subject, value: Option<&[u8]>) -> bool {
        let Some(value) = value else {
            self.forget(&subject);
            self.read.notify_waiters();
            return true;
        };
        let Ok(record) = serde_json::from_slice::<Salt>(value) else {
            return false;
        };
        let mut salt = Bytes::default();
        if hex::decode_to_slice(&record.salt, &mut salt).is_err() || !record.pseudonym.starts_with(PREFIX) {
            return false;
        }
        let pseudonym = record.pseudonym;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(subject).or_insert(Known { salt, pseudonym });
        drop(known);
        self.read.notify_waiters();
        true
    }

    fn forget(&self, subject: &Subject) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(subject);
    }

    /// Deletes salts: their pseudonyms are nobody's any more. Returns once that was read back and, where `shared` with
    /// other replicas, those have had the time to read it too: until then they would write a customer's next event
    /// under the old pseudonym, and it would be lost to who came back. After an error those that are left may be deleted once more.
    pub async fn delete(&self, log: &dyn Log, subjects: &[Subject], shared: bool) -> Result<(), AppendError> {
        let mut deleted = Vec::with_capacity(subjects.len());
        for subject in subjects {
            let Some(pseudonym) = self.pseudonym(subject) else {
                continue;
            };
            log.put(Table::Salts, &subject.hex(), None).await?;
            if shared {
                deleted.push((subject, pseudonym));
            } else {
                // A table leaves no tombstone to be read.
                self.forget(subject);
            }
        }
        if deleted.is_empty() {
            return Ok(());
        }
        for (subject, pseudonym) in &deleted {
            // Whoever comes back meanwhile has another one.
            self.until(|| (self.pseudonym(subject).as_ref() != Some(pseudonym)).then_some(()))
                .await?;
        }
        tokio::time::sleep(OTHERS_READ_WITHIN).await;
        Ok(())
    }

    /// Waits until what was read says so.
    async fn until<T>(&self, mut said: impl FnMut() -> Option<T>) -> Result<T, AppendError> {
        let reading = async {
            loop {
                // Before looking, or what is read in between would not be heard of.
                let read = self.read.notified();
                if let Some(found) = said() {
                    return found;
                }
                read.await;
            }
        };
        tokio::time::timeout(READ_WITHIN, reading)
            .await
            .map_err(|_| AppendError::Unavailable("what was written of a salt is not read back".into()))
    }

    /// What the log is to call a customer; draws a salt for one who has none, and returns once it has been read back.
    pub async fn draw(&self, log: &dyn Log, subject: Subject, customer: &str) -> Result<String, AppendError> {
        if let Some(known) = self.pseudonym(&subject) {
            return Ok(known);
        }
        let salt: Bytes = rand::random();
        let drawn = format!("{PREFIX}{}", keyed(&salt, customer));
        self.write(log, &subject, salt, &drawn).await?;
        let look = || self.look(&subject, |known| (known.salt, known.pseudonym.clone()));
        let (salt, pseudonym) = self.until(look).await?;
        if pseudonym != drawn {
            self.write(log, &subject, salt, &pseudonym).await?;
        }
        Ok(pseudonym)
    }

    async fn write(
        &self,
        log: &dyn Log,
        subject: &Subject,
        salt: Bytes,
        pseudonym: &str,
    ) -> Result<(), AppendError> {
        let record = Salt {
            salt: hex::encode(salt),
            pseudonym: pseudonym.to_owned(),
        };
        let value = serde_json::to_vec(&record).map_err(|e| AppendError::Refused(e.to_string()))?;
        log.put(Table::Salts, &subject.hex(), Some(value)).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::Privacy;
    use super::*;

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
}
