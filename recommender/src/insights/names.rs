//! Products by number: records hold four bytes instead of a text.

use std::collections::HashMap;
use std::sync::Arc;

/// Names in a row; only the last row ever changes.
pub(super) type Chunk = Vec<Arc<str>>;
/// Names of a full row.
const CHUNK: usize = 1_024;
/// Products that can be told apart; events of further ones are left out.
const MAX_NAMES: usize = 2_000_000;

#[derive(Default)]
pub(super) struct Names {
    numbers: HashMap<Arc<str>, u32, ahash::RandomState>,
    chunks: Vec<Arc<Chunk>>,
}

impl Names {
    pub fn of(chunks: Vec<Arc<Chunk>>) -> Self {
        let names = chunks.iter().flat_map(|chunk| chunk.iter());
        Self {
            numbers: names
                .zip(0..)
                .map(|(name, number)| (Arc::clone(name), number))
                .collect(),
            chunks,
        }
    }

    /// The number of a name, a new one where it has none.
    pub fn number(&mut self, name: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(name) {
            return Some(*number);
        }
        let number = self.numbers.len();
        if number >= MAX_NAMES {
            return None;
        }
        if number.is_multiple_of(CHUNK) {
            self.chunks.push(Arc::default());
        }
        let name: Arc<str> = name.into();
        let last = self.chunks.last_mut()?;
        Arc::make_mut(last).push(Arc::clone(&name));
        let number = u32::try_from(number).ok()?;
        self.numbers.insert(name, number);
        Some(number)
    }

    pub fn freeze(&self) -> Vec<Arc<Chunk>> {
        self.chunks.clone()
    }
}

/// The name that has this number.
pub(super) fn name(chunks: &[Arc<Chunk>], number: u32) -> &Arc<str> {
    let number = number as usize;
    &chunks[number / CHUNK][number % CHUNK]
}

/// Rows of these names, in this order.
pub(super) fn chunks(names: Vec<Arc<str>>) -> Vec<Arc<Chunk>> {
    names.chunks(CHUNK).map(|row| Arc::new(row.to_vec())).collect()
}
