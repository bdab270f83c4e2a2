//! How many pipelines wait to be looked at. The runtime keeps its queue to itself, so they are counted where they enter
//! it and where they leave it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Pipelines (`namespace/name`) that something happened to and that have not been looked at since.
#[derive(Debug, Default)]
pub struct Queue(Mutex<HashSet<String>>);

impl Queue {
    /// Something happened to it.
    pub fn enters(&self, key: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    /// It is being looked at, or gone.
    pub fn leaves(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Those that wait.
    pub fn depth(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_to_which_much_happens_waits_once() {
        let queue = Queue::default();
        for key in ["a/shop", "a/shop", "b/shop"] {
            queue.enters(key.to_owned());
        }
        assert_eq!(queue.depth(), 2);
        queue.leaves("a/shop");
        assert_eq!(queue.depth(), 1);
    }
}
