//! The embedded log: one SQLite file in WAL mode. Appends that arrive together share one commit (and one
//! fsync), so that acknowledged means durable and still thousands of requests a second get through.

mod file;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use recommendation_api::records::{Ends, Product};
use recommendation_api::{Event, Impression};
use tokio::sync::{mpsc, oneshot};

pub use self::file::{OpenError, connect, log_id, trim_covered};
pub use self::writer::Committed;
use self::writer::{Job, Write, size, write_jobs};
use super::{AppendError, Appended, Log, Table};
use crate::source::embedded::EVENTS;

/// Requests that may wait for a commit.
const WAITING: usize = 1_024;

/// The embedded log.
pub struct EmbeddedLog {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    committed: Arc<Committed>,
    path: PathBuf,
}

impl EmbeddedLog {
    /// Opens the log and starts its writing thread.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let connection = connect(path)?;
        let (jobs, inbox) = mpsc::channel(WAITING);
        let committed = Arc::new(Committed::default());
        let signal = Arc::clone(&committed);
        let thread = std::thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || {
                crate::calm::give_way();
                write_jobs(connection, inbox, &signal);
            })
            .map_err(OpenError::Thread)?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            thread: Mutex::new(Some(thread)),
            committed,
            path: path.to_owned(),
        })
    }

    /// What the reading side waits on.
    pub fn committed(&self) -> Arc<Committed> {
        Arc::clone(&self.committed)
    }

    async fn write(&self, write: Write) -> Result<(), AppendError> {
        if size(&write) == 0 {
            return Ok(()); // a batch of which nothing was valid: no commit for it
        }
        let ended = || AppendError::Unavailable("the log is closed".into());
        let jobs = self
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or_else(ended)?;
        let (done, answer) = oneshot::channel();
        jobs.send(Job { write, done }).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

/// Records written down before other tasks of the thread get their turn: a thousand take as long as hundreds of answers.
const IN_A_TURN: usize = 64;

async fn in_turns<T, R>(records: &[T], write: impl Fn(&T) -> R) -> Vec<R> {
    let mut written = Vec::with_capacity(records.len());
    for turn in records.chunks(IN_A_TURN) {
        if !written.is_empty() {
            tokio::task::yield_now().await;
        }
        written.extend(turn.iter().map(&write));
    }
    written
}

impl Log for EmbeddedLog {
    fn append<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, Appended> {
        async move {
            let rows = in_turns(events, Event::to_json).await;
            let result = self.write(Write::Events(rows)).await;
            vec![result; events.len()]
        }
        .boxed()
    }

    fn put_products<'a>(&'a self, products: &'a [Product]) -> BoxFuture<'a, Appended> {
        async move {
            let rows = products
                .iter()
                .map(|p| Ok((p.product_id.clone(), serde_json::to_vec(p)?)))
                .collect::<Result<Vec<_>, serde_json::Error>>();
            let result = match rows {
                Ok(rows) => self.write(Write::Products(rows)).await,
                Err(e) => Err(AppendError::Refused(e.to_string())),
            };
            vec![result; products.len()]
        }
        .boxed()
    }

    fn put<'a>(
        &'a self,
        table: Table,
        key: &'a str,
        value: Option<Vec<u8>>,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        self.write(Write::Row(table, key.to_owned(), value)).boxed()
    }

    fn ends(&self) -> BoxFuture<'_, Result<Ends, AppendError>> {
        let path = self.path.clone();
        async move {
            let end = tokio::task::spawn_blocking(move || {
                connect(&path)?
                    .query_row(
                        "SELECT COALESCE(MAX(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'events'",
                        [],
                        |row| row.get(0),
                    )
                    .map_err(|source| OpenError::Sqlite { path, source })
            })
            .await;
            let end = end
                .map_err(|e| e.to_string())
                .and_then(|end| end.map_err(|e| e.to_string()));
            let end: i64 = end.map_err(AppendError::Unavailable)?;
            Ok([(EVENTS.to_owned(), [(0, end)].into())].into())
        }
        .boxed()
    }

    fn put_impressions<'a>(&'a self, impressions: &'a [Impression]) -> BoxFuture<'a, Appended> {
        async move {
            let row = |impression: &Impression| (impression.customer_id.clone(), impression.to_json());
            let rows = in_turns(impressions, row).await;
            let result = self.write(Write::Impressions(rows)).await;
            vec![result; impressions.len()]
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            if let Some(thread) = thread {
                // What is queued is still written: the thread ends when the queue is empty.
                let _ = tokio::task::spawn_blocking(move || thread.join()).await;
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use recommendation_api::EventType;

    use super::*;

    pub(crate) fn event(customer: &str, product: &str) -> Event {
        let value =
            format!(r#"{{"customer_id":"{customer}","product_id":"{product}","event_type":"click"}}"#);
        Event::parse(value.as_bytes(), None).unwrap()
    }

    #[tokio::test]
    async fn acknowledged_events_are_in_the_file_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.db");
        let log = EmbeddedLog::open(&path).unwrap();
        let events = vec![event("c", "p"), event("c", "q")];
        assert!(log.append(&events).await.iter().all(Result::is_ok));
        // No close: a second connection sees what a new process would.
        let rows: i64 = connect(&path)
            .unwrap()
            .query_row("SELECT COUNT(*) FROM events", [], |r| r.get(0))
            .unwrap();
        assert_eq!(rows, 2);
        assert_eq!(events[0].event_type, EventType::Click);
    }

    #[tokio::test]
    async fn a_file_of_a_newer_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.db");
        connect(&path)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        assert!(matches!(
            EmbeddedLog::open(&path),
            Err(OpenError::Newer { found: 99, .. })
        ));
    }

    #[tokio::test]
    async fn a_closed_log_says_so_instead_of_hanging() {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(&dir.path().join("shop.db")).unwrap();
        log.close().await;
        assert!(log.append(&[event("c", "p")]).await[0].is_err());
    }

    #[test]
    fn the_file_is_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.db");
        connect(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
