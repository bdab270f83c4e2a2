//! Where what comes in by HTTP, `replay` and `import` is written to: Kafka, or the embedded SQLite log.
//! An append succeeds once the log has acknowledged it durably, never before.

pub mod context;
pub mod dead_letters;
pub mod embedded;
pub mod kafka;

use futures::future::BoxFuture;
use recommendation_api::records::{CustomerProfile, Ends, Product};
use recommendation_api::{Event, Impression};

/// Why something was not written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The log did not acknowledge in time or is not there; whether it was written is unknown.
    #[error("the log did not acknowledge: {0}")]
    Unavailable(String),
    /// The log refuses this record for good (too large, for example).
    #[error("the log refuses the record: {0}")]
    Refused(String),
}

/// Records about customers that are found by their key; the last of one key counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Profiles and aliases, by id.
    Profiles,
    /// Erasures, by HMAC.
    Erasures,
    /// Salts of pseudonyms, by HMAC.
    Salts,
    /// What was shown to a customer, by id: to be taken out only. A topic keeps it for its retention.
    Impressions,
}

/// One result per record, in the order given.
pub type Appended = Vec<Result<(), AppendError>>;

/// A log that can be appended to from any task.
pub trait Log: Send + Sync {
    /// Appends events; those of one customer keep their order.
    fn append<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, Appended>;

    /// Writes products to the catalogue; the last of one id wins.
    fn put_products<'a>(&'a self, products: &'a [Product]) -> BoxFuture<'a, Appended>;

    /// Writes one customer's profile; the last wins.
    fn put_profile<'a>(
        &'a self,
        customer_id: &'a str,
        profile: &'a CustomerProfile,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        Box::pin(async move {
            let value = serde_json::to_vec(profile).map_err(|e| AppendError::Refused(e.to_string()))?;
            self.put(Table::Profiles, customer_id, Some(value)).await
        })
    }

    /// Writes what was shown to customers; nobody waits for it to be read.
    fn put_impressions<'a>(&'a self, impressions: &'a [Impression]) -> BoxFuture<'a, Appended>;

    /// Writes a record of a table; `None` takes out what stands under the key.
    fn put<'a>(
        &'a self,
        table: Table,
        key: &'a str,
        value: Option<Vec<u8>>,
    ) -> BoxFuture<'a, Result<(), AppendError>>;

    /// Where what is learned from ends now: the offset that the next record of each partition will get.
    fn ends(&self) -> BoxFuture<'_, Result<Ends, AppendError>>;

    /// Waits until everything is written, at most some seconds; called once at the end.
    fn close(&self) -> BoxFuture<'_, ()>;
}
