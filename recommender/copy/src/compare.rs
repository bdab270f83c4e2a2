//! Comparing 16 bytes at a time, which every x86-64 processor can.

use core::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8};

/// Below 0, 0 or above, as the first of `n` bytes that differs is smaller in `a`, there is none, or it is larger.
///
/// # Safety
/// Both must be valid for `n` bytes.
#[inline(always)]
unsafe fn compare(a: *const u8, b: *const u8, n: usize) -> i32 {
    if n < 16 {
        // SAFETY: as the caller promises.
        return unsafe { few(a, b, n) };
    }
    let mut at = 0;
    loop {
        // SAFETY: every block ends within the `n` bytes, and so does every byte that is found in one.
        let differ = unsafe {
            let equal = _mm_cmpeq_epi8(
                _mm_loadu_si128(a.add(at).cast()),
                _mm_loadu_si128(b.add(at).cast()),
            );
            !_mm_movemask_epi8(equal) & 0xffff
        };
        if differ != 0 {
            let first = at + differ.trailing_zeros() as usize;
            // SAFETY: as above.
            return unsafe { i32::from(a.add(first).read()) - i32::from(b.add(first).read()) };
        }
        if at == n - 16 {
            return 0;
        }
        // The last block begins with bytes that are known to be equal.
        at = (at + 16).min(n - 16);
    }
}

/// Fewer than 16 bytes, as two numbers whose first digits are the first bytes.
///
/// # Safety
/// Both must be valid for `n` bytes.
#[inline(always)]
unsafe fn few(a: *const u8, b: *const u8, n: usize) -> i32 {
    macro_rules! ends {
        ($part:ty) => {{
            let last = n - size_of::<$part>();
            // SAFETY: both parts lie within the `n` bytes.
            let number = |from: *const u8| unsafe {
                let first = from.cast::<$part>().read_unaligned();
                let last = from.add(last).cast::<$part>().read_unaligned();
                // Where they overlap, the bytes are compared twice.
                u128::from(<$part>::from_be(first)) << 64 | u128::from(<$part>::from_be(last))
            };
            (number(a), number(b))
        }};
    }
    let (a, b) = match n {
        0 => return 0,
        1 => ends!(u8),
        2..=3 => ends!(u16),
        4..=7 => ends!(u32),
        _ => ends!(u64),
    };
    i32::from(a > b) - i32::from(a < b)
}

#[cfg(not(test))]
mod replaced {
    /// As C has it.
    ///
    /// # Safety
    /// Both must be valid for `n` bytes.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
        // SAFETY: as the caller promises.
        unsafe { super::compare(a, b, n) }
    }

    /// As C has it: what it answers is 0 where the bytes are equal, and nothing else is said of it.
    ///
    /// # Safety
    /// Both must be valid for `n` bytes.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
        // SAFETY: as the caller promises.
        unsafe { super::compare(a, b, n) }
    }
}

#[cfg(test)]
mod tests {
    use core::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;

    /// By bytes that lie at odd places, with others around them that differ: nothing beyond the ends may be looked at.
    fn order(a: &[u8], b: &[u8]) -> Ordering {
        assert_eq!(a.len(), b.len());
        let placed = |bytes: &[u8], before: usize, around: u8| {
            let mut room = vec![around; before + bytes.len() + 32];
            room[before..before + bytes.len()].copy_from_slice(bytes);
            room
        };
        let orders = [(0, 0), (1, 2), (7, 16), (33, 15)].map(|(before_a, before_b)| {
            let (a_room, b_room) = (placed(a, before_a, 0x11), placed(b, before_b, 0xee));
            // SAFETY: both rooms hold this many bytes from there on.
            unsafe {
                compare(
                    a_room.as_ptr().add(before_a),
                    b_room.as_ptr().add(before_b),
                    a.len(),
                )
            }
            .cmp(&0)
        });
        assert!(orders.iter().all(|order| *order == orders[0]), "{orders:?}");
        orders[0]
    }

    #[test]
    fn every_byte_of_every_length_is_looked_at_and_the_first_that_differs_decides() {
        for n in 0..=80 {
            let same = vec![7u8; n];
            assert_eq!(order(&same, &same.clone()), Ordering::Equal, "{n} bytes");
            for at in 0..n {
                for (byte, after) in [(0x07, 0x87), (0x00, 0xff)] {
                    let mut other = same.clone();
                    other[at] = 0x80 | byte;
                    other[at + 1..].fill(0);
                    assert_eq!(order(&same, &other), Ordering::Less, "{at} of {n}");
                    other[at] = 0x01;
                    other[at + 1..].fill(after);
                    assert_eq!(order(&same, &other), Ordering::Greater, "{at} of {n}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn slices_stand_in_their_order(a in prop::collection::vec(0u8..3, 0..70), at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let mut b = a.clone();
            if !b.is_empty() {
                let at = at.index(b.len());
                b[at] = to;
            }
            prop_assert_eq!(order(&a, &b), a.cmp(&b));
        }
    }
}
