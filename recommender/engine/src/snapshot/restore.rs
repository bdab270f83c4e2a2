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
    codec::{Damaged, In},
    frame::{FrameReader, Name},
    parts::{CONF, FIGS, HIST, LISTED, PAIR, PROD, PROF, RATE, SEEN, UNLISTED, VISI, WITHDRAWN, WTCH},
    pinned,
};
use crate::{
    bulk::Loaded,
    config::{Algorithm, EngineConfig},
    event::ProductMeta,
    history::{Entry, History, interest},
    quality::Watched,
    reader::Reader,
    rows::Row,
    sessions::Visit,
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
    visits: Vec<Visit>,
}

pub(super) fn read(config: EngineConfig, input: &mut impl Read) -> Result<(Writer, Reader), SnapshotError> {
    let (mut writer, reader) = engine(config)?;
    let mut gathered = Gathered::default();
    let mut frame = FrameReader::new(input)?;
    while let Some((name, payload)) = frame.next()? {
        if name == CONF {
            compare(&writer.config, payload)?;
            continue;
        }
        let taken = section(&mut writer, &mut gathered, name, payload);
        taken.map_err(|Damaged| SnapshotError::damaged(name))?;
        if writer.shared.products.count() > writer.config.limits.max_products {
            return Err(changed(
                "limits.maxProducts",
                "larger",
                writer.config.limits.max_products,
            ));
        }
    }
    gathered.install(&mut writer);
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
        PROD => {
            while !input.is_empty() {
                product(writer, &mut input)?;
            }
        }
        HIST => {
            while !input.is_empty() {
                gathered.customers.push(customer(writer, &mut input)?);
            }
        }
        VISI => {
            while !input.is_empty() {
                gathered.visits.push(visit(&mut input, writer.names.len())?);
            }
        }
        SEEN => {
            while !input.is_empty() {
                writer.remember_id(input.fixed()?);
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

fn customer(writer: &Writer, input: &mut In<'_>) -> Result<Loaded, Damaged> {
    let rules = writer.history_rules();
    let name = input.text()?.into();
    let newest_ms = input.signed()?;
    let known_ms = newest_ms.wrapping_sub(input.signed()?);
    let minute = input.signed()?;
    let in_minute = input.small()?;
    let length = input.count()?;
    if length > rules.capacity {
        return Err(Damaged);
    }
    let mut entries = Vec::with_capacity(length);
    let mut newer_ms = newest_ms;
    for _ in 0..length {
        let product: u32 = input.small()?;
        let last_ms = newer_ms.wrapping_sub(input.signed()?);
        newer_ms = last_ms;
        let total = input.small_signed()?;
        entries.push(Entry {
            last_ms,
            product,
            total,
            purchases: input.small_signed()?,
            interest: interest(rules.repeats, total),
            kinds: input.small()?,
        });
        if product as usize >= writer.names.len() {
            return Err(Damaged);
        }
    }
    let mut products: Vec<u32> = entries.iter().map(|entry| entry.product).collect();
    products.sort_unstable();
    if products.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Damaged);
    }
    let history = History::restored(entries, newest_ms, rules.window, (minute, in_minute));
    Ok(Loaded {
        name,
        known_ms,
        history,
    })
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

fn visit(input: &mut In<'_>, products: usize) -> Result<Visit, Damaged> {
    let (key, owner) = (input.fixed()?, input.fixed()?);
    let last_ms = input.signed()?;
    let latest = input.unsigned()? != 0;
    let length = input.count()?;
    let product = |_| {
        input.small().and_then(|id: u32| {
            if (id as usize) < products {
                Ok(id)
            } else {
                Err(Damaged)
            }
        })
    };
    Ok(Visit {
        key,
        owner,
        last_ms,
        latest,
        products: (0..length).map(product).collect::<Result<_, _>>()?,
    })
}

impl Gathered {
    fn install(self, writer: &mut Writer) {
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
        let mut names = AHashSet::new();
        let mut customers = self.customers;
        customers.retain(|one| names.insert(Arc::clone(&one.name)));
        drop(names);
        let excess = customers.len().saturating_sub(writer.config.limits.max_customers);
        bump(&counters.evicted_customers, excess as u64);
        customers.drain(..excess);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        writer.take_up(customers, self.pairs, threads);
        // Without a time nothing has ended yet.
        let newest_visit_ms = self.figures.get("newestVisitMs").copied().unwrap_or(i64::MIN);
        let (sessions, shared) = (&mut writer.sessions, &writer.shared);
        sessions.import(shared, self.visits, newest_visit_ms);
        writer.prequential.show(&writer.shared);
        writer.show_watch();
        writer.flush(newest_ms);
    }
}
