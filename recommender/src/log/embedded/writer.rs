//! The thread that writes: whatever waits shares a commit.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use super::super::{AppendError, Table};
use crate::clock::now_ms;

/// Rows that one commit gathers at most before it is written.
const ROWS_PER_COMMIT: usize = 50_000;

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

/// What a commit puts into the tables.
pub(super) enum Write {
    Events(Vec<Vec<u8>>),
    Products(Vec<(String, Vec<u8>)>),
    Impressions(Vec<(String, Vec<u8>)>),
    Row(Table, String, Option<Vec<u8>>),
}

/// What is to be written, and who waits for it.
pub(super) struct Job {
    pub write: Write,
    pub done: oneshot::Sender<Result<(), AppendError>>,
}

/// Writes until nobody is left who could ask for it.
pub(super) fn write_jobs(mut connection: Connection, mut inbox: mpsc::Receiver<Job>, committed: &Committed) {
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

/// Rows.
pub(super) fn size(write: &Write) -> usize {
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
