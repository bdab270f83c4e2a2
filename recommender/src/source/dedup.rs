//! Deduplication by `event_id`: a shop that retries its POST, or a producer that resends, is counted once.
//!
//! An id is remembered for a day of *record* time or until a million others came, per partition. Record time
//! and not the clock, so that reading the log again from its start decides exactly as the first time. What is
//! remembered goes into snapshots, so that a replica that starts from one decides as those that did not.

use std::collections::VecDeque;
use std::hash::Hasher as _;
use std::io::{self, Read, Write};

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

/// Ids remembered per partition.
pub const MAX_IDS: usize = 1_000_000;
/// How long an id is remembered, in milliseconds of record time.
pub const WINDOW_MS: i64 = 24 * 60 * 60 * 1000;

/// The ids of one partition, about 20 bytes each.
///
/// Ids are kept as 64-bit hashes, whatever their length, in order of arrival; the table finds a hash by its
/// place in that order, which takes half the room of a second copy. The key is drawn when the first replica
/// starts, and travels with snapshots: nobody outside can make two ids collide.
pub struct Dedup {
    key: [u64; 2],
    /// Hashes, oldest first.
    order: VecDeque<u64>,
    /// How many of them arrived in which second, oldest first. Seconds never fall: what comes late counts as of
    /// the newest second, so that there are at most as many as the window has seconds.
    seconds: VecDeque<(i64, u32)>,
    /// Arrival number of the oldest, modulo 2^32.
    first: u32,
    /// Arrival numbers by hash.
    table: HashTable<u32>,
    max_ids: usize,
    window_s: i64,
}

impl Default for Dedup {
    fn default() -> Self {
        Self::new(rand::random(), MAX_IDS, WINDOW_MS)
    }
}

impl Dedup {
    /// Remembers at most `max_ids` ids (fewer than 2^31) for `window_ms` each.
    pub fn new(key: [u64; 2], max_ids: usize, window_ms: i64) -> Self {
        Self {
            key,
            order: VecDeque::new(),
            seconds: VecDeque::new(),
            first: 0,
            table: HashTable::new(),
            max_ids,
            window_s: window_ms / 1000,
        }
    }

    fn hash(&self, event_id: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        hasher.write(event_id.as_bytes());
        hasher.finish()
    }

    /// Whether this id is new at `record_ms`; it is remembered if so.
    pub fn is_new(&mut self, event_id: &str, record_ms: i64) -> bool {
        let newest = self.seconds.back().map_or(i64::MIN, |(second, _)| *second);
        let second = record_ms.div_euclid(1000).max(newest);
        while let Some(&(at, _)) = self.seconds.front() {
            let outdated = second.saturating_sub(at) > self.window_s;
            if !outdated && self.order.len() < self.max_ids {
                break;
            }
            self.forget_oldest();
        }
        let hash = self.hash(event_id);
        let (order, first) = (&self.order, self.first);
        let at = |number: u32| order[number.wrapping_sub(first) as usize];
        if self.table.find(hash, |number| at(*number) == hash).is_some() {
            return false;
        }
        let number = first.wrapping_add(order.len() as u32);
        self.table.insert_unique(hash, number, |number| at(*number));
        self.order.push_back(hash);
        match self.seconds.back_mut() {
            Some((at, n)) if *at == second => *n += 1,
            _ => self.seconds.push_back((second, 1)),
        }
        true
    }

    fn forget_oldest(&mut self) {
        let Some(hash) = self.order.pop_front() else {
            return;
        };
        let oldest = self.first;
        if let Ok(found) = self.table.find_entry(hash, |number| *number == oldest) {
            found.remove();
        }
        self.first = self.first.wrapping_add(1);
        if let Some((_, n)) = self.seconds.front_mut() {
            *n -= 1;
            if *n == 0 {
                self.seconds.pop_front();
            }
        }
    }

    /// Writes what is remembered.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for word in self.key {
            out.write_all(&word.to_le_bytes())?;
        }
        out.write_all(&(self.seconds.len() as u64).to_le_bytes())?;
        for (second, n) in &self.seconds {
            out.write_all(&second.to_le_bytes())?;
            out.write_all(&n.to_le_bytes())?;
        }
        out.write_all(&(self.order.len() as u64).to_le_bytes())?;
        for hash in &self.order {
            out.write_all(&hash.to_le_bytes())?;
        }
        Ok(())
    }

    /// Reads back what [`Dedup::write`] wrote.
    pub fn read(input: &mut dyn Read) -> io::Result<Self> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let key = [
            u64::from_le_bytes(eight(input)?),
            u64::from_le_bytes(eight(input)?),
        ];
        let mut dedup = Self::new(key, MAX_IDS, WINDOW_MS);
        let runs = u64::from_le_bytes(eight(input)?);
        let mut total = 0u64;
        for _ in 0..runs {
            let second = i64::from_le_bytes(eight(input)?);
            let mut n = [0; 4];
            input.read_exact(&mut n)?;
            let n = u32::from_le_bytes(n);
            let rises = dedup.seconds.back().is_none_or(|(before, _)| *before < second);
            total += u64::from(n);
            if n == 0 || !rises || total > MAX_IDS as u64 {
                return Err(wrong("seconds of remembered ids are out of order"));
            }
            dedup.seconds.push_back((second, n));
        }
        if u64::from_le_bytes(eight(input)?) != total {
            return Err(wrong("remembered ids and their seconds do not agree"));
        }
        dedup.order.reserve(total as usize);
        for number in 0..total as u32 {
            let hash = u64::from_le_bytes(eight(input)?);
            dedup.order.push_back(hash);
            let order = &dedup.order;
            dedup
                .table
                .insert_unique(hash, number, |number| order[*number as usize]);
        }
        Ok(dedup)
    }
}

fn eight(input: &mut dyn Read) -> io::Result<[u8; 8]> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn small(max_ids: usize, window_ms: i64) -> Dedup {
        Dedup::new([1, 2], max_ids, window_ms)
    }

    #[test]
    fn an_id_counts_once_within_a_day_and_again_after_it() {
        let mut dedup = Dedup::default();
        assert!(dedup.is_new("a", 0));
        assert!(!dedup.is_new("a", WINDOW_MS));
        assert!(dedup.is_new("a", WINDOW_MS + 1000));
        assert!(dedup.is_new("b", WINDOW_MS + 1000));
    }

    #[test]
    fn memory_is_bounded_by_the_number_of_ids() {
        let mut dedup = small(3, WINDOW_MS);
        for id in ["a", "b", "c", "d"] {
            assert!(dedup.is_new(id, 0));
        }
        assert!(dedup.order.len() <= 3 && dedup.table.len() <= 3);
        assert!(!dedup.is_new("d", 0));
        assert!(dedup.is_new("a", 0), "the oldest was forgotten");
    }

    #[test]
    fn a_million_ids_take_about_twenty_megabytes() {
        let mut dedup = small(MAX_IDS, WINDOW_MS);
        for i in 0..MAX_IDS {
            dedup.is_new(&i.to_string(), i as i64 * 80);
        }
        let bytes =
            dedup.order.capacity() * 8 + dedup.table.allocation_size() + dedup.seconds.capacity() * 16;
        assert!(bytes < 24 << 20, "{bytes}");
    }

    #[test]
    fn what_was_written_goes_on_deciding_alike() {
        let mut dedup = small(MAX_IDS, WINDOW_MS);
        for i in 0..1000i64 {
            dedup.is_new(&(i % 700).to_string(), i * 300);
        }
        let mut bytes = Vec::new();
        dedup.write(&mut bytes).unwrap();
        let mut back = Dedup::read(&mut &bytes[..]).unwrap();
        for i in 600..900i64 {
            let (id, at) = (i.to_string(), WINDOW_MS + i * 300);
            assert_eq!(dedup.is_new(&id, at), back.is_new(&id, at), "{i}");
        }
        for cut in [0, 20, bytes.len() - 1] {
            assert!(Dedup::read(&mut &bytes[..cut]).is_err());
        }
    }

    proptest! {
        /// Against the plainest thing that could decide it.
        #[test]
        fn it_decides_as_a_list_would(ids in prop::collection::vec((0u8..40, 0i64..3), 0..300)) {
            let mut dedup = small(16, 50_000);
            let mut list: Vec<(u8, i64)> = Vec::new();
            let mut now = 0;
            for (id, step) in ids {
                now += step;
                list.retain(|(_, at)| now - at <= 50);
                while list.len() >= 16 {
                    list.remove(0);
                }
                let new = list.iter().all(|(known, _)| *known != id);
                if new {
                    list.push((id, now));
                }
                prop_assert_eq!(dedup.is_new(&id.to_string(), now * 1000), new);
            }
        }
    }
}
