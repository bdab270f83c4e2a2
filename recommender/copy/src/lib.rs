//! `memcpy`, `memmove` and `memcmp` for static binaries on x86-64.
//!
//! musl copies with `rep movsq`, whose start costs more than the copying of what a service mostly copies: a few bytes of
//! an answer's JSON, a request, a future. A sixth of a server's time went there: `perf record` beside `recommender bench`, of a
//! build with symbols. And musl compares byte by byte. Here short copies are one or two pairs of loads and stores, as in glibc and
//! in the BSDs, and 16 bytes are compared at once. With another C library, or on another processor, nothing is replaced.
//!
//! Whoever links this crate into a program has these functions replaced; there is nothing to call.

// The compiler knows loops that copy or compare, and would call `memcpy` or `memcmp` for them.
#![no_builtins]
// Copying between raw pointers is what this crate is there for; nothing else of ours does it.
#![allow(unsafe_code)]
#![cfg_attr(not(test), no_std)]

#[cfg(all(target_arch = "x86_64", any(test, target_env = "musl")))]
mod compare;
#[cfg(all(target_arch = "x86_64", any(test, target_env = "musl")))]
mod copy;
