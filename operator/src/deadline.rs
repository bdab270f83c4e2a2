//! Every external call has a deadline of its own: kube's client alone retries 429, 503 and 504 for up to 164 s
//! inside one call, which would hold a reconcile and one of its few slots. And none is begun by an operator that does
//! not lead any more.

use std::future::Future;
use std::time::Duration;

use crate::leader::Fence;

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

tokio::task_local! {
    /// The fence of the operator that this task reconciles for.
    static FENCE: Fence;
}

/// The call did not finish within its deadline, or was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Elapsed {
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// This operator's lease is over: another one acts.
    #[error("this operator does not lead any more")]
    Deposed,
}

/// Runs `call`, at most for `limit`, if this operator leads.
///
/// # Errors
/// [`Elapsed::Late`] when the time is over; the call is dropped. [`Elapsed::Deposed`]: it was not begun.
pub async fn within<F: Future>(limit: Duration, call: F) -> Result<F::Output, Elapsed> {
    leading()?;
    tokio::time::timeout(limit, call)
        .await
        .map_err(|_| Elapsed::Late(limit))
}

/// Whether this operator leads; true outside of a reconcile. To be asked right before each call that [`within`] does
/// not make.
///
/// # Errors
/// [`Elapsed::Deposed`] when its lease is over.
pub fn leading() -> Result<(), Elapsed> {
    match FENCE.try_with(Fence::holds) {
        Ok(false) => Err(Elapsed::Deposed),
        _ => Ok(()),
    }
}

/// Runs a reconcile behind `fence`.
pub async fn behind<F: Future>(fence: Fence, task: F) -> F::Output {
    FENCE.scope(fence, task).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_takes_too_long_is_dropped() {
        let late = within(Duration::from_millis(1), std::future::pending::<()>()).await;
        assert_eq!(late, Err(Elapsed::Late(Duration::from_millis(1))));
    }

    #[tokio::test]
    async fn behind_a_closed_fence_no_call_is_begun() {
        let begun = std::cell::Cell::new(false);
        let call = || async { begun.set(true) };
        let answer = behind(Fence::closed(), within(Duration::from_secs(1), call())).await;
        assert_eq!((answer, begun.get()), (Err(Elapsed::Deposed), false));
        behind(Fence::open(), within(Duration::from_secs(1), call()))
            .await
            .unwrap();
        assert!(
            begun.get() && leading().is_ok(),
            "outside of a reconcile nobody is asked"
        );
    }
}
