//! Names found by their [`owner`](crate::owner): the hash that is all that an erasure tells of whom it is about.
//!
//! A map by name cannot answer that without looking at every name, and a million of them hold learning up for a tenth
//! of a second. Several names may have one hash, by chance or because somebody made them so: all are found, and it is
//! for the asker to tell which is meant.

use std::sync::Arc;

use hashbrown::HashTable;

use crate::writer::owner;

/// A set of names, each once; 17 bytes a name beside the name itself, and room to grow.
#[derive(Clone, Debug, Default)]
pub struct ByOwner {
    names: HashTable<Arc<str>>,
}

impl ByOwner {
    /// Takes up a name.
    pub fn insert(&mut self, name: &Arc<str>) {
        let hash = owner(name);
        if self.names.find(hash, |known| known == name).is_none() {
            self.names
                .insert_unique(hash, Arc::clone(name), |known| owner(known));
        }
    }

    /// Forgets a name.
    pub fn remove(&mut self, name: &str) {
        if let Ok(found) = self.names.find_entry(owner(name), |known| **known == *name) {
            found.remove();
        }
    }

    /// The names with this hash.
    pub fn of(&self, wanted: u64) -> impl Iterator<Item = &Arc<str>> {
        self.names
            .iter_hash(wanted)
            .filter(move |name| owner(name) == wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_its_hash_until_it_is_removed() {
        let mut names = ByOwner::default();
        let name = |n: u32| -> Arc<str> { format!("customer-{n}").into() };
        for n in (0..5_000).chain(0..10) {
            names.insert(&name(n));
        }
        let found =
            |names: &ByOwner, n: u32| -> Vec<Arc<str>> { names.of(owner(&name(n))).cloned().collect() };
        assert!((0..5_000).all(|n| found(&names, n) == [name(n)]));
        assert!(found(&names, 5_000).is_empty());
        (0..5_000).step_by(2).for_each(|n| names.remove(&name(n)));
        names.remove("nobody");
        assert!(found(&names, 4).is_empty() && found(&names, 5) == [name(5)]);
    }
}
