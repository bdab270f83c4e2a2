//! Names by number and numbers by name. The names lie side by side, and not each in a place of its own: they are looked up
//! for every event, in an order that memory does not favour.

use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashTable;

/// Names in the order in which they were met.
#[derive(Default)]
pub(crate) struct NameTable {
    text: String,
    places: HashTable<Place>,
    hasher: RandomState,
}

/// Where a name lies, and its number.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    length: u32,
    number: u32,
}

impl Place {
    fn of(self, text: &str) -> &[u8] {
        &text.as_bytes()[self.start..self.start + self.length as usize]
    }
}

impl NameTable {
    /// The number of a name.
    pub fn get(&self, name: &str) -> Option<u32> {
        let is_it = |place: &Place| place.of(&self.text) == name.as_bytes();
        let found = self.places.find(self.hasher.hash_one(name.as_bytes()), is_it);
        found.map(|place| place.number)
    }

    /// Takes up a name that is not there yet; it gets the next number.
    pub fn push(&mut self, name: &str) -> u32 {
        debug_assert!(self.get(name).is_none(), "{name} has a number");
        let place = Place {
            start: self.text.len(),
            length: name.len() as u32,
            number: self.places.len() as u32,
        };
        self.text.push_str(name);
        let (text, hasher) = (&self.text, &self.hasher);
        let hash = |place: &Place| hasher.hash_one(place.of(text));
        self.places.insert_unique(hash(&place), place, hash);
        place.number
    }

    /// All of them, by number.
    pub fn into_names(self) -> Vec<Arc<str>> {
        let mut places: Vec<Place> = self.places.into_iter().collect();
        places.sort_unstable_by_key(|place| place.number);
        let text = |place: Place| self.text[place.start..place.start + place.length as usize].into();
        places.into_iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_the_number_that_they_were_given() {
        let mut table = NameTable::default();
        let names: Vec<String> = (0..1_000).map(|n| format!("{}-{n}", "é".repeat(n % 5))).collect();
        for (number, name) in names.iter().enumerate() {
            assert_eq!(table.get(name), None);
            assert_eq!(table.push(name), number as u32);
        }
        assert_eq!(table.push(""), 1_000);
        for (number, name) in names.iter().enumerate() {
            assert_eq!(table.get(name), Some(number as u32));
        }
        assert_eq!((table.get(""), table.get("é")), (Some(1_000), None));
        let read = table.into_names();
        assert_eq!(read.len(), 1_001);
        assert!(read.iter().zip(&names).all(|(read, name)| **read == **name));
    }
}
