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
use tokio::sync::{Notify, broadcast};

use super::Subject;
use crate::log::{AppendError, Log, Table};

/// Begins every pseudonym.
pub const PREFIX: &str = "pseudonym:";
/// Longest to wait until a salt that was written, or its deletion, is read.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// In this time other replicas have read what this one has: as an erasure is promised to be everywhere.
const OTHERS_READ_WITHIN: Duration = Duration::from_secs(1);

/// Times that a salt is deleted which is written again meanwhile.
const ROUNDS: usize = 3;

/// Deletions that are remembered for those who wait for theirs.
const DELETIONS: usize = 1_024;

type Bytes = [u8; 32];

/// Reads back for as long as that may take.
async fn within<T>(reading: impl Future<Output = T>) -> Result<T, AppendError> {
    tokio::time::timeout(READ_WITHIN, reading)
        .await
        .map_err(|_| AppendError::Unavailable("what was written of a salt is not read back".into()))
}

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
pub struct Salts {
    known: RwLock<HashMap<Subject, Known>>,
    read: Notify,
    /// Whose deletion was read.
    deleted: broadcast::Sender<Subject>,
    /// Held by who draws; without other replicas, nothing is deleted meanwhile.
    draws: tokio::sync::RwLock<()>,
}

impl Default for Salts {
    fn default() -> Self {
        Salts {
            known: RwLock::default(),
            read: Notify::new(),
            deleted: broadcast::Sender::new(DELETIONS),
            draws: tokio::sync::RwLock::default(),
        }
    }
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

    /// Another text that would lead to the customer (a visit's id), as the log has it beside this pseudonym. `None`: it is
    /// theirs no more.
    pub fn hide(&self, subject: &Subject, pseudonym: &str, text: &str) -> Option<String> {
        let hide = |known: &Known| (known.pseudonym == pseudonym).then(|| keyed(&known.salt, text));
        self.look(subject, hide).flatten()
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
            // An error means that nobody listens.
            let _ = self.deleted.send(subject);
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
    /// under the old pseudonym, and it would be lost to who came back. After an error those that are left may be
    /// deleted once more; one that fails keeps none of the others.
    pub async fn delete(&self, log: &dyn Log, subjects: &[Subject], shared: bool) -> Result<(), AppendError> {
        if !shared {
            return self.delete_own(log, subjects).await;
        }
        let known = |subject: &Subject| Some((*subject, self.pseudonym(subject)?));
        let mut left: Vec<(Subject, String)> = subjects.iter().filter_map(known).collect();
        if left.is_empty() && !subjects.is_empty() {
            // They may have been deleted just now, by somebody who did not wait for it.
            tokio::time::sleep(OTHERS_READ_WITHIN).await;
        }
        for _ in 0..ROUNDS {
            if left.is_empty() {
                return Ok(());
            }
            let mut read = self.deleted.subscribe();
            let mut failed = Ok(());
            for (subject, _) in &left {
                failed = failed.and(log.put(Table::Salts, &subject.hex(), None).await);
            }
            failed?;
            let mut unread: Vec<Subject> = left.iter().map(|(subject, _)| *subject).collect();
            let reading = async {
                // An error: more were deleted than are remembered. What stands then is deleted once more.
                while !unread.is_empty()
                    && let Ok(subject) = read.recv().await
                {
                    unread.retain(|one| *one != subject);
                }
            };
            within(reading).await?;
            tokio::time::sleep(OTHERS_READ_WITHIN).await;
            // Who drew while another did writes the first salt once more, perhaps after it was deleted. Whoever came back
            // has another one.
            left.retain(|(subject, old)| self.pseudonym(subject).as_ref() == Some(old));
        }
        match left.is_empty() {
            true => Ok(()),
            false => Err(AppendError::Unavailable(
                "a salt that was deleted is written again and again".into(),
            )),
        }
    }

    /// The same where there are no other replicas.
    async fn delete_own(&self, log: &dyn Log, subjects: &[Subject]) -> Result<(), AppendError> {
        let _nobody_draws = self.draws.write().await;
        let mut failed = Ok(());
        for subject in subjects {
            if self.pseudonym(subject).is_none() {
                continue;
            }
            match log.put(Table::Salts, &subject.hex(), None).await {
                // A table leaves no tombstone to be read.
                Ok(()) => self.forget(subject),
                Err(e) => failed = Err(e),
            }
        }
        failed
    }

    /// Waits until a salt was read.
    async fn until<T>(&self, mut said: impl FnMut() -> Option<T>) -> Result<T, AppendError> {
        within(async {
            loop {
                // Before looking, or what is read in between would not be heard of.
                let read = self.read.notified();
                if let Some(found) = said() {
                    return found;
                }
                read.await;
            }
        })
        .await
    }

    /// What the log is to call a customer; draws a salt for one who has none, and returns once it has been read back.
    pub async fn draw(&self, log: &dyn Log, subject: Subject, customer: &str) -> Result<String, AppendError> {
        if let Some(known) = self.pseudonym(&subject) {
            return Ok(known);
        }
        let _drawing = self.draws.read().await;
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
mod tests;
