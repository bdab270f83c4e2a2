//! An erasure on its way into the log, record by record, until all of it is there.
//!
//! What the directory knows of a customer goes as soon as the first record is read. Half an erasure could not be found by
//! asking once more: whom it is about is looked up before anything is written, and what fails is kept and tried again.

use std::sync::Arc;

use recommendation_api::records::{CustomerProfile, ErasureScope};

use super::Privacy;
use super::salts::Doomed;
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

/// What of an erasure is not yet written.
pub struct Erasing {
    ids: Vec<Arc<str>>,
    erasures: Vec<Arc<str>>,
    profiles: Vec<(Arc<str>, CustomerProfile)>,
    /// Whether profiles are to be looked for once more.
    looks_again: bool,
    had_profile: bool,
    salts: Vec<Doomed>,
    time_ms: i64,
}

impl Erasing {
    /// Of the customer who is asked about as `customer`, with all their ids.
    pub fn new(means: Means<'_>, customer: &str, ids: Vec<Arc<str>>) -> Self {
        let salts = means.privacy.salts.as_ref().map(|salts| {
            let pseudonyms: Vec<&str> = ids.iter().map(|id| &**id).collect();
            let mut subjects = salts.subjects(&pseudonyms);
            let own = means.privacy.subject(customer);
            if !subjects.contains(&own) {
                subjects.push(own);
            }
            salts.doomed(&subjects)
        });
        let mut erasing = Self {
            erasures: ids.clone(),
            ids,
            profiles: Vec::new(),
            looks_again: true,
            had_profile: false,
            salts: salts.unwrap_or_default(),
            time_ms: 0,
        };
        erasing.find_profiles(means.directory);
        erasing
    }

    /// What happened before this is forgotten, milliseconds since 1970; once it is written.
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }

    /// Whether there was a profile to be taken out.
    pub fn had_profile(&self) -> bool {
        self.had_profile
    }

    /// A tombstone names whom it is about: it is written only where a profile has to go.
    fn find_profiles(&mut self, directory: &Directory) {
        for id in &self.ids {
            if self.profiles.iter().all(|(known, _)| known != id)
                && let Some(profile) = directory.profile(id)
            {
                self.profiles.push((Arc::clone(id), profile));
            }
        }
        self.had_profile |= !self.profiles.is_empty();
    }

    /// Writes what is left. After an error it may be called again: what is written by then is not written once more, and a
    /// customer who has come back meanwhile keeps what is new. To be awaited to its end.
    pub async fn go_on(&mut self, means: Means<'_>) -> Result<(), AppendError> {
        let Means {
            log,
            privacy,
            directory,
            impressions,
        } = means;
        if !self.erasures.is_empty() {
            // As of now, whenever that is: who follows the log forgets what stands before the record, whatever it says.
            let ends = log.ends().await?;
            self.time_ms = now_ms();
            while let Some(id) = self.erasures.first() {
                let scope = ErasureScope::Everything;
                privacy.put_erasure(log, id, scope, &ends, self.time_ms).await?;
                impressions.forget(id).await?;
                self.erasures.remove(0);
            }
        }
        // One may have been written a moment ago and been read only now.
        if std::mem::take(&mut self.looks_again) {
            self.find_profiles(directory);
        }
        let mut failed = Ok(());
        for (id, profile) in std::mem::take(&mut self.profiles) {
            if directory.profile(&id).is_some_and(|now| now != profile) {
                continue;
            }
            if let Err(e) = log.put(Table::Profiles, &id, None).await {
                failed = Err(e);
                self.profiles.push((id, profile));
            }
        }
        if let Some(salts) = &privacy.salts {
            salts.delete(log, &mut self.salts, privacy.shared).await?;
        }
        failed
    }
}

#[cfg(test)]
mod tests;
