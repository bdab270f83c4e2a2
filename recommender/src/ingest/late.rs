//! The model's readers' side, before it is known which engine it will be: an empty one, or one that comes out
//! of a snapshot.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use recommender_engine::Reader;

/// A reader of the engine that the ingest thread settles for; until then of an empty one. Cheap to clone.
#[derive(Clone)]
pub struct LateReader {
    empty: Reader,
    settled: Arc<OnceLock<Reader>>,
}

impl LateReader {
    /// For now, and for good if nothing else is settled, this engine.
    pub fn new(empty: Reader) -> Self {
        Self {
            empty,
            settled: Arc::default(),
        }
    }

    /// From now on this engine; only the first time counts.
    pub(super) fn settle(&self, reader: Reader) {
        let _ = self.settled.set(reader);
    }
}

impl Deref for LateReader {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        self.settled.get().unwrap_or(&self.empty)
    }
}
