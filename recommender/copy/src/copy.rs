//! Copying with 16 bytes at a time, which every x86-64 processor can.

use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};

/// From this many bytes on the processor's own copying is quicker.
const LONG: usize = 2_048;

/// Copies `n` bytes where source and destination do not overlap.
///
/// # Safety
/// Both must be valid for `n` bytes.
#[inline(always)]
unsafe fn copy(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        if n <= 128 {
            short(to, from, n);
        } else if n < LONG {
            forwards(to, from, n);
        } else {
            core::arch::asm!(
                "rep movsb",
                inout("rcx") n => _,
                inout("rdi") to => _,
                inout("rsi") from => _,
                options(nostack, preserves_flags)
            );
        }
    }
}

/// The same where they may overlap.
///
/// # Safety
/// Both must be valid for `n` bytes.
#[inline(always)]
unsafe fn shift(to: *mut u8, from: *const u8, n: usize) {
    let ahead = (to as usize).wrapping_sub(from as usize);
    // SAFETY: as the caller promises; the order of the loop is the one that reads each byte before it is overwritten.
    unsafe {
        if n <= 128 {
            short(to, from, n);
        } else if ahead >= n {
            forwards(to, from, n);
        } else {
            backwards(to, from, n);
        }
    }
}

/// At most 128 bytes, all of which are read before any is written.
///
/// # Safety
/// Both must be valid for `n` bytes.
#[inline(always)]
unsafe fn short(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: every access begins and ends within the `n` bytes.
    unsafe {
        macro_rules! ends {
            ($part:ty) => {{
                let last = n - size_of::<$part>();
                let a = from.cast::<$part>().read_unaligned();
                let b = from.add(last).cast::<$part>().read_unaligned();
                to.cast::<$part>().write_unaligned(a);
                to.add(last).cast::<$part>().write_unaligned(b);
            }};
        }
        match n {
            0 => {}
            1 => to.write(from.read()),
            2..=3 => ends!(u16),
            4..=7 => ends!(u32),
            8..=16 => ends!(u64),
            17..=32 => ends!(__m128i),
            33..=64 => {
                let (first, second) = (half(from), half(from.add(n - 32)));
                store_half(to, first);
                store_half(to.add(n - 32), second);
            }
            _ => {
                let (first, last) = (load(from), load(from.add(n - 64)));
                store(to, first);
                store(to.add(n - 64), last);
            }
        }
    }
}

/// More than 64 bytes from the first to the last; the destination may begin before the source.
///
/// # Safety
/// Both must be valid for `n` bytes.
#[inline(always)]
unsafe fn forwards(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: a block begins at most 64 bytes before the end.
    unsafe {
        // The last block overlaps the one before it, which may have overwritten it by then.
        let last = load(from.add(n - 64));
        let mut at = 0;
        while at < n - 64 {
            store(to.add(at), load(from.add(at)));
            at += 64;
        }
        store(to.add(n - 64), last);
    }
}

/// More than 64 bytes from the last to the first; the destination begins after the source.
///
/// # Safety
/// Both must be valid for `n` bytes.
#[inline(always)]
unsafe fn backwards(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: a block begins at most 64 bytes before the end.
    unsafe {
        let first = load(from);
        let mut end = n;
        while end > 64 {
            end -= 64;
            store(to.add(end), load(from.add(end)));
        }
        store(to, first);
    }
}

type Half = [__m128i; 2];
type Block = [Half; 2];

// By the processor's own loads and stores: copying an array as such would be a call of `memcpy` to the compiler.

/// # Safety
/// 64 bytes must be valid.
#[inline(always)]
unsafe fn load(from: *const u8) -> Block {
    // SAFETY: as the caller promises.
    unsafe { [half(from), half(from.add(32))] }
}

/// # Safety
/// 64 bytes must be valid.
#[inline(always)]
unsafe fn store(to: *mut u8, [first, second]: Block) {
    // SAFETY: as the caller promises.
    unsafe {
        store_half(to, first);
        store_half(to.add(32), second);
    }
}

/// # Safety
/// 32 bytes must be valid.
#[inline(always)]
unsafe fn half(from: *const u8) -> Half {
    // SAFETY: as the caller promises.
    unsafe { [_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(16).cast())] }
}

/// # Safety
/// 32 bytes must be valid.
#[inline(always)]
unsafe fn store_half(to: *mut u8, [a, b]: Half) {
    // SAFETY: as the caller promises.
    unsafe {
        _mm_storeu_si128(to.cast(), a);
        _mm_storeu_si128(to.add(16).cast(), b);
    }
}

#[cfg(not(test))]
mod replaced {
    /// As C has it.
    ///
    /// # Safety
    /// Both must be valid for `n` bytes and not overlap.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { super::copy(to, from, n) };
        to
    }

    /// As C has it.
    ///
    /// # Safety
    /// Both must be valid for `n` bytes.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { super::shift(to, from, n) };
        to
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every byte another than its neighbours, and than those 16, 64 or 128 on.
    fn pattern(n: usize) -> Vec<u8> {
        (0..n).map(|at| (at * 31 + at / 251) as u8).collect()
    }

    #[test]
    fn every_length_arrives_and_nothing_around_it_changes() {
        for n in (0..=600).chain([LONG - 1, LONG, LONG + 1, 5_000]) {
            let from = pattern(n);
            let mut to = vec![0xee; n + 128];
            // SAFETY: there is room on both sides.
            unsafe { copy(to.as_mut_ptr().add(64), from.as_ptr(), n) };
            assert_eq!(to[64..64 + n], from, "{n} bytes");
            let around = to[..64].iter().chain(&to[64 + n..]);
            assert!(around.copied().all(|byte| byte == 0xee), "{n} bytes");
        }
    }

    proptest! {
        #[test]
        fn what_overlaps_arrives_as_if_it_did_not(n in 0usize..3_000, from in 0usize..700, to in 0usize..700) {
            let mut bytes = pattern(4_000);
            let mut expected = bytes.clone();
            expected.copy_within(from..from + n, to);
            // SAFETY: both ranges lie within the bytes.
            unsafe { shift(bytes.as_mut_ptr().add(to), bytes.as_ptr().add(from), n) };
            prop_assert_eq!(bytes, expected);
        }
    }
}
