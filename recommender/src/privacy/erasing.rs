//! A customer is erased.
//!
//! What the directory knows of a customer goes as soon as the erasure is read. Until the records that told of it are taken
//! out of the log it remembers whose they were, so that an erasure that failed on its way is finished by asking once more by
//! the same id, any replica; and what leads to the rest goes last.

use std::sync::Arc;

use futures::future::join_all;
use recommendation_api::records::ErasureScope;

use super::salts::PREFIX;
use super::{Privacy, Subject};
use crate::clock::now_ms;
use crate::directory::{Directory, Family};
use crate::impressions::Impressions;
use crate::log::{AppendError, Log, Table};

/// What an erasure writes to, and what it knows customers by.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    /// The log.
    pub log: &'a dyn Log,
    /// Keys and salts.
    pub privacy: &'a Privacy,
    /// Profiles.
    pub directory: &'a Directory,
    /// What was shown.
    pub impressions: &'a Impressions,
}

/// What was erased.
pub struct Erased {
    /// The customer's ids: the one that everything was kept under first.
    pub ids: Vec<Arc<str>>,
    /// What happened before is forgotten, milliseconds since 1970.
    pub time_ms: i64,
    /// Whether there was a profile.
    pub had_profile: bool,
}

impl Means<'_> {
    /// Has every replica forget these ids as of now; returns when that was, milliseconds since 1970.
    pub async fn forget(&self, ids: &[Arc<str>], scope: ErasureScope) -> Result<i64, AppendError> {
        let ends = self.log.ends().await?;
        let now = now_ms();
        // Together: a customer of years has been many visits, and what was shown is looked through for all at once.
        let forgotten = ids.iter().map(async |id| {
            let (subject, erasure) = self.privacy.erasure(id, scope, ends.clone(), now);
            let value = serde_json::to_vec(&erasure).map_err(|e| AppendError::Refused(e.to_string()))?;
            self.log.put(Table::Erasures, &subject.hex(), Some(value)).await?;
            self.impressions.forget(id).await
        });
        let all: Result<Vec<()>, AppendError> = join_all(forgotten).await.into_iter().collect();
        all.map(|_| now)
    }

    /// Erases a customer, who is asked about by any of their ids, with all of them.
    pub async fn erase(&self, customer: &str) -> Result<Erased, AppendError> {
        let pseudonym = self.privacy.known_as(customer);
        let name = pseudonym.as_deref().unwrap_or(customer);
        let Family { mut ids, lineage } = self.directory.family(name);
        if ids.iter().all(|id| **id != *customer) {
            ids.push(customer.into());
        }
        let profiled = |id: &&Arc<str>| self.directory.has_record(id);
        let before: Vec<&Arc<str>> = ids.iter().filter(profiled).collect();
        let time_ms = self.forget(&ids, ErasureScope::Everything).await?;
        // One may have been written a moment ago and been read only now.
        let had_profile = |id: &&Arc<str>| before.contains(id) || profiled(id);
        let profiles: Vec<&Arc<str>> = ids.iter().filter(had_profile).collect();
        // Whoever asks once more finds aliases by the records of those that they are of, up and down, and all of it by what
        // the customer is called: what leads to nothing else goes first.
        let own = self.privacy.subject(customer);
        let mut others = self.salted(&ids);
        others.retain(|subject| *subject != own);
        self.shred(&others).await?;
        let below = ids.iter().rev().filter(|id| !lineage.contains(id));
        for id in below.chain(&lineage) {
            // A tombstone names whom it is about: it is written only where a profile has to go.
            if profiles.contains(&id) {
                self.take_out(id).await?;
            }
        }
        self.shred(&[own]).await?;
        let mut had_profile = !profiles.is_empty();
        // Whoever wrote one meanwhile wrote it under a pseudonym that is nobody's now.
        let hides = self.privacy.salts.is_some();
        let late = |id: &&Arc<str>| hides && id.starts_with(PREFIX) && self.directory.profile(id).is_some();
        for id in ids.iter().filter(late) {
            self.take_out(id).await?;
            had_profile = true;
        }
        Ok(Erased {
            ids,
            time_ms,
            had_profile,
        })
    }

    /// Takes a profile's record out of the log.
    async fn take_out(&self, id: &str) -> Result<(), AppendError> {
        let known = self.directory.profile(id);
        self.log.put(Table::Profiles, id, None).await?;
        if !self.privacy.shared {
            // A table leaves no tombstone to be read.
            self.directory.taken_out(id, known.as_ref());
        }
        Ok(())
    }

    /// Who is called by these pseudonyms.
    fn salted(&self, ids: &[Arc<str>]) -> Vec<Subject> {
        let pseudonyms: Vec<&str> = ids.iter().map(|id| &**id).collect();
        let salts = self.privacy.salts.as_ref();
        salts.map_or_else(Vec::new, |salts| salts.subjects(&pseudonyms))
    }

    /// Deletes salts: from now on nobody can tell whose the records under the pseudonyms are.
    async fn shred(&self, subjects: &[Subject]) -> Result<(), AppendError> {
        match &self.privacy.salts {
            Some(salts) => salts.delete(self.log, subjects, self.privacy.shared).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
