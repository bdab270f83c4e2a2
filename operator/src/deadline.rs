//! Every external call has a deadline of its own: kube's client alone retries 429, 503 and 504 for up to 164 s
//! inside one call, which would hold a reconcile and one of its few slots.

use std::future::Future;
use std::time::Duration;

/// How long one request to the API server may take, its retries included.
pub const KUBERNETES: Duration = Duration::from_secs(15);
/// How long one round trip to Kafka may take.
pub const KAFKA: Duration = Duration::from_secs(6);
/// How long one request to ksqlDB may take. DDL waits there for the command topic, and with Kafka gone it never
/// answers.
pub const KSQLDB: Duration = Duration::from_secs(20);
/// How long one request that ksqlDB answers from memory may take. A server that is behind says so after five seconds.
pub const KSQLDB_LISTING: Duration = Duration::from_secs(7);
/// How long a pod's `/status` may take: it answers from memory.
pub const STATUS: Duration = Duration::from_secs(2);

/// The call did not finish within its deadline.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("no answer within {0:?}")]
pub struct Elapsed(pub Duration);

/// Runs `call`, at most for `limit`.
///
/// # Errors
/// [`Elapsed`] when the time is over; the call is dropped.
pub async fn within<F: Future>(limit: Duration, call: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout(limit, call)
        .await
        .map_err(|_| Elapsed(limit))
}
