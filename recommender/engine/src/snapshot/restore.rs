//! From sections to an engine.

use std::{
    collections::BTreeMap,
    io::Read,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use ahash::AHashSet;
use serde_json::Value;

use super::{
    SnapshotError,
    apart::{Part, taken_apart},
    codec::{Damaged, In},
    frame::{FrameReader, Name},
    parts::{CONF, FIGS, HIST, LISTED, PAIR, PROD, PROF, RATE, SEEN, SUMS, UNLISTED, VISI, WITHDRAWN, WTCH},
    pinned,
};
use crate::{
    bulk::{Loaded, joined},
    config::{Algorithm, EngineConfig},
    counts::Sums,
    event::ProductMeta,
    popularity::Buckets,
    quality::Watched,
    reader::Reader,
    rows::Row,
    sessions::{Sessions, Visit},
    shared::bump,
    writer::{Writer, engine},
};

/// A sum that no real log reaches: refusing it keeps later additions from overflowing.
const LARGEST_COUNT: u64 = 1 << 56;

/// What has to wait until all sections are read.
#[derive(Default)]
struct Gathered {
    figures: BTreeMap<String, i64>,
    customers: Vec<Loaded>,
    pairs: Option<Vec<Row>>,
    sums: Option<Sums>,
    visits: Vec<Visit>,
}

pub(super) fn read(config: EngineConfig, input: &mut impl Read) -> Result<(Writer, Reader), SnapshotError> {
    let (mut writer, reader) = engine(config)?;
    let mut gathered = Gathered::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let parts = taken_apart(writer.history_rules(), threads, |apart| {
        let mut frame = FrameReader::new(input)?;
        while let Some((name, payload)) = frame.next()? {
            match name {
                CONF => compare(&writer.config, payload)?,
                HIST | VISI => apart.take(name, std::mem::take(payload), writer.names.len()),
                _ => {
                    let taken = section(&mut writer, &mut gathered, name, payload);
                    taken.map_err(|Damaged| SnapshotError::damaged(name))?;
                }
            }
            if writer.shared.products.count() > writer.config.limits.max_products {
                return Err(changed(
                    "limits.maxProducts",
                    "larger",
                    writer.config.limits.max_products,
                ));
            }
        }
        Ok(())
    })?;
    for part in parts {
        match part {
            Part::Customers(customers) => gathered.customers.extend(customers),
            Part::Visits(visits) => gathered.visits.extend(visits),
        }
    }
    // Of a version that did not say where.
    if writer.config.recalls && gathered.sums.is_none() && !writer.names.names.is_empty() {
        return Err(changed("histories", "Memory", "Redis"));
    }
    gathered.install(&mut writer, threads);
    Ok((writer, reader))
}

fn changed(field: &str, was: impl ToString, is: impl ToString) -> SnapshotError {
    SnapshotError::ConfigChanged {
        field: field.into(),
        was: was.to_string(),
        is: is.to_string(),
    }
}

/// Settings that only one side knows are not compared.
fn compare(config: &EngineConfig, payload: &[u8]) -> Result<(), SnapshotError> {
    let written: BTreeMap<String, Value> =
        serde_json::from_slice(payload).map_err(|_| SnapshotError::damaged(CONF))?;
    for (field, is) in pinned(config) {
        if let Some(was) = written.get(&field)
            && *was != is
        {
            return Err(changed(&field, was, is));
        }
    }
    Ok(())
}

fn section(writer: &mut Writer, gathered: &mut Gathered, name: Name, payload: &[u8]) -> Result<(), Damaged> {
    let mut input = In::new(payload);
    match name {
        FIGS => {
            let figures: BTreeMap<String, i64> = parse(payload)?;
            gathered.figures.extend(figures);
        }
        RATE => {
            let rates: Vec<Value> = parse(payload)?;
            // An algorithm that this version does not know is left out.
            let known = rates
                .into_iter()
                .filter_map(|rate| serde_json::from_value(rate).ok());
            writer.prequential.tallies = known.collect();
        }
        PAIR => {
            let rows = gathered.pairs.get_or_insert_default();
            while !input.is_empty() {
                let at: usize = input.small()?;
                let row = row(&mut input, writer.names.len())?;
                if at >= writer.names.len() {
                    return Err(Damaged);
                }
                if rows.len() <= at {
                    rows.resize_with(at + 1, Row::default);
                }
                rows[at] = row;
            }
        }
        SUMS => {
            let sums = gathered.sums.get_or_insert_default();
            while !input.is_empty() {
                if sums.len() >= writer.names.len() {
                    return Err(Damaged);
                }
                sums.push(sum(&mut input)?);
            }
        }
        PROD => {
            while !input.is_empty() {
                product(writer, &mut input)?;
            }
        }
        SEEN => {
            while !input.is_empty() {
                writer.seen.insert(input.fixed()?);
            }
        }
        PROF => {
            while !input.is_empty() {
                let name = input.text()?;
                let attributes = parse(input.text()?.as_bytes())?;
                writer.set_profile(name, Some(attributes));
            }
        }
        WTCH => {
            while !input.is_empty() {
                writer.watch.import(Watched {
                    customer: input.fixed()?,
                    damped: input.small()?,
                    excluded: input.unsigned()? != 0,
                });
            }
        }
        // Of a later version.
        _ => {}
    }
    Ok(())
}

fn parse<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, Damaged> {
    serde_json::from_slice(payload).map_err(|_| Damaged)
}

fn product(writer: &mut Writer, input: &mut In<'_>) -> Result<(), Damaged> {
    let name = input.text()?;
    // Numbers are handed out in order; a name that is there twice would shift all that follow.
    if name.is_empty() || writer.shared.product_id(name).is_some() {
        return Err(Damaged);
    }
    let listed = input.unsigned()?;
    let meta = if listed == LISTED {
        let mut meta: ProductMeta = parse(input.text()?.as_bytes())?;
        let embedded = input.unsigned()? != 0;
        let embedding = input.floats()?;
        meta.embedding = embedded.then_some(embedding);
        Some(meta)
    } else {
        None
    };
    // Beyond the limit too: the caller says so in better words.
    writer.push_product(name);
    match listed {
        UNLISTED => {}
        LISTED | WITHDRAWN => {
            writer.set_product(name, meta);
        }
        _ => return Err(Damaged),
    }
    Ok(())
}

fn row(input: &mut In<'_>, products: usize) -> Result<Row, Damaged> {
    let length = input.count()?;
    let mut counts = Vec::with_capacity(length);
    let mut other = 0u32;
    for at in 0..length {
        let step: u32 = input.small()?;
        if at > 0 && step == 0 {
            return Err(Damaged);
        }
        other = other.checked_add(step).ok_or(Damaged)?;
        let count = input.signed()?;
        if other as usize >= products || count == 0 || count.unsigned_abs() > LARGEST_COUNT {
            return Err(Damaged);
        }
        counts.push((other, count));
    }
    Ok(Row::from_counts(&counts, products))
}

fn sum(input: &mut In<'_>) -> Result<(i64, i64, Buckets), Damaged> {
    let mut number = || {
        let number = input.signed()?;
        (number.unsigned_abs() <= LARGEST_COUNT)
            .then_some(number)
            .ok_or(Damaged)
    };
    let (norm, degree) = (number()?, number()?);
    let length = input.count()?;
    let mut sums = Vec::with_capacity(length);
    for _ in 0..length {
        let (bucket, sum) = (input.signed()?, input.signed()?);
        if sum.unsigned_abs() > LARGEST_COUNT || bucket.unsigned_abs() > LARGEST_COUNT {
            return Err(Damaged);
        }
        sums.push((bucket, sum));
    }
    Ok((norm, degree, Buckets::from_sums(sums).ok_or(Damaged)?))
}

impl Gathered {
    fn install(self, writer: &mut Writer, threads: usize) {
        let figure = |name: &str| self.figures.get(name).copied().unwrap_or_default();
        writer.counts.newest_bucket = figure("newestBucket");
        let auto = u8::try_from(figure("auto")).unwrap_or_default();
        if usize::from(auto) < Algorithm::ALL.len() && auto > 0 {
            writer.shared.auto.store(auto, Relaxed);
        }
        let counters = &writer.shared.counters;
        for (name, counter) in counters.by_name() {
            counter.store(figure(name).max(0) as u64, Relaxed);
        }
        let newest_ms = figure("newestEventMs");
        counters.newest_event_ms.store(newest_ms, Relaxed);
        let mut names = AHashSet::with_capacity(self.customers.len());
        let mut customers = self.customers;
        customers.retain(|one| names.insert(Arc::clone(&one.name)));
        drop(names);
        let excess = customers.len().saturating_sub(writer.config.limits.max_customers);
        bump(&counters.evicted_customers, excess as u64);
        customers.drain(..excess);
        // Without a time nothing has ended yet.
        let newest_visit_ms = self.figures.get("newestVisitMs").copied().unwrap_or(i64::MIN);
        // Visits need nothing of the rest: beside it, where there is a thread for them.
        let mut sessions = std::mem::replace(&mut writer.sessions, Sessions::new(0, 0));
        let (shared, visits) = (Arc::clone(&writer.shared), self.visits);
        let import = move || {
            sessions.import(&shared, visits, newest_visit_ms);
            sessions.flush(&shared);
            sessions
        };
        writer.sessions = std::thread::scope(|scope| {
            let importing = if threads > 1 {
                Err(scope.spawn(import))
            } else {
                Ok(import())
            };
            writer.take_up(customers, self.pairs, threads);
            if let Some(sums) = self.sums {
                writer.counts.set_sums(sums);
            }
            match importing {
                Ok(sessions) => sessions,
                Err(thread) => joined(thread.join()),
            }
        });
        writer.prequential.show(&writer.shared);
        writer.show_watch();
        writer.flush_on(newest_ms, threads);
    }
}
