//! Lists of neighbours that readers walk while the writer changes them.
//!
//! A list lies in atomic words that are never moved, one a neighbour. Whoever reads while it is rewritten finds some of
//! the old and some of the new neighbours, each whole, and counts one twice at worst: nothing that the next event would
//! not change as well. In return, reading is plain loads, several lists side by side. A pointer that is swapped as a
//! whole has to be announced by every reader: a locked instruction for each of a hundred lists of an answer, which
//! also keeps the processor from fetching the next while it waits for the first.

use std::sync::{
    OnceLock,
    atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use crate::shared::Neighbor;

/// Most products have few neighbours; a list that grows keeps the rooms that it had, for somebody may still read there.
const SMALL: usize = 12;
const MIDDLE: usize = 40;
const LARGE: usize = 128;
/// Rooms that only evaluation needs, and who asks for as many neighbours.
const LARGER: [usize; 3] = [512, 2_048, 10_000];

/// One neighbour that may be changed while it is read.
#[derive(Debug, Default)]
pub(crate) struct Word(AtomicU64);

impl Word {
    pub fn new(neighbor: Neighbor) -> Self {
        Word(AtomicU64::new(packed(neighbor)))
    }

    #[inline(always)]
    pub fn get(&self) -> Neighbor {
        let word = self.0.load(Relaxed);
        Neighbor {
            product: word as u32,
            similarity: f32::from_bits((word >> 32) as u32),
        }
    }
}

fn packed(neighbor: Neighbor) -> u64 {
    u64::from(neighbor.similarity.to_bits()) << 32 | u64::from(neighbor.product)
}

type Room<const SIZE: usize> = OnceLock<Box<[Word; SIZE]>>;
type Larger = OnceLock<Box<[Word]>>;

/// A product's neighbours, nearest first. Has room for up to 10,000; what does not fit is left out.
#[derive(Debug, Default)]
pub(crate) struct List {
    length: AtomicU32,
    small: Room<SMALL>,
    middle: Room<MIDDLE>,
    large: Room<LARGE>,
    larger: OnceLock<Box<[Larger; LARGER.len()]>>,
}

fn room<const SIZE: usize>() -> Box<[Word; SIZE]> {
    Box::new(std::array::from_fn(|_| Word::default()))
}

impl List {
    pub fn is_empty(&self) -> bool {
        self.length.load(Relaxed) == 0
    }

    /// The neighbours as they are now, or are just becoming.
    #[inline]
    pub fn read(&self) -> &[Word] {
        let length = self.length.load(Acquire) as usize;
        let room = match length {
            0 => return &[],
            _ if length <= SMALL => self.small.get().map(|room| &room[..]),
            _ if length <= MIDDLE => self.middle.get().map(|room| &room[..]),
            _ if length <= LARGE => self.large.get().map(|room| &room[..]),
            _ => self.further(length),
        };
        // The room was made before the length was written.
        room.and_then(|room| room.get(..length)).unwrap_or_default()
    }

    #[cold]
    fn further(&self, length: usize) -> Option<&[Word]> {
        let at = LARGER.iter().position(|size| length <= *size)?;
        Some(self.larger.get()?[at].get()?)
    }

    /// Takes the place of what was there. For the writer alone.
    pub fn write(&self, list: &[Neighbor]) {
        let list = &list[..list.len().min(LARGER[LARGER.len() - 1])];
        let words = match list.len() {
            0 => &[],
            length if length <= SMALL => &self.small.get_or_init(room)[..],
            length if length <= MIDDLE => &self.middle.get_or_init(room)[..],
            length if length <= LARGE => &self.large.get_or_init(room)[..],
            length => {
                let at = LARGER.iter().position(|size| length <= *size).unwrap_or_default();
                let rooms = self.larger.get_or_init(Box::default);
                &rooms[at].get_or_init(|| (0..LARGER[at]).map(|_| Word::default()).collect())[..]
            }
        };
        for (word, neighbor) in words.iter().zip(list) {
            word.0.store(packed(*neighbor), Relaxed);
        }
        self.length.store(list.len() as u32, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(length: usize, similarity: f32) -> Vec<Neighbor> {
        let one = |product| Neighbor { product, similarity };
        (0..length as u32).map(one).collect()
    }

    #[test]
    fn a_list_of_any_length_is_read_as_it_was_written() {
        let lists = List::default();
        for length in [0, 1, 12, 13, 40, 41, 128, 129, 512, 513, 10_000, 3, 200, 0, 100] {
            let written = list(length, length as f32);
            lists.write(&written);
            let read: Vec<Neighbor> = lists.read().iter().map(Word::get).collect();
            assert_eq!(read, written);
            assert_eq!(lists.is_empty(), length == 0);
        }
        lists.write(&list(10_001, 1.0));
        assert_eq!(lists.read().len(), 10_000);
    }

    #[test]
    fn a_reader_beside_the_writer_sees_whole_neighbours() {
        let lists = List::default();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut read = 0;
                while read < 100_000 {
                    for word in lists.read() {
                        let Neighbor { product, similarity } = word.get();
                        assert_eq!(product as f32, -similarity);
                        read += 1;
                    }
                }
            });
            let mut turn = 0u32;
            while !reader.is_finished() {
                turn = (turn + 1) % 1_000;
                let one = |at: u32| Neighbor {
                    product: turn + at,
                    similarity: -((turn + at) as f32),
                };
                let written: Vec<Neighbor> = (0..10 + turn % 200).map(one).collect();
                lists.write(&written);
            }
            reader.join().unwrap();
        });
    }
}
