//! What requests append, after data protection: under pseudonyms where they are configured, and of a customer who may
//! not be tracked, nothing.

use std::collections::{HashMap, HashSet};

use futures::future::join_all;
use recommendation_api::Event;

use super::App;
use crate::log::{AppendError, Appended};
use crate::privacy::salts::{PREFIX, Salts};

fn erased() -> AppendError {
    AppendError::Unavailable("the customer was erased just now".to_owned())
}

impl App {
    /// The id that everything about a customer is kept under: their pseudonym where there is one, and of an alias
    /// that of whom it belongs to.
    pub fn name(&self, customer: &str) -> String {
        let name = self
            .privacy
            .known_as(customer)
            .unwrap_or_else(|| customer.to_owned());
        self.directory
            .canonical(&name)
            .map_or(name, |whose| whose.to_string())
    }

    /// What records that are written now call a customer; draws a pseudonym for one who has none yet.
    pub async fn name_in_log(&self, customer: &str) -> Result<String, AppendError> {
        match &self.privacy.salts {
            Some(salts) if !customer.starts_with(PREFIX) => {
                let subject = self.privacy.subject(customer);
                salts.draw(&*self.log, subject, customer).await
            }
            _ => Ok(customer.to_owned()),
        }
    }

    /// Refuses to write of a customer under a name that is theirs no more: they were erased while something was waited for.
    pub fn is_still_called(&self, customer: &str, name: &str) -> Result<(), AppendError> {
        let hides = self.privacy.salts.is_some() && !customer.starts_with(PREFIX);
        if hides && self.name(customer) != name && self.privacy.known_as(customer).as_deref() != Some(name) {
            return Err(erased());
        }
        Ok(())
    }

    /// Whether a customer (by any of their ids) may be learned from and answered personally.
    pub fn tracks(&self, customer: &str) -> bool {
        self.privacy.tracks(&self.directory, &self.name(customer))
    }

    /// Appends events. Those of customers who are not tracked are acknowledged and leave no trace.
    pub async fn append(&self, events: &[Event]) -> Appended {
        if !self.is_serving() && (self.privacy.is_opt_in() || self.privacy.salts.is_some()) {
            let loading = "it is still being read who has agreed, and what customers are called";
            return vec![Err(AppendError::Unavailable(loading.to_owned())); events.len()];
        }
        let tracked: Vec<bool> = events
            .iter()
            .map(|event| self.tracks(&event.customer_id))
            .collect();
        if self.privacy.salts.is_none() && tracked.iter().all(|tracked| *tracked) {
            return self.log.append(events).await;
        }
        let kept = events.iter().zip(&tracked).filter(|(_, tracked)| **tracked);
        let kept: Vec<Event> = kept.map(|(event, _)| event.clone()).collect();
        let mut appended = match &self.privacy.salts {
            Some(salts) => self.append_hidden(salts, kept).await,
            None => self.log.append(&kept).await,
        }
        .into_iter();
        let results = tracked.iter().map(|tracked| match tracked {
            true => appended.next().unwrap_or(Ok(())),
            false => Ok(()),
        });
        results.collect()
    }

    /// Appends events under pseudonyms.
    async fn append_hidden(&self, salts: &Salts, events: Vec<Event>) -> Appended {
        let customers: HashSet<String> = events.iter().map(|event| event.customer_id.clone()).collect();
        let drawn = join_all(customers.into_iter().map(async |customer| {
            let name = self.name_in_log(&customer).await;
            (customer, name)
        }));
        let names: HashMap<String, Result<String, AppendError>> = drawn.await.into_iter().collect();
        let mut hidden = Vec::with_capacity(events.len());
        let mut failed: Vec<Option<AppendError>> = Vec::with_capacity(events.len());
        for mut event in events {
            match names.get(&event.customer_id) {
                // Who says so has hidden the visit too.
                Some(Ok(name)) if *name == event.customer_id => {
                    hidden.push(event);
                    failed.push(None);
                }
                Some(Ok(name)) => {
                    let subject = self.privacy.subject(&event.customer_id);
                    let session = match event.session_id {
                        Some(session) => salts.hide(&subject, name, &session).map(Some),
                        None => (salts.pseudonym(&subject).as_ref() == Some(name)).then_some(None),
                    };
                    // While others of the batch were waited for, the customer may have been erased.
                    let Some(session) = session else {
                        failed.push(Some(erased()));
                        continue;
                    };
                    event.session_id = session;
                    event.customer_id.clone_from(name);
                    hidden.push(event);
                    failed.push(None);
                }
                Some(Err(e)) => failed.push(Some(e.clone())),
                None => failed.push(Some(AppendError::Unavailable(
                    "no pseudonym was drawn".to_owned(),
                ))),
            }
        }
        let mut appended = self.log.append(&hidden).await.into_iter();
        let results = failed.into_iter().map(|failed| match failed {
            Some(e) => Err(e),
            None => appended.next().unwrap_or(Ok(())),
        });
        results.collect()
    }
}
