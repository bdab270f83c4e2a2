//! What records of the catalogue, of profiles and of what was shown change.

use recommendation_api::{EventError, Impression};

use super::Lookups;
use super::forget::Forget;
use super::learner::Learner;
use crate::model;
use crate::source::Record;

/// The id that a record's key is.
fn id<'r>(record: &Record<'r>) -> Option<&'r str> {
    let id = std::str::from_utf8(record.key?).ok()?;
    (!id.is_empty()).then_some(id)
}

impl Learner {
    pub(super) fn take_product(&mut self, record: Record<'_>) -> Result<(), EventError> {
        let Some(id) = id(&record) else {
            tracing::warn!(
                offset = record.offset,
                "catalogue record without a product id as its key"
            );
            return Err(EventError::MissingField("product_id"));
        };
        let meta = model::parse_product(record.value).inspect_err(|e| {
            tracing::warn!(product_id = id, error = %e, "catalogue record not understood");
        })?;
        if let Some(title) = meta.as_ref().and_then(|meta| meta.title.as_deref()) {
            self.lookups.directory.set_title(id, title);
        }
        if !self.writer.set_product(id, meta) {
            tracing::warn!(
                product_id = id,
                "limits.maxProducts is reached: product not taken up"
            );
        }
        Ok(())
    }

    pub(super) fn take_profile(&mut self, record: Record<'_>) -> Result<(), EventError> {
        let Some(id) = id(&record) else {
            tracing::warn!(offset = record.offset, "profile without a customer id as its key");
            return Err(EventError::MissingField("customer_id"));
        };
        // Where, and not what: a profile is personal.
        let profile = crate::profile::parse_record(record.value).inspect_err(|_| {
            tracing::warn!(offset = record.offset, "profile not understood");
        })?;
        let consent = profile.as_ref().and_then(|profile| profile.consent);
        let whose = profile.as_ref().and_then(|profile| profile.alias_of.clone());
        let Lookups {
            privacy, directory, ..
        } = &self.lookups;
        let was = directory.canonical(id);
        if !directory.take_profile(id, profile, record.time_ms) {
            tracing::warn!("profile not taken up: limits.maxCustomers is reached, or it is its own alias");
        }
        let is_known = self.forgetting.has_profile(&record);
        let is = directory.canonical(id);
        // Before, all of them are held against what was counted, once they are known: see [`Learner::reconcile`].
        let is_elsewhere = self.elsewhere.is_some();
        let is_new = is_elsewhere && self.has_tables;
        if is_new && was.is_some() && is != was {
            let subject = privacy.subject(id);
            self.parted(subject, Some(id));
        }
        self.show_attributes(id);
        if let Some(whose) = whose {
            // In memory nothing is left that would be merged twice. What the directory does not know is learned as its own.
            if !is_elsewhere || (is_new && is.is_some()) {
                let whose = is.map_or(whose, |whose| whose.to_string());
                let from = id.to_owned();
                self.forget_soon(Forget::Alias { from, whose });
            }
        } else if !self.lookups.privacy.allows(consent) && !is_known {
            // Who had refused by then may have agreed since, and what came after that is in the snapshot.
            self.forget_soon(Forget::Refused(id.to_owned()));
        }
        Ok(())
    }

    pub(super) fn take_impression(&mut self, record: Record<'_>) -> Result<(), EventError> {
        // A tombstone: who was erased.
        let Some(value) = record.value else { return Ok(()) };
        let impression = Impression::parse(value).inspect_err(|_| {
            tracing::warn!(offset = record.offset, "impression not understood");
        })?;
        let Lookups {
            privacy, directory, ..
        } = &self.lookups;
        let whose = directory.canonical(&impression.customer_id);
        let customer = whose.as_deref().unwrap_or(&impression.customer_id);
        if privacy.tracks(directory, customer) {
            self.insights.impression(customer, &impression);
        }
        Ok(())
    }
}
