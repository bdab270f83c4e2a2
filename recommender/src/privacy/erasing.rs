//! A customer is erased.
//!
//! What the directory knows of a customer goes as soon as the erasure is read. Until the records that told of it are taken
//! out of the log it remembers whose they were, so that an erasure that failed on its way is finished by asking once more,
//! any replica; and what leads to the rest goes last.

use std::sync::Arc;

use recommendation_api::records::ErasureScope;

use super::{Privacy, Subject};
use crate::clock::now_ms;
use crate::directory::Directory;
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
        for id in ids {
            let (subject, erasure) = self.privacy.erasure(id, scope, ends.clone(), now);
            let value = serde_json::to_vec(&erasure).map_err(|e| AppendError::Refused(e.to_string()))?;
            self.log.put(Table::Erasures, &subject.hex(), Some(value)).await?;
            self.impressions.forget(id).await?;
        }
        Ok(now)
    }

    /// Erases a customer, who is asked about as `customer` and kept under `name`, with all their ids.
    pub async fn erase(&self, customer: &str, name: &str) -> Result<Erased, AppendError> {
        let mut ids = self.directory.family(name);
        if ids.iter().all(|id| **id != *customer) {
            ids.push(customer.into());
        }
        // A tombstone names whom it is about: it is written only where a profile has to go.
        let profiled = |id: &&Arc<str>| self.directory.has_record(id);
        let before: Vec<&Arc<str>> = ids.iter().filter(profiled).collect();
        let time_ms = self.forget(&ids, ErasureScope::Everything).await?;
        // One may have been written a moment ago and been read only now.
        let profiles: Vec<&Arc<str>> = ids
            .iter()
            .filter(|id| before.contains(id) || profiled(id))
            .collect();
        // Aliases are found by their records, and those by what the customer is called: in this order.
        let own = self.privacy.subject(customer);
        let mut others = self.salted(&ids);
        others.retain(|subject| *subject != own);
        self.shred(&others).await?;
        for id in &profiles {
            let known = self.directory.profile(id);
            self.log.put(Table::Profiles, id, None).await?;
            // A table leaves no tombstone to be read. Another profile is of who has come back.
            if !self.privacy.shared && self.directory.profile(id) == known {
                self.directory.set_profile(id, None);
            }
        }
        self.shred(&[own]).await?;
        let had_profile = !profiles.is_empty();
        Ok(Erased {
            ids,
            time_ms,
            had_profile,
        })
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
