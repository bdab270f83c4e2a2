//! The whole model as bytes, so that a restart reads it back and then only the tail of the log.
//!
//! [`Writer::freeze`] takes a consistent picture without copying histories (they are immutable and shared),
//! which is all that the writer waits for; [`Snapshot::write`] turns it into bytes on any thread.
//! [`read`] makes an engine that goes on exactly where the other stood: fed the rest of the log, it equals one
//! that was fed all of it. (Where `limits.row_capacity` binds, but for which weak counts were cut: a snapshot is one more
//! moment at which a customer's pairs are counted.)
//!
//! Fitted models are not in it: they have artefacts of their own ([`crate::Artifact`]).
//!
//! # What is written
//!
//! Sections (see `frame.rs` for the outside), each of which may come in several pieces:
//!
//! | name | what | when missing |
//! |---|---|---|
//! | `CONF` | the settings that what was learned depends on | nothing is refused |
//! | `FIGS` | counters, by name | 0 |
//! | `PROD` | products with what the catalogue says, in the order of their numbers | none |
//! | `HIST` | customers with their histories, longest known activity first | none |
//! | `PAIR` | counts between products; only if they do not follow from the histories, because a cap has cut some or `HIST` is empty | counted anew |
//! | `SUMS` | other counts, where histories are kept elsewhere: `HIST` is empty then | counted anew |
//! | `VISI` | visits, open and finished | none |
//! | `SEEN` | hashes of event ids | none |
//! | `PROF` | attributes of customers | none |
//! | `WTCH` | hashes of customers who were too fast | none |
//! | `RATE` | hit rates of the models | none |
//!
//! A later version adds sections or a new name for one that changes; what a program does not know it skips.
//!
//! # What may have changed between writing and reading
//!
//! Refused, because the counts would be others: `repeats`, `damping`, `trendHalfLife`, `maxEventsPerMinute`,
//! `excludeAfterDamped`, `nonProducts`, `nonProductLabels`, `limits.learnHistory`, `limits.pairHistory`, `limits.rowCapacity`, where
//! histories are kept; `limits.maxProducts` if there are more products. Everything else is fine: `neighbors`, `shrinkage`, `walkAlpha`, `walkBeta`,
//! `halfLife`, `session`, `blend`, `knowledge` and `tuning` (event weights count from now on, as in
//! [`Writer::tune`]) take effect at once; smaller `limits.maxCustomers`, `limits.maxSessions`,
//! `limits.postings` and `limits.dedupIds` let the oldest go.

mod apart;
mod codec;
mod frame;
mod parts;
mod restore;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use serde_json::{Value, json};

use crate::{
    config::{ConfigError, EngineConfig},
    counts::Sums,
    history::History,
    knowledge::Attributes,
    prequential::Tally,
    quality::Watched,
    reader::Reader,
    rows::Row,
    sessions::Visit,
    shared::{CustomerSlot, StoredMeta},
    writer::Writer,
};

use frame::Name;

/// Why a snapshot cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The receiver of the bytes failed.
    #[error("the snapshot cannot be written: {0}")]
    Write(#[source] std::io::Error),
    /// The source of the bytes failed.
    #[error("the snapshot cannot be read: {0}")]
    Read(#[source] std::io::Error),
    /// These are other bytes.
    #[error("not a snapshot of this engine")]
    Format,
    /// Written by a program that is too old or too new.
    #[error("the snapshot has layout {found}, this program reads up to {supported}")]
    Version {
        /// The layout of the snapshot.
        found: u32,
        /// The newest layout that this program knows.
        supported: u32,
    },
    /// The bytes end before the last section.
    #[error("the snapshot is incomplete")]
    Truncated,
    /// Bytes were changed on the way.
    #[error("the snapshot is damaged: the checksum of its section {section} differs")]
    Checksum {
        /// The name of the section.
        section: String,
    },
    /// The checksum is right but the contents are not.
    #[error("the snapshot's section {section} cannot be understood")]
    Damaged {
        /// The name of the section.
        section: String,
    },
    /// It was written under a setting without which its counts mean something else.
    #[error(
        "{field} was {was} when the snapshot was written and is {is} now; start from the log, or set it back"
    )]
    ConfigChanged {
        /// The setting, spelled as in the resource.
        field: String,
        /// Its value in the snapshot.
        was: String,
        /// Its value now.
        is: String,
    },
    /// The configuration that was handed in is invalid by itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl SnapshotError {
    fn damaged(name: Name) -> Self {
        SnapshotError::Damaged {
            section: printable(name),
        }
    }
}

fn printable(name: Name) -> String {
    String::from_utf8_lossy(&name).trim_end().into()
}

/// The settings that what was learned depends on, by the name that an error shows.
fn pinned(config: &EngineConfig) -> BTreeMap<String, Value> {
    let mut non_products = config.non_products.clone();
    non_products.sort();
    let limits = &config.limits;
    [
        ("repeats", json!(config.repeats)),
        ("damping", json!(config.damping)),
        ("trendHalfLife", json!(config.trend_half_life_ms)),
        ("maxEventsPerMinute", json!(config.max_events_per_minute)),
        ("excludeAfterDamped", json!(config.exclude_after_damped)),
        ("nonProducts", json!(non_products)),
        ("nonProductLabels", json!(config.non_product_labels)),
        ("limits.learnHistory", json!(limits.learn_history)),
        ("limits.pairHistory", json!(limits.pair_history)),
        ("limits.rowCapacity", json!(limits.row_capacity)),
        ("histories", json!(histories(config))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Where histories are kept, as the resource spells it.
fn histories(config: &EngineConfig) -> &'static str {
    if config.recalls { "Redis" } else { "Memory" }
}

struct FrozenProduct {
    name: Arc<str>,
    available: bool,
    meta: Option<Arc<StoredMeta>>,
}

struct FrozenCustomer {
    /// Activity known when the customer last stood in line for being forgotten.
    known_ms: i64,
    slot: Arc<CustomerSlot>,
    history: Arc<History>,
}

/// A picture of everything that was learned, taken by [`Writer::freeze`]. Later events do not change it.
pub struct Snapshot {
    pinned: BTreeMap<String, Value>,
    figures: BTreeMap<String, i64>,
    products: Vec<FrozenProduct>,
    customers: Vec<FrozenCustomer>,
    pairs: Option<Vec<Row>>,
    sums: Option<Sums>,
    visits: Vec<Visit>,
    seen: Vec<u64>,
    profiles: Vec<(Arc<str>, Arc<Attributes>)>,
    watched: Vec<Watched>,
    rates: Vec<Tally>,
}

impl Snapshot {
    /// Customers in the picture.
    pub fn customers(&self) -> usize {
        self.customers.len()
    }

    /// Writes the picture. Call it on a thread that may take its time: some 0.3 seconds a million customers,
    /// about five bytes a product of each history.
    pub fn write(&self, out: &mut impl Write) -> Result<(), SnapshotError> {
        parts::write(self, out)
    }
}

impl Writer {
    /// Takes a picture of everything that was learned. The writer is held up for about 0.1 seconds a million
    /// customers, and when counts between products were cut by `limits.rowCapacity`, for the time that copying
    /// them takes.
    pub fn freeze(&mut self) -> Snapshot {
        self.count_now();
        let shared = &self.shared;
        let products = (0..self.names.len() as u32).map(|id| {
            let slot = shared.product(id);
            FrozenProduct {
                name: Arc::clone(&slot.name),
                available: slot.available.load(Relaxed),
                meta: slot.meta.load_full(),
            }
        });
        // Those who are kept elsewhere come back from there.
        let standing = (!self.config.recalls).then(|| self.standing());
        let customers = standing
            .into_iter()
            .flatten()
            .map(|(known_ms, slot)| FrozenCustomer {
                known_ms,
                history: slot.history.load_full(),
                slot,
            });
        let profiles = shared.profiles.pin();
        Snapshot {
            pinned: pinned(&self.config),
            figures: self.figures(),
            products: products.collect(),
            customers: customers.collect(),
            pairs: (self.counts.cut || self.config.recalls).then(|| self.counts.rows.clone()),
            sums: self.config.recalls.then(|| self.counts.sums()),
            visits: self.sessions.export(shared),
            seen: self.seen.iter().collect(),
            profiles: profiles
                .iter()
                .map(|(name, attributes)| (Arc::clone(name), Arc::clone(attributes)))
                .collect(),
            watched: self.watch.export(),
            rates: self.prequential.tallies.clone(),
        }
    }

    /// [`Writer::freeze`] and [`Snapshot::write`] in one, for when nobody waits.
    pub fn write_snapshot(&mut self, out: &mut impl Write) -> Result<(), SnapshotError> {
        self.freeze().write(out)
    }

    fn figures(&self) -> BTreeMap<String, i64> {
        let mut figures: BTreeMap<String, i64> = self
            .shared
            .counters
            .by_name()
            .map(|(name, counter)| (name.to_owned(), counter.load(Relaxed) as i64))
            .into();
        figures.insert(
            "newestEventMs".into(),
            self.shared.counters.newest_event_ms.load(Relaxed),
        );
        figures.insert("newestVisitMs".into(), self.sessions.newest_ms());
        figures.insert("newestBucket".into(), self.counts.newest_bucket);
        figures.insert("auto".into(), self.shared.auto.load(Relaxed).into());
        figures
    }
}

/// Makes an engine from a snapshot; readers see everything as if just flushed. Costs about as much as learning
/// the histories in bulk: a second for two million distinct products of customers.
pub fn read(config: EngineConfig, input: &mut impl Read) -> Result<(Writer, Reader), SnapshotError> {
    restore::read(config, input)
}
