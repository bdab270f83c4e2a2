//! Where events and the catalogue come from: one trait, two implementations. A source is read by one thread
//! (the ingest thread) and never waits for a server there: what blocks happens on threads of its own.

mod ahead;
mod ask;
pub mod dedup;
pub mod embedded;
pub mod kafka;
pub mod positions;
mod topic;

use std::time::Duration;

use recommendation_api::EventError;
use recommendation_api::event::EventRef;
use recommendation_api::report::DependencyState;

use self::positions::{Positions, ResumeError};

/// One record of the log, borrowed from the source's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Partition; the embedded log has one, 0.
    pub partition: i32,
    /// Position in its partition; grows, with gaps.
    pub offset: i64,
    /// When it was appended, milliseconds since 1970.
    pub time_ms: i64,
    /// Key, if any; for products and profiles their id, for erasures their customer's HMAC.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// What it says, where it was parsed already; `value` is then absent.
    pub event: Option<&'a Result<EventRef<'a>, EventError>>,
    /// The trace that it belongs to, where traces are sent.
    pub traceparent: Option<&'a str>,
}

/// What a source hands over.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// A record of the events topic.
    Event(Record<'a>),
    /// A record of the catalogue.
    Product(Record<'a>),
    /// A customer's profile.
    Profile(Record<'a>),
    /// What was shown to a customer. Not waited for at the start: only figures rest on it.
    Impression(Record<'a>),
    /// A customer to be forgotten.
    Erasure(Record<'a>),
    /// The salt of a customer's pseudonym.
    Salt(Record<'a>),
}

/// Takes what a source hands over. An error says that the record is malformed: the source then sees to it
/// that it is kept as a dead letter, and goes on.
pub type Take<'t> = dyn FnMut(Item<'_>) -> Result<(), EventError> + 't;

/// How far a source is behind its log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    /// Records not yet handed over, over all partitions.
    pub records: u64,
    /// Upper bound of the age of the oldest of them, seconds; 0 without lag.
    pub seconds: f64,
    /// Whether everything that stood in the log at the start has been handed over.
    pub caught_up: bool,
}

/// Why a source could not be read this time; it may be polled again.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Kafka's client reports an error.
    #[error("reading Kafka: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// The embedded log cannot be read.
    #[error("reading the embedded log: {0}")]
    Embedded(#[from] rusqlite::Error),
    /// A thread that belongs to the source has ended.
    #[error("thread {0} has ended")]
    Thread(&'static str),
}

/// A log that is read from its start, or from where a snapshot ends, and then followed.
pub trait Source: Send {
    /// Whether these are positions in this log, from which it can be read on. To be asked again while the log
    /// does not answer.
    fn recognise(&mut self, from: &Positions) -> Result<(), ResumeError>;

    /// Makes the first poll go on from positions that were recognised.
    fn resume(&mut self, from: &Positions);

    /// Where reading stands: everything before it was handed over.
    fn positions(&self) -> Positions;

    /// How old a snapshot may be to go on from; `None`: as old as it is.
    fn oldest_resumable(&self) -> Option<Duration>;

    /// What is wrong with the log, for people.
    fn problem(&self) -> Option<String>;

    /// Hands over what has arrived, in order within each partition, waiting at most `wait` for the first.
    /// Returns how many records were handed over.
    fn poll(&mut self, wait: Duration, take: &mut Take<'_>) -> Result<usize, SourceError>;

    /// Whether all tables (catalogue, profiles, erasures) were read as they stood; events come after them.
    fn has_tables(&self) -> bool;

    /// How far behind it is, at `now_ms`.
    fn lag(&self, now_ms: i64) -> Lag;

    /// Whether the log answers.
    fn state(&self) -> DependencyState;

    /// Ends and joins the threads that belong to it.
    fn close(&mut self);
}
