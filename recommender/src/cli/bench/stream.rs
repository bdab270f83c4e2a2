//! Streams of events that the engine is measured on: a file again and again, or one made up by a law.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use indicatif::ProgressBar;
use recommender_engine::eval::parse_log;
use recommender_engine::{EventKind, Interaction};

use crate::cli::feed;

pub(super) const DAY_MS: i64 = 86_400_000;

/// Who did what with which product, and when, in the order of the log.
pub(super) struct Log {
    pub customers: Vec<String>,
    pub products: Vec<String>,
    pub events: Vec<(u32, u32, EventKind, i64)>,
    pub now_ms: i64,
}

impl Log {
    pub fn iter(&self) -> impl Iterator<Item = Interaction<'_>> {
        self.events.iter().map(|(customer, product, kind, time_ms)| {
            let (customer, product) = (
                &self.customers[*customer as usize],
                &self.products[*product as usize],
            );
            Interaction::new(customer, product, *kind, *time_ms)
        })
    }
}

/// Numbers for names, in the order in which they were met.
#[derive(Default)]
struct Names {
    ids: ahash::AHashMap<Arc<str>, u32>,
    names: Vec<String>,
}

impl Names {
    fn id(&mut self, name: &Arc<str>) -> u32 {
        *self.ids.entry(Arc::clone(name)).or_insert_with(|| {
            self.names.push(name.to_string());
            self.names.len() as u32 - 1
        })
    }
}

/// A file of event records, plain or gzipped.
pub(super) fn recorded(path: &Path) -> anyhow::Result<Log> {
    let (mut customers, mut products) = (Names::default(), Names::default());
    let log = parse_log(&text(path)?)?;
    let events: Vec<_> = log
        .iter()
        .map(|event| {
            (
                customers.id(&event.customer),
                products.id(&event.product),
                event.kind,
                event.time_ms,
            )
        })
        .collect();
    let now_ms = events.iter().map(|event| event.3).max().unwrap_or_default();
    Ok(Log {
        customers: customers.names,
        products: products.names,
        events,
        now_ms,
    })
}

/// A file of sessions, one a line: a customer each, a second from click to click, a minute from one to the next.
pub(super) fn sessions(path: &Path) -> anyhow::Result<Log> {
    let mut products = Names::default();
    let mut log = Log {
        customers: Vec::new(),
        products: Vec::new(),
        events: Vec::new(),
        now_ms: 0,
    };
    for (customer, line) in text(path)?.lines().enumerate() {
        for (at, product) in line.split_ascii_whitespace().enumerate() {
            log.now_ms = customer as i64 * 60_000 + at as i64 * 1_000;
            let product = products.id(&product.into());
            log.events
                .push((customer as u32, product, EventKind::View, log.now_ms));
        }
        log.customers.push(format!("session-{customer}"));
    }
    log.products = products.names;
    Ok(log)
}

fn text(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut reader = feed::open(path, &ProgressBar::hidden())?;
    reader
        .read_to_string(&mut text)
        .with_context(|| path.display().to_string())?;
    Ok(text)
}

/// The log again and again, with other customers and later each time, until it has this many events.
pub(super) fn repeated(log: Log, events: usize) -> Log {
    let Some((first, last)) = log.events.first().zip(log.events.last()) else {
        return log;
    };
    let (span, people) = (last.3 - first.3 + DAY_MS, log.customers.len());
    let times = events.div_ceil(log.events.len()).max(1);
    let mut all = Log {
        customers: Vec::with_capacity(people * times),
        products: log.products,
        events: Vec::with_capacity(log.events.len() * times),
        now_ms: log.now_ms + span * (times as i64 - 1),
    };
    for turn in 0..times {
        let renamed = log.customers.iter().map(|name| format!("{name}-{turn}"));
        all.customers.extend(renamed);
        let shifted = log.events.iter().map(|(customer, product, kind, time_ms)| {
            let customer = customer + (turn * people) as u32;
            (customer, *product, *kind, time_ms + span * turn as i64)
        });
        all.events.extend(shifted);
    }
    all
}

/// Products by Zipf's law, customers almost: some visit far more often than others.
pub(super) fn zipf(events: usize, customers: usize, products: usize) -> Log {
    let mut state = 42u64;
    let mut uniform = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    // The inverse of the continuous law with exponent 1: n^u.
    let mut draw = |n: usize| ((n as f64).powf(uniform()) as usize - 1).min(n - 1) as u32;
    let mut log = Log {
        customers: (0..customers).map(|n| format!("customer-{n}")).collect(),
        products: (0..products).map(|n| format!("product-{n}")).collect(),
        events: Vec::with_capacity(events),
        now_ms: 365 * DAY_MS,
    };
    for n in 0..events {
        let kind = match n % 10 {
            0 => EventKind::Purchase,
            1 | 2 => EventKind::Cart,
            _ => EventKind::View,
        };
        let product = draw(products);
        let customer = (draw(customers) as usize).max((n * 7_919) % customers) as u32;
        log.events
            .push((customer, product, kind, (n as i64) * 365 * DAY_MS / events as i64));
    }
    log
}
