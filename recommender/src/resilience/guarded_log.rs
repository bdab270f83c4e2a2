//! A log behind a breaker: while it does not acknowledge, events are refused at once instead of after the
//! seconds that their delivery is given, so that waiting requests do not pile up.

use futures::future::BoxFuture;
use recommendation_api::records::{Ends, Product};
use recommendation_api::{Event, Impression};

use super::breaker::Breaker;
use crate::log::{AppendError, Appended, Log, Table};

/// A log behind a breaker.
pub struct GuardedLog<L> {
    log: L,
    breaker: Breaker,
}

impl<L: Log> GuardedLog<L> {
    /// Guards `log`.
    pub fn new(log: L, breaker: Breaker) -> Self {
        Self { log, breaker }
    }

    async fn guarded<'a>(
        &self,
        records: usize,
        append: impl FnOnce() -> BoxFuture<'a, Appended>,
    ) -> Appended {
        let Some(permit) = self.breaker.admit() else {
            let refused = AppendError::Unavailable("it has not acknowledged anything for a while".to_owned());
            return vec![Err(refused); records];
        };
        let appended = append().await;
        // A refused record was answered: only silence is failure, and one acknowledgement disproves it.
        let silent = |result: &Result<(), AppendError>| matches!(result, Err(AppendError::Unavailable(_)));
        if !appended.is_empty() && appended.iter().all(silent) {
            permit.failed();
        } else {
            permit.succeeded();
        }
        appended
    }
}

impl<L: Log> GuardedLog<L> {
    async fn guarded_one<'a>(
        &self,
        put: impl FnOnce() -> BoxFuture<'a, Result<(), AppendError>> + Send + 'a,
    ) -> Result<(), AppendError> {
        let put = || -> BoxFuture<'a, Appended> { Box::pin(async move { vec![put().await] }) };
        self.guarded(1, put)
            .await
            .pop()
            .expect("one record has one result")
    }
}

impl<L: Log> Log for GuardedLog<L> {
    fn append<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, Appended> {
        Box::pin(self.guarded(events.len(), || self.log.append(events)))
    }

    fn put_products<'a>(&'a self, products: &'a [Product]) -> BoxFuture<'a, Appended> {
        Box::pin(self.guarded(products.len(), || self.log.put_products(products)))
    }

    fn put<'a>(
        &'a self,
        table: Table,
        key: &'a str,
        value: Option<Vec<u8>>,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        Box::pin(self.guarded_one(move || self.log.put(table, key, value)))
    }

    fn ends(&self) -> BoxFuture<'_, Result<Ends, AppendError>> {
        // What follows it is guarded.
        self.log.ends()
    }

    /// Past the breaker: no request waits for these, and what becomes of them says nothing to those that do.
    fn put_impressions<'a>(&'a self, impressions: &'a [Impression]) -> BoxFuture<'a, Appended> {
        self.log.put_impressions(impressions)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.log.close()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use prometheus::IntGauge;

    use super::*;
    use crate::resilience::breaker::{Settings, Trial};

    /// Counts how often it is asked, and answers with the error given.
    struct Broken(AtomicUsize, AppendError);

    impl Log for Broken {
        fn append<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, Appended> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { vec![Err(self.1.clone()); events.len()] })
        }

        fn put_products<'a>(&'a self, _: &'a [Product]) -> BoxFuture<'a, Appended> {
            Box::pin(async { Vec::new() })
        }

        fn put_impressions<'a>(&'a self, _: &'a [Impression]) -> BoxFuture<'a, Appended> {
            Box::pin(async { Vec::new() })
        }

        fn put<'a>(
            &'a self,
            _: Table,
            _: &'a str,
            _: Option<Vec<u8>>,
        ) -> BoxFuture<'a, Result<(), AppendError>> {
            Box::pin(async { Ok(()) })
        }

        fn ends(&self) -> BoxFuture<'_, Result<Ends, AppendError>> {
            Box::pin(async { Ok(Ends::new()) })
        }

        fn close(&self) -> BoxFuture<'_, ()> {
            Box::pin(async {})
        }
    }

    async fn asked_of(error: AppendError) -> usize {
        let settings = Settings {
            failures: 2,
            trial: Trial::Call(Duration::from_secs(60)),
        };
        let breaker = Breaker::new("log", settings, IntGauge::new("open", "open").unwrap());
        let log = GuardedLog::new(Broken(AtomicUsize::new(0), error), breaker);
        let text = br#"{"customer_id":"a","product_id":"b","event_type":"view"}"#;
        let events = vec![Event::parse(text, None).unwrap(); 3];
        for _ in 0..5 {
            let results = log.append(&events).await;
            assert_eq!(results.len(), 3, "one answer an event");
            assert!(results.iter().all(Result::is_err));
        }
        log.log.0.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_silent_log_is_not_asked_again_for_a_while() {
        assert_eq!(asked_of(AppendError::Unavailable("timeout".into())).await, 2);
    }

    #[tokio::test]
    async fn a_log_that_refuses_records_answers_and_is_asked_on() {
        assert_eq!(asked_of(AppendError::Refused("too large".into())).await, 5);
    }
}
