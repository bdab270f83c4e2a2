//! Finished visits as readers see them: what each holds, and which hold a product.
//!
//! Products of visits lie in chunks of atomics that are never moved. The writer may use the place of a visit
//! that is gone for another while a reader still knows it by an older list, so each carries a stamp, checked
//! before and after reading (a sequence lock): a reader then takes nothing from it instead of waiting.

use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering, fence};

use crate::returns::Returns;

/// Words in a chunk; a visit lies in one.
const CHUNK: usize = 4_096;
/// Products of a visit that are kept.
pub(crate) const LONGEST: usize = 100;

/// One visit in the list of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Posting {
    /// Where its products are.
    pub place: u32,
    /// Tells visits in one place, and of one second, apart: the same on every replica.
    pub stamp: u32,
    /// When it ended, seconds since 1970.
    pub seconds: u32,
    /// Position of the product's last occurrence.
    pub at: u16,
    /// Products in all.
    pub length: u16,
}

impl Posting {
    /// The order of lists: by time, the same on every replica.
    pub fn order(&self) -> (u32, u32) {
        (self.seconds, self.stamp)
    }
}

/// The products of finished visits.
#[derive(Default)]
pub(crate) struct VisitStore {
    chunks: boxcar::Vec<Box<[AtomicU32]>>,
    /// Visits that hold a product, by product.
    frequency: boxcar::Vec<AtomicU32>,
    /// How often they go back to a product.
    pub returns: Returns,
    /// Finished visits.
    pub count: AtomicU32,
    /// When the oldest and the newest of them ended.
    pub oldest_ms: AtomicI64,
    pub newest_ms: AtomicI64,
}

impl VisitStore {
    fn words(&self, place: u32, length: usize) -> Option<&[AtomicU32]> {
        let chunk = self.chunks.get(place as usize / CHUNK)?;
        let at = place as usize % CHUNK;
        chunk.get(at..at + 1 + length)
    }

    /// Looks where a visit is, for no other reason than to have it fetched.
    pub fn peek(&self, posting: &Posting) -> u32 {
        let words = self.words(posting.place, 0).and_then(<[AtomicU32]>::first);
        words.map_or(0, |stamp| stamp.load(Ordering::Relaxed))
    }

    /// Appends the products of a visit in these positions, oldest first; none if the visit is gone.
    pub fn read(&self, posting: &Posting, positions: Range<usize>, products: &mut Vec<u32>) {
        let Some((stamp, words)) = self
            .words(posting.place, posting.length.into())
            .and_then(<[AtomicU32]>::split_first)
        else {
            return;
        };
        if stamp.load(Ordering::Acquire) != posting.stamp {
            return;
        }
        let before = products.len();
        let words = words.get(positions).unwrap_or_default();
        products.extend(words.iter().map(|word| word.load(Ordering::Relaxed)));
        fence(Ordering::Acquire);
        if stamp.load(Ordering::Relaxed) != posting.stamp {
            products.truncate(before);
        }
    }

    /// How many visits hold a product.
    pub fn frequency(&self, product: u32) -> u32 {
        let frequency = self.frequency.get(product as usize);
        frequency.map_or(0, |frequency| frequency.load(Ordering::Relaxed))
    }

    fn count_product(&self, product: u32, by: i32) {
        while self.frequency.count() <= product as usize {
            self.frequency.push(AtomicU32::new(0));
        }
        let frequency = &self.frequency[product as usize];
        let now = frequency.load(Ordering::Relaxed).saturating_add_signed(by);
        frequency.store(now, Ordering::Relaxed);
    }
}

/// The writer's side of the store: which places are free.
#[derive(Default)]
pub(crate) struct Places {
    /// By number of products.
    free: Vec<Vec<u32>>,
    next: usize,
}

impl Places {
    /// Stores a visit, at most [`LONGEST`] products, and says where. `stamp` is not 0.
    pub fn store(&mut self, store: &VisitStore, stamp: u32, products: &[u32]) -> u32 {
        let length = products.len().min(LONGEST);
        if self.free.len() <= length {
            self.free.resize_with(length + 1, Vec::new);
        }
        let place = self.free[length]
            .pop()
            .unwrap_or_else(|| self.fresh(store, length));
        if let Some((first, words)) = store.words(place, length).and_then(<[AtomicU32]>::split_first) {
            first.store(0, Ordering::Relaxed);
            fence(Ordering::Release);
            for (word, product) in words.iter().zip(products) {
                word.store(*product, Ordering::Relaxed);
            }
            first.store(stamp, Ordering::Release);
        }
        each_once(products, |product, _| store.count_product(product, 1));
        store.returns.count(&products[..length], 1);
        place
    }

    fn fresh(&mut self, store: &VisitStore, length: usize) -> u32 {
        if self.next % CHUNK + length + 1 > CHUNK {
            self.next = self.next.next_multiple_of(CHUNK);
        }
        while store.chunks.count() <= self.next / CHUNK {
            store.chunks.push((0..CHUNK).map(|_| AtomicU32::new(0)).collect());
        }
        let place = self.next as u32;
        self.next += length + 1;
        place
    }

    /// Gives a place back and answers what was in it.
    pub fn release(&mut self, store: &VisitStore, place: u32, length: usize) -> Vec<u32> {
        let words = store.words(place, length).and_then(<[AtomicU32]>::split_first);
        let products = words.map_or_else(Vec::new, |(first, words)| {
            first.store(0, Ordering::Relaxed);
            words.iter().map(|word| word.load(Ordering::Relaxed)).collect()
        });
        each_once(&products, |product, _| store.count_product(product, -1));
        store.returns.count(&products, -1);
        self.free[length].push(place);
        products
    }

    /// The products in a place.
    pub fn products(&self, store: &VisitStore, place: u32, length: usize) -> Vec<u32> {
        let words = store.words(place, length).and_then(<[AtomicU32]>::split_first);
        words.map_or_else(Vec::new, |(_, words)| {
            words.iter().map(|word| word.load(Ordering::Relaxed)).collect()
        })
    }
}

/// Calls back for each product once, with the position of its last occurrence, newest first.
pub(crate) fn each_once(products: &[u32], mut call: impl FnMut(u32, usize)) {
    for (at, &product) in products.iter().enumerate().rev() {
        if !products[at + 1..].contains(&product) {
            call(product, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posting(place: u32, stamp: u32, length: u16) -> Posting {
        Posting {
            place,
            stamp,
            seconds: 0,
            at: 0,
            length,
        }
    }

    #[test]
    fn a_place_is_used_again_and_who_knows_the_old_visit_finds_nothing() {
        let (store, mut places) = (VisitStore::default(), Places::default());
        let first = places.store(&store, 7, &[1, 2, 1]);
        let read = |posting: Posting| {
            let mut products = Vec::new();
            store.read(&posting, 0..posting.length.into(), &mut products);
            products
        };
        assert_eq!(read(posting(first, 7, 3)), [1, 2, 1]);
        assert_eq!(
            (store.frequency(1), store.frequency(2), store.frequency(9)),
            (1, 1, 0)
        );
        assert_eq!(places.release(&store, first, 3), [1, 2, 1]);
        assert_eq!(read(posting(first, 7, 3)), [0u32; 0]);
        let second = places.store(&store, 8, &[4, 5, 6]);
        assert_eq!(second, first);
        assert_eq!(read(posting(first, 7, 3)), [0u32; 0]);
        assert_eq!(read(posting(first, 8, 3)), [4, 5, 6]);
        assert_eq!((store.frequency(1), store.frequency(4)), (0, 1));
    }

    #[test]
    fn places_do_not_overlap_however_many_there_are() {
        let (store, mut places) = (VisitStore::default(), Places::default());
        let visits: Vec<Vec<u32>> = (0..3_000).map(|n| vec![n; 1 + n as usize % LONGEST]).collect();
        let at: Vec<u32> = visits
            .iter()
            .map(|visit| places.store(&store, 1, visit))
            .collect();
        for (visit, place) in visits.iter().zip(at) {
            assert_eq!(places.products(&store, place, visit.len()), *visit);
        }
    }

    #[test]
    fn a_reader_beside_the_writer_never_sees_half_of_two_visits() {
        let store = VisitStore::default();
        let mut places = Places::default();
        let place = places.store(&store, 1, &[1; 50]);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut found = 0;
                for turn in 0..20_000u32 {
                    let mut products = Vec::new();
                    store.read(&posting(place, turn % 200 + 1, 50), 0..50, &mut products);
                    assert!(products.windows(2).all(|pair| pair[0] == pair[1]), "{products:?}");
                    found += products.len();
                }
                found
            });
            for turn in 0..20_000u32 {
                places.release(&store, place, 50);
                assert_eq!(places.store(&store, turn % 200 + 1, &[turn; 50]), place);
            }
            reader.join().unwrap();
        });
    }
}
