//! The embedded log: one SQLite file in WAL mode. Appends that arrive together share one commit (and one
//! fsync), so that acknowledged means durable and still thousands of requests a second get through.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use recommendation_api::records::{CustomerProfile, Ends, Product};
use recommendation_api::{Event, Impression};
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use super::{AppendError, Appended, Log, Table};
use crate::clock::now_ms;
use crate::insights::KEPT_MS;
use crate::source::embedded::EVENTS;

/// Requests that may wait for a commit.
const WAITING: usize = 1_024;
/// Rows that one commit gathers at most before it is written.
const ROWS_PER_COMMIT: usize = 50_000;
/// Longest to wait for another process that writes to the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Version of the tables; a file of a newer version is refused.
const SCHEMA_VERSION: i64 = 4;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS events (
    offset  INTEGER PRIMARY KEY AUTOINCREMENT,
    time_ms INTEGER NOT NULL,
    value   BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS products (
    product_id TEXT PRIMARY KEY,
    seq        INTEGER NOT NULL UNIQUE,
    value      BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS profiles (
    customer_id TEXT PRIMARY KEY,
    seq         INTEGER NOT NULL UNIQUE,
    value       BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS erasures (
    key   TEXT PRIMARY KEY,
    seq   INTEGER NOT NULL UNIQUE,
    value BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS salts (
    key   TEXT PRIMARY KEY,
    seq   INTEGER NOT NULL UNIQUE,
    value BLOB
) WITHOUT ROWID;
-- The last number given in a table whose rows may go: a number that is given again would not be read again.
CREATE TABLE IF NOT EXISTS sequences (
    name TEXT PRIMARY KEY,
    seq  INTEGER NOT NULL
) WITHOUT ROWID;
-- One row per malformed event: writing it again changes nothing.
CREATE TABLE IF NOT EXISTS dead_letters (
    offset  INTEGER PRIMARY KEY,
    time_ms INTEGER NOT NULL,
    reason  TEXT NOT NULL,
    message TEXT NOT NULL,
    value   BLOB NOT NULL
);
-- What was shown to whom; found by customer for an erasure.
CREATE TABLE IF NOT EXISTS impressions (
    offset      INTEGER PRIMARY KEY AUTOINCREMENT,
    time_ms     INTEGER NOT NULL,
    customer_id TEXT NOT NULL,
    value       BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS impressions_by_customer ON impressions (customer_id);
PRAGMA user_version = 4;
";

/// Why the embedded log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be made.
    #[error("cannot make {path}: {source}")]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite refuses it.
    #[error("cannot open {path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// It was written by a newer version.
    #[error("{path} has tables of version {found}, newer than this program's {SCHEMA_VERSION}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// The writing thread cannot be started.
    #[error("cannot start the log's writing thread: {0}")]
    Thread(std::io::Error),
}

/// Wakes the reading side after a commit.
#[derive(Default)]
pub struct Committed {
    count: Mutex<u64>,
    changed: Condvar,
}

impl Committed {
    fn notify(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// How many commits there were.
    pub fn count(&self) -> u64 {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there were more than `seen` commits, at most `wait`.
    pub fn wait(&self, seen: u64, wait: Duration) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            self.changed
                .wait_timeout_while(count, wait, |count| *count <= seen),
        );
    }
}

enum Write {
    Events(Vec<Vec<u8>>),
    Products(Vec<(String, Vec<u8>)>),
    Impressions(Vec<(String, Vec<u8>)>),
    Row(Table, String, Option<Vec<u8>>),
}

struct Job {
    write: Write,
    done: oneshot::Sender<Result<(), AppendError>>,
}

/// The embedded log.
pub struct EmbeddedLog {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    committed: Arc<Committed>,
    path: PathBuf,
}

/// Opens a connection to the log at `path`, making the file (readable by its owner only) and its tables.
pub fn connect(path: &Path) -> Result<Connection, OpenError> {
    let sqlite = |source| OpenError::Sqlite {
        path: path.to_owned(),
        source,
    };
    match std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(source) => {
            return Err(OpenError::Create {
                path: path.to_owned(),
                source,
            });
        }
    }
    let connection = Connection::open(path).map_err(sqlite)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(sqlite)?;
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(sqlite)?;
    if found > SCHEMA_VERSION {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
        });
    }
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .map_err(sqlite)?;
    connection
        .pragma_update(None, "synchronous", "FULL")
        .map_err(sqlite)?;
    // What is deleted is overwritten with zeros: an erased customer must not stand in free pages.
    connection
        .pragma_update(None, "secure_delete", "ON")
        .map_err(sqlite)?;
    if found < SCHEMA_VERSION {
        connection.execute_batch(SCHEMA).map_err(sqlite)?;
    }
    Ok(connection)
}

/// The id of a log, drawn when it is first asked for: by it a snapshot knows the database that it was made from.
pub fn log_id(connection: &Connection) -> Result<String, rusqlite::Error> {
    connection.execute_batch("CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL)")?;
    connection.execute(
        "INSERT INTO identity SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM identity)",
        params![uuid::Uuid::new_v4().to_string()],
    )?;
    connection.query_row("SELECT id FROM identity", [], |row| row.get(0))
}

/// Rows removed by one statement at most, so that nobody waits long for the file.
const TRIM_AT_ONCE: i64 = 10_000;

/// Removes events older than `retention_ms`, once snapshots cover them.
pub fn trim_covered(path: PathBuf, retention_ms: i64) -> crate::snapshot::keeper::Covered {
    Arc::new(move |manifest| {
        let events = manifest.positions.topics.get("events");
        let Some(covered) = events.and_then(|partitions| partitions.get(&0)) else {
            return;
        };
        match trim(&path, covered.next, now_ms().saturating_sub(retention_ms)) {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, "events past privacy.retention were removed from the log"),
            Err(e) => tracing::warn!(error = %e, "events past privacy.retention were not removed"),
        }
        if let Err(e) = trim_impressions(&path, now_ms() - KEPT_MS.min(retention_ms)) {
            tracing::warn!(error = %e, "impressions that are of no use any more were not removed");
        }
    })
}

/// Removes events before an offset and a time; returns how many.
fn trim(path: &Path, before: i64, before_ms: i64) -> Result<usize, OpenError> {
    let connection = connect(path)?;
    let mut removed = 0;
    loop {
        let n = connection
            .execute(
                "DELETE FROM events WHERE offset IN
                 (SELECT offset FROM events WHERE offset < ?1 AND time_ms < ?2 ORDER BY offset LIMIT ?3)",
                params![before, before_ms, TRIM_AT_ONCE],
            )
            .map_err(|source| OpenError::Sqlite {
                path: path.to_owned(),
                source,
            })?;
        removed += n;
        if n == 0 {
            return Ok(removed);
        }
    }
}

/// Removes impressions older than a time: figures are not about them any more.
fn trim_impressions(path: &Path, before_ms: i64) -> Result<(), OpenError> {
    let removed = connect(path)?.execute("DELETE FROM impressions WHERE time_ms < ?1", params![before_ms]);
    removed.map(drop).map_err(|source| OpenError::Sqlite {
        path: path.to_owned(),
        source,
    })
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

    fn put_profile<'a>(
        &'a self,
        customer_id: &'a str,
        profile: &'a CustomerProfile,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        async move {
            let value = serde_json::to_vec(profile).map_err(|e| AppendError::Refused(e.to_string()))?;
            self.put(Table::Profiles, customer_id, Some(value)).await
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

fn write_jobs(mut connection: Connection, mut inbox: mpsc::Receiver<Job>, committed: &Committed) {
    while let Some(first) = inbox.blocking_recv() {
        let mut rows = size(&first.write);
        let mut jobs = vec![first];
        while rows < ROWS_PER_COMMIT
            && let Ok(job) = inbox.try_recv()
        {
            rows += size(&job.write);
            jobs.push(job);
        }
        let result = commit(&mut connection, &jobs).map_err(|e| {
            tracing::error!(error = %e, "the embedded log refuses a commit");
            AppendError::Unavailable(e.to_string())
        });
        committed.notify();
        if jobs.iter().any(|job| matches!(job.write, Write::Row(_, _, None))) {
            forget_journal(&connection);
        }
        for job in jobs {
            // The request may have given up; its events are written all the same.
            let _ = job.done.send(result.clone());
        }
    }
}

/// Empties the write-ahead log, which holds pages as they were before what was deleted. Where somebody still reads an
/// old page it stays until the next time, or until the file is closed.
fn forget_journal(connection: &Connection) {
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    match busy {
        Ok(0) => {}
        Ok(_) => tracing::debug!("the write-ahead log is in use and was not emptied"),
        Err(e) => tracing::warn!(error = %e, "the write-ahead log was not emptied"),
    }
}

fn size(write: &Write) -> usize {
    match write {
        Write::Events(rows) => rows.len(),
        Write::Products(rows) | Write::Impressions(rows) => rows.len(),
        Write::Row(..) => 1,
    }
}

/// One row of a table. Nobody has to be told of a row that is taken out: the erasure that goes with it tells.
fn put(tx: &Connection, table: Table, key: &str, value: Option<&[u8]>) -> Result<(), rusqlite::Error> {
    let (name, id) = match table {
        Table::Profiles => ("profiles", "customer_id"),
        Table::Erasures => ("erasures", "key"),
        Table::Salts => ("salts", "key"),
        Table::Impressions => ("impressions", "customer_id"),
    };
    let Some(value) = value else {
        let delete = format!("DELETE FROM {name} WHERE {id} = ?1");
        return tx.prepare_cached(&delete)?.execute(params![key]).map(drop);
    };
    let next = format!(
        "INSERT INTO sequences (name, seq) VALUES ('{name}', (SELECT COALESCE(MAX(seq), 0) + 1 FROM {name}))
         ON CONFLICT (name) DO UPDATE SET seq = MAX(seq + 1, excluded.seq) RETURNING seq"
    );
    let seq: i64 = tx.prepare_cached(&next)?.query_row([], |row| row.get(0))?;
    // Of salts the first counts.
    let conflict = match table {
        Table::Salts => "NOTHING",
        _ => "UPDATE SET seq = excluded.seq, value = excluded.value",
    };
    let upsert =
        format!("INSERT INTO {name} ({id}, seq, value) VALUES (?1, ?2, ?3) ON CONFLICT ({id}) DO {conflict}");
    tx.prepare_cached(&upsert)?
        .execute(params![key, seq, value])
        .map(drop)
}

fn commit(connection: &mut Connection, jobs: &[Job]) -> Result<(), rusqlite::Error> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut event = tx.prepare_cached("INSERT INTO events (time_ms, value) VALUES (?1, ?2)")?;
        let mut product = tx.prepare_cached(
            "INSERT INTO products (product_id, seq, value)
             VALUES (?1, (SELECT COALESCE(MAX(seq), 0) + 1 FROM products), ?2)
             ON CONFLICT (product_id) DO UPDATE SET seq = excluded.seq, value = excluded.value",
        )?;
        let mut impression =
            tx.prepare_cached("INSERT INTO impressions (time_ms, customer_id, value) VALUES (?1, ?2, ?3)")?;
        let now = now_ms();
        for job in jobs {
            match &job.write {
                Write::Events(rows) => {
                    for value in rows {
                        event.execute(params![now, value])?;
                    }
                }
                Write::Products(rows) => {
                    for (id, value) in rows {
                        product.execute(params![id, value])?;
                    }
                }
                Write::Row(table, key, value) => put(&tx, *table, key, value.as_deref())?,
                Write::Impressions(rows) => {
                    for (customer, value) in rows {
                        impression.execute(params![now, customer, value])?;
                    }
                }
            }
        }
    }
    tx.commit()
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
