//! The models of the recommender: numbers in, numbers out. No I/O, no async, no clock of its own.
//!
//! [`engine`] makes one [`Writer`] and a [`Reader`]. The writer lives on the ingest thread; readers are
//! cloned freely and never wait for it.
//!
//! ```
//! use recommender_engine::{engine, EngineConfig, EventKind, Interaction, ProductMeta, Query};
//!
//! let (mut writer, reader) = engine(EngineConfig::default())?;
//! writer.set_product("mug", Some(ProductMeta::titled("Red mug")));
//! let now = 1_700_000_000_000;
//! // Starting from a log: `writer.bulk(events, now)`. Live, event by event:
//! for (customer, product) in [("ann", "cup"), ("ann", "mug"), ("bob", "cup"), ("bob", "mug"), ("eve", "cup")] {
//!     writer.apply(&Interaction::new(customer, product, EventKind::Purchase, now), now);
//! }
//! writer.publish(now, 1_000); // after each batch; again while `pending` is above 0
//! let answer = reader.recommend(&Query { customer: Some("eve"), limit: 5, now_ms: now, ..Query::default() });
//! assert_eq!(&*answer.items[0].product, "mug");
//! # Ok::<(), recommender_engine::ConfigError>(())
//! ```
//!
//! # What is learned
//!
//! Everything is a function of the customers' histories and the catalogue. A history holds, per product,
//! the summed weights of the events, turned into a small integer *interest*; counts between products are
//! sums of products of interests. Integers add up to the same whatever the order, so while no cap binds, an
//! engine fed event by event equals one that was fed in bulk, and erasing a customer equals never having
//! seen them.
//!
//! Fitted models (`Ease`, `ImplicitAls`) are made from [`Reader::training_data`] on any thread, as an
//! [`Artifact`] that can be written, read back, and swapped in with [`Writer::install`]. Until then `Hybrid`
//! answers for them, with the members that learn online. Visits answer for others once they have ended, by the
//! time of events: what ended follows from each customer's events in their order, and from the newest time
//! seen, whatever the order between customers.
//!
//! A restart need not read the log again: see [`snapshot`].
//!
//! # Memory
//!
//! About, in bytes, with `p` products, `c` customers, `h` products per history (at most `learn_history`),
//! `r` counts per product (at most `row_capacity`) and `k` neighbours (at most `neighbors`):
//!
//! - per product: `750 + 4..64 × r + 16 × k`, twice as much for `r` where one of a product's counts needs 64 bits;
//!   `k` is the room of its lists (12 for up to 12 neighbours, 52 for up to 40, 180 for up to 128, 692 for up to 512);
//!   plus the catalogue's text (twice the title) and embedding;
//! - per customer: `250 + 24 × h`, plus twice the id's length;
//! - per visit that is held: `170 + 20 × its products`, at most `max_sessions` finished ones, as many of one
//!   product, and those going on;
//! - per fitted model: `8 × keep × p` for `Ease`, `4 × factors × p` for `ImplicitAls`;
//! - deduplication: up to `32 × dedup_ids`; per thread that asks: `16 × p`.

mod answer;
mod assemble;
mod auto;
mod blend;
mod bulk;
mod by_owner;
mod catalogue;
mod config;
mod counts;
mod customers;
mod dense;
pub mod drift;
pub mod eval;
mod event;
mod fitted;
mod history;
mod hybrid;
mod knowledge;
mod leave;
mod lists;
mod marks;
pub mod matrix;
pub mod models;
mod name_table;
pub mod oddities;
mod passing;
mod popularity;
mod prequential;
mod publish;
mod quality;
mod query;
mod reader;
mod recall;
mod recount;
mod refit;
mod rerank;
mod returns;
mod revision;
mod rows;
mod scratch;
mod seen;
mod sessions;
mod shared;
mod shown;
mod similar;
mod similarity;
pub mod snapshot;
mod trace;
mod visits;
mod writer;

pub use blend::Blend;
pub use bulk::Gathered;
pub use by_owner::ByOwner;
pub use config::{
    Algorithm, ConfigError, EngineConfig, EventWeights, Limits, PurchasedPolicy, Repeats, Rules, Tuning,
};
pub use customers::KnownCustomer;
pub use event::{Applied, EventKind, HistoryItem, Interaction, ProductMeta};
pub use fitted::{Artifact, ArtifactError, TrainingData};
pub use history::Rate;
pub use knowledge::{Attributes, Effect, KnowledgeRule};
pub use models::{
    onnx::{OnnxArtifact, OnnxError, OnnxModel},
    session_knn::SessionParams,
};
pub use prequential::HitRate;
pub use publish::Published;
pub use query::{Fallback, Query, Reason, Recommendations, Scored, Stats};
pub use reader::Reader;
pub use recall::PastEvent;
pub use revision::{CatalogueRevision, Revision};
pub use similarity::{Bm25, Similarity};
pub use writer::{BulkReport, Writer, engine, owner};
