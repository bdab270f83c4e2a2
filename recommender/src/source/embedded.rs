//! The embedded source: follows the SQLite log, woken by each commit of this process and looking every few
//! milliseconds for those of others (`recommender replay --embedded` beside a running service).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use recommendation_api::EventError;
use recommendation_api::report::DependencyState;
use rusqlite::{Connection, params};

use super::positions::{Position, Positions, ResumeError, within};
use super::{Item, Lag, Record, Source, SourceError, Take};
use crate::clock::now_ms;
use crate::log::embedded::{Committed, OpenError, connect, log_id};
use crate::metrics::Metrics;

/// Rows handed over by one poll at most.
const BATCH: i64 = 5_000;

/// Reads the embedded log.
pub struct EmbeddedSource {
    connection: Connection,
    committed: Arc<Committed>,
    metrics: Arc<Metrics>,
    log_id: String,
    /// Offset of the last event handed over.
    offset: i64,
    /// Change number of the last product handed over.
    seq: i64,
    /// The same of profiles.
    profile_seq: i64,
    /// Offset of the last impression handed over.
    impression: i64,
    /// The same of erasures.
    erasure_seq: i64,
    /// The same of salts.
    salt_seq: i64,
    /// Everything that stood in the catalogue, the profiles and the erasures was handed over.
    tables_were_read: bool,
    /// Last offset when reading began.
    first_end: i64,
    end: i64,
    behind_since: Option<Instant>,
    last_ms: i64,
    answers: bool,
    /// Dead letters not written yet; lost in a crash, they are met again at the next start.
    letters: Vec<Malformed>,
}

struct Malformed {
    offset: i64,
    value: Vec<u8>,
    error: EventError,
}

impl EmbeddedSource {
    /// Opens the log for reading from its start.
    pub fn open(path: &Path, committed: Arc<Committed>, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        let connection = connect(path)?;
        let sqlite = |source| OpenError::Sqlite {
            path: path.to_owned(),
            source,
        };
        let first_end = end(&connection).map_err(sqlite)?;
        let log_id = log_id(&connection).map_err(sqlite)?;
        Ok(Self {
            connection,
            committed,
            metrics,
            log_id,
            offset: 0,
            seq: 0,
            profile_seq: 0,
            impression: 0,
            erasure_seq: 0,
            salt_seq: 0,
            tables_were_read: false,
            first_end,
            end: first_end,
            behind_since: None,
            last_ms: 0,
            answers: true,
            letters: Vec::new(),
        })
    }

    fn read(&mut self, take: &mut Take<'_>) -> Result<usize, rusqlite::Error> {
        let connection = &self.connection;
        let products = "SELECT seq, product_id, value FROM products WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let mut taken = changed(connection, products, &mut self.seq, BATCH, &mut |record| {
            take(Item::Product(record))
        })?;
        // Before profiles: who was erased may have come back and written a new one.
        let erasures = "SELECT seq, key, value FROM erasures WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let erased = changed(
            connection,
            erasures,
            &mut self.erasure_seq,
            BATCH,
            &mut |record| take(Item::Erasure(record)),
        )?;
        let salts = "SELECT seq, key, value FROM salts WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        taken += changed(connection, salts, &mut self.salt_seq, BATCH, &mut |record| {
            take(Item::Salt(record))
        })?;
        let profiles = "SELECT seq, customer_id, value FROM profiles WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let limit = if (erased as i64) < BATCH { BATCH } else { 0 };
        taken += erased
            + changed(
                connection,
                profiles,
                &mut self.profile_seq,
                limit,
                &mut |record| take(Item::Profile(record)),
            )?;
        {
            let mut events = self.connection.prepare_cached(
                "SELECT offset, time_ms, value FROM events WHERE offset > ?1 ORDER BY offset LIMIT ?2",
            )?;
            // They are removed once figures are not about them any more, so that all that stand are read.
            let mut impressions = self.connection.prepare_cached(
                "SELECT offset, time_ms, customer_id, value FROM impressions WHERE offset > ?1 ORDER BY offset LIMIT ?2",
            )?;
            // The tables first, to their end.
            self.tables_were_read |= taken == 0;
            let limit = if taken == 0 { BATCH } else { 0 };
            let mut rows = events.query(params![self.offset, limit])?;
            while let Some(row) = rows.next()? {
                let offset = row.get(0)?;
                let time_ms = row.get(1)?;
                let value = row.get_ref(2)?.as_bytes()?;
                let record = Record {
                    partition: 0,
                    offset,
                    time_ms,
                    key: None,
                    value: Some(value),
                    event: None,
                    traceparent: None,
                };
                if let Err(error) = take(Item::Event(record)) {
                    self.letters.push(Malformed {
                        offset,
                        value: value.to_vec(),
                        error,
                    });
                }
                (self.offset, self.last_ms) = (offset, time_ms);
                taken += 1;
            }
            let mut rows = impressions.query(params![self.impression, limit])?;
            while let Some(row) = rows.next()? {
                self.impression = row.get(0)?;
                let record = Record {
                    partition: 0,
                    offset: self.impression,
                    time_ms: row.get(1)?,
                    key: Some(row.get_ref(2)?.as_bytes()?),
                    value: row.get_ref(3)?.as_bytes_or_null()?,
                    event: None,
                    traceparent: None,
                };
                let _ = take(Item::Impression(record));
                taken += 1;
            }
        }
        while let Some(letter) = self.letters.last() {
            self.dead_letter(letter)?;
            self.letters.pop();
        }
        self.end = end(&self.connection)?;
        Ok(taken)
    }

    fn dead_letter(&self, letter: &Malformed) -> Result<(), rusqlite::Error> {
        let reason = letter.error.reason();
        self.connection
            .prepare_cached(
                "INSERT OR IGNORE INTO dead_letters (offset, time_ms, reason, message, value) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![letter.offset, now_ms(), reason, letter.error.to_string(), letter.value])
            .map(|written| self.metrics.dead_letters.inc_by(written as u64))?;
        tracing::warn!(
            reason,
            offset = letter.offset,
            "malformed record kept as a dead letter"
        );
        Ok(())
    }
}

/// Hands over the rows of a table by key that were changed after `seq`, which goes along; says how many.
fn changed(
    connection: &Connection,
    sql: &str,
    seq: &mut i64,
    limit: i64,
    take: &mut dyn FnMut(Record<'_>) -> Result<(), EventError>,
) -> Result<usize, rusqlite::Error> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![*seq, limit])?;
    let mut taken = 0;
    while let Some(row) = rows.next()? {
        *seq = row.get(0)?;
        let record = Record {
            partition: 0,
            offset: *seq,
            time_ms: 0,
            key: Some(row.get_ref(1)?.as_bytes()?),
            value: row.get_ref(2)?.as_bytes_or_null()?,
            event: None,
            traceparent: None,
        };
        // It was validated when it was written; a bad row is skipped and logged by the taker.
        let _ = take(record);
        taken += 1;
    }
    Ok(taken)
}

/// Names of the tables in snapshots.
/// See [`crate::privacy::Privacy::events`].
pub const EVENTS: &str = "events";
const PRODUCTS: &str = "products";
const IMPRESSIONS: &str = "impressions";
/// See [`crate::privacy::Privacy::erasures`].
pub const ERASURES: &str = "erasures";
/// Of profiles; positions do not name it: it has the last of each only.
pub const PROFILES: &str = "profiles";

fn position(from: &Positions, table: &str) -> Option<Position> {
    from.topics.get(table)?.get(&0).copied()
}

/// The first row that still stands, or where the next one will, and the end.
fn first_and_end(connection: &Connection) -> Result<(i64, i64), rusqlite::Error> {
    let end = end(connection)?;
    let first: Option<i64> = connection
        .prepare_cached("SELECT MIN(offset) FROM events")?
        .query_row([], |row| row.get(0))?;
    Ok((first.unwrap_or(end + 1), end))
}

/// The end of the log: also once its last rows were removed.
fn end(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection
        .prepare_cached("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'events'")?
        .query_row([], |row| row.get(0))
}

impl Source for EmbeddedSource {
    fn recognise(&mut self, from: &Positions) -> Result<(), ResumeError> {
        if from.log != self.log_id {
            return Err(ResumeError::Never("it was made from another database".into()));
        }
        let (Some(events), Some(_)) = (position(from, EVENTS), position(from, PRODUCTS)) else {
            return Err(ResumeError::Never("it does not tell how far it read".into()));
        };
        let (first, end) = first_and_end(&self.connection).map_err(|_| ResumeError::NotYet)?;
        within(EVENTS, 0, &events, (first, end + 1))
    }

    fn resume(&mut self, from: &Positions) {
        if let Some(events) = position(from, EVENTS) {
            (self.offset, self.last_ms) = (events.next - 1, events.last_ms);
        }
        if let Some(products) = position(from, PRODUCTS) {
            self.seq = products.next - 1;
        }
        if let Some(impressions) = position(from, IMPRESSIONS) {
            self.impression = impressions.next - 1;
        }
    }

    fn positions(&self) -> Positions {
        let at = |last: i64, last_ms| {
            let position = Position {
                next: last + 1,
                last,
                last_ms,
                last_bytes: -1,
            };
            [(0, position)].into()
        };
        Positions {
            log: self.log_id.clone(),
            topics: [
                (EVENTS.to_owned(), at(self.offset, self.last_ms)),
                (PRODUCTS.to_owned(), at(self.seq, 0)),
                (IMPRESSIONS.to_owned(), at(self.impression, 0)),
                (ERASURES.to_owned(), at(self.erasure_seq, 0)),
            ]
            .into(),
        }
    }

    fn oldest_resumable(&self) -> Option<Duration> {
        None // withdrawn products stay in their table
    }

    fn problem(&self) -> Option<String> {
        None
    }

    fn poll(&mut self, wait: Duration, take: &mut Take<'_>) -> Result<usize, SourceError> {
        let seen = self.committed.count();
        let mut result = self.read(take);
        if let Ok(0) = result {
            self.committed.wait(seen, wait);
            result = self.read(take);
        }
        self.answers = result.is_ok();
        if self.end <= self.offset {
            self.behind_since = None;
        } else {
            self.behind_since.get_or_insert_with(Instant::now);
        }
        Ok(result?)
    }

    fn has_tables(&self) -> bool {
        self.tables_were_read
    }

    fn lag(&self, now_ms: i64) -> Lag {
        let records = u64::try_from(self.end - self.offset).unwrap_or(0);
        let caught_up = self.tables_were_read && self.offset >= self.first_end;
        let since_behind = self
            .behind_since
            .map_or(0.0, |since| since.elapsed().as_secs_f64());
        let since_record = (now_ms - self.last_ms).max(0) as f64 / 1000.0;
        let seconds = match (records, caught_up, self.last_ms) {
            (0, ..) => 0.0,
            (_, false, 1..) => since_record,
            _ => since_record.min(since_behind),
        };
        Lag {
            records,
            seconds,
            caught_up,
        }
    }

    fn state(&self) -> DependencyState {
        if self.answers {
            DependencyState::Up
        } else {
            DependencyState::Down
        }
    }

    fn close(&mut self) {}
}

#[cfg(test)]
mod tests;
