//! The file of the embedded log: its tables, its connections, and what is removed from it with time.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, params};

use crate::clock::now_ms;
use crate::insights::KEPT_MS;

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
    // Otherwise every statement with a bound `LIMIT` is prepared anew each time that it is bound, to be planned by it.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(sqlite)?;
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
