//! What an engine holds in memory is what the crate's documentation says it may.
#![allow(unsafe_code, reason = "counting what is allocated takes an allocator")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use recommender_engine::{EngineConfig, EventKind, Interaction, Limits, engine};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NOW: i64 = 1_700_000_000_000;

/// Bytes held by an engine of so many customers with so many products each, out of so many; the counts between
/// products that it holds.
fn held(customers: usize, each: usize, products: usize, limits: &Limits) -> (usize, f64) {
    let before = HELD.load(Relaxed);
    let config = EngineConfig {
        limits: limits.clone(),
        ..EngineConfig::default()
    };
    let (mut writer, reader) = engine(config).expect("the limits are valid");
    let mut state = 7u64;
    for n in 0..customers * each {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (customer, product) = (
            format!("customer-{:07}", n % customers),
            format!("product-{:08}", (state >> 33) as usize % products),
        );
        // A month between two: each visit is of one product, so that visits take no room of note.
        let time_ms = NOW + (n / customers) as i64 * 30 * 86_400_000;
        writer.apply(
            &Interaction::new(&customer, &product, EventKind::View, time_ms),
            time_ms,
        );
    }
    writer.flush(NOW + 30 * 86_400_000 * each as i64);
    let pairs = reader.stats().pairs as f64;
    (HELD.load(Relaxed) - before, pairs)
}

#[test]
fn an_engine_holds_what_the_formula_says_and_no_more_than_its_caps_allow() {
    let limits = Limits {
        max_sessions: 0,
        dedup_ids: 0,
        ..Limits::default()
    };
    for (customers, each, products) in [
        (20_000, 10, 5_000),
        (2_000, 40, 1_000),
        (30_000, 3, 20_000),
        (2_000, 8, 1_100),
    ] {
        let (bytes, pairs) = held(customers, each, products, &limits);
        let (c, h, p) = (customers as f64, each as f64, products as f64);
        let neighbours = (pairs / p).min(EngineConfig::default().neighbors as f64);
        // Smaller rooms stay when a list moves to a larger one.
        let room = match neighbours {
            ..=12.0 => 12.0,
            ..=40.0 => 12.0 + 40.0,
            _ => 12.0 + 40.0 + 128.0,
        };
        let customers = c * (250.0 + 24.0 * h + 2.0 * 16.0);
        let least = customers + p * (750.0 + 16.0 * room) + 4.0 * pairs;
        let most = customers + p * (750.0 + 16.0 * room) + 64.0 * pairs;
        let bytes = bytes as f64;
        println!("{bytes} bytes; between {least} and {most} by the formula");
        assert!(bytes < most * 1.1, "{bytes} {most}");
        assert!(bytes > least * 0.8, "{bytes} {least}");
    }
    // A cap on counts between products holds memory down.
    let capped = Limits {
        row_capacity: 128,
        ..limits.clone()
    };
    let ((all, _), (some, pairs)) = (held(5_000, 40, 2_000, &limits), held(5_000, 40, 2_000, &capped));
    assert!(pairs <= 2_000.0 * 128.0 && some * 4 < all * 3, "{some} of {all}");
}
