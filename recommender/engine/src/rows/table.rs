//! Open addressing from ids to counts of either width.

use super::EMPTY;

/// A width of counts.
pub(super) trait Value: Copy + Default + PartialEq + TryFrom<i64> + Into<i64> {}
impl Value for i32 {}
impl Value for i64 {}

/// Packed, or a wide count would leave a quarter of it empty.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
pub(super) struct Slot<V: Value> {
    key: u32,
    value: V,
}

/// What became of an addition.
pub(super) enum Added {
    /// The change in the number of counts: 1, 0 or -1.
    Done(i64),
    /// There is no room for another count.
    Full,
    /// The sum does not fit into this width.
    TooLarge,
}

/// Slots, as many as a power of two, at most three quarters of them taken.
#[derive(Clone, Debug)]
pub(super) struct Slots<V: Value>(Box<[Slot<V>]>);

/// Slots for so many counts.
pub(super) fn slots(counts: usize) -> usize {
    (counts * 4 / 3 + 1).next_power_of_two().max(4)
}

impl<V: Value> Slots<V> {
    fn free() -> Slot<V> {
        Slot {
            key: EMPTY,
            value: V::default(),
        }
    }

    /// With room for so many counts; none at all for 0.
    pub fn with_room(counts: usize) -> Self {
        let slots = if counts == 0 { 0 } else { slots(counts) };
        Slots(vec![Self::free(); slots].into_boxed_slice())
    }

    pub fn each(&self, mut take: impl FnMut(u32, i64)) {
        for slot in self.0.iter().filter(|slot| slot.key != EMPTY) {
            let value = slot.value;
            take(slot.key, value.into());
        }
    }

    /// Looks where a count would be.
    pub fn peek(&self, key: u32) -> u32 {
        let at = home(key, self.0.len().wrapping_sub(1));
        self.0.get(at).map_or(0, |slot| slot.key)
    }

    /// Adds to a count of `len`.
    #[inline]
    pub fn add(&mut self, key: u32, delta: i64, len: usize) -> Added {
        if delta == 0 {
            return Added::Done(0);
        }
        if self.0.is_empty() {
            return Added::Full;
        }
        let mask = self.0.len() - 1;
        let mut at = home(key, mask);
        loop {
            let slot = self.0[at];
            if slot.key == key {
                let value = slot.value;
                let sum: i64 = value.into() + delta;
                let Ok(value) = V::try_from(sum) else {
                    return Added::TooLarge;
                };
                if sum == 0 {
                    self.remove(at);
                    return Added::Done(-1);
                }
                self.0[at].value = value;
                return Added::Done(0);
            }
            if slot.key == EMPTY {
                break;
            }
            at = (at + 1) & mask;
        }
        if (len + 1) * 4 > self.0.len() * 3 {
            return Added::Full;
        }
        let Ok(value) = V::try_from(delta) else {
            return Added::TooLarge;
        };
        self.0[at] = Slot { key, value };
        Added::Done(1)
    }

    /// Writes a count that is not there yet; there is room.
    pub fn place(&mut self, key: u32, value: V) {
        let mask = self.0.len() - 1;
        let mut at = home(key, mask);
        while self.0[at].key != EMPTY {
            at = (at + 1) & mask;
        }
        self.0[at] = Slot { key, value };
    }

    /// Empties a slot and moves later ones of its run up, so that probing never meets a hole.
    fn remove(&mut self, mut hole: usize) {
        let mask = self.0.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let slot = self.0[at];
            if slot.key == EMPTY {
                break;
            }
            // May this one move back to the hole? Only if its home is not between hole and itself.
            let distance = at.wrapping_sub(home(slot.key, mask)) & mask;
            if distance >= (at.wrapping_sub(hole) & mask) {
                self.0[hole] = slot;
                hole = at;
            }
        }
        self.0[hole] = Self::free();
    }
}

fn home(key: u32, mask: usize) -> usize {
    (u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & mask
}
