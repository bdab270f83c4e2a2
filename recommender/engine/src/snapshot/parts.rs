//! From a picture to sections.

use std::io::Write;

use super::{
    FrozenCustomer, FrozenProduct, Snapshot, SnapshotError,
    codec::Out,
    frame::{BLOCK, FrameWriter, Name, OLDEST, VERSION},
};
use crate::{event::ProductMeta, sessions::Visit};

pub(super) const CONF: Name = *b"CONF";
pub(super) const FIGS: Name = *b"FIGS";
pub(super) const PROD: Name = *b"PROD";
pub(super) const HIST: Name = *b"HIST";
pub(super) const PAIR: Name = *b"PAIR";
pub(super) const SUMS: Name = *b"SUMS";
pub(super) const VISI: Name = *b"VISI";
pub(super) const SEEN: Name = *b"SEEN";
pub(super) const PROF: Name = *b"PROF";
pub(super) const WTCH: Name = *b"WTCH";
pub(super) const RATE: Name = *b"RATE";

/// What the catalogue says of a product.
pub(super) const UNLISTED: u64 = 0;
pub(super) const LISTED: u64 = 1;
pub(super) const WITHDRAWN: u64 = 2;

pub(super) fn write(snapshot: &Snapshot, out: &mut impl Write) -> Result<(), SnapshotError> {
    let mut frame = FrameWriter::new(out, VERSION, OLDEST)?;
    frame.section(CONF, json(CONF, &snapshot.pinned)?.as_bytes())?;
    frame.section(FIGS, json(FIGS, &snapshot.figures)?.as_bytes())?;
    blocks(&mut frame, PROD, &snapshot.products, product)?;
    blocks(&mut frame, HIST, &snapshot.customers, |out, one| {
        customer(out, one);
        Ok(())
    })?;
    if let Some(rows) = &snapshot.pairs {
        // Even without products the section says that pairs are not to be counted anew.
        let rows: Vec<(usize, _)> = rows.iter().enumerate().collect();
        blocks(&mut frame, PAIR, &rows, |out, (product, row)| {
            let mut counts = row.counts();
            counts.sort_unstable();
            out.unsigned(*product as u64);
            out.unsigned(counts.len() as u64);
            let mut before = 0;
            for (other, count) in counts {
                out.unsigned(u64::from(other - before));
                out.signed(count);
                before = other;
            }
            Ok(())
        })?;
    }
    if let Some(sums) = &snapshot.sums {
        blocks(&mut frame, SUMS, sums, |out, (norm, degree, popularity)| {
            out.signed(*norm);
            out.signed(*degree);
            out.unsigned(popularity.sums().len() as u64);
            for (bucket, sum) in popularity.sums() {
                out.signed(*bucket);
                out.signed(*sum);
            }
            Ok(())
        })?;
    }
    blocks(&mut frame, VISI, &snapshot.visits, |out, one| {
        visit(out, one);
        Ok(())
    })?;
    blocks(&mut frame, SEEN, &snapshot.seen, |out, one| {
        out.fixed(*one);
        Ok(())
    })?;
    blocks(&mut frame, PROF, &snapshot.profiles, |out, (name, attributes)| {
        out.text(name);
        out.text(&json(PROF, attributes)?);
        Ok(())
    })?;
    blocks(&mut frame, WTCH, &snapshot.watched, |out, one| {
        out.fixed(one.customer);
        out.unsigned(one.damped.into());
        out.unsigned(one.excluded.into());
        Ok(())
    })?;
    frame.section(RATE, json(RATE, &snapshot.rates)?.as_bytes())?;
    frame.finish()
}

/// Writes records in sections of about [`BLOCK`] bytes.
fn blocks<T, W: Write>(
    frame: &mut FrameWriter<'_, W>,
    name: Name,
    records: &[T],
    mut encode: impl FnMut(&mut Out, &T) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    let mut out = Out::default();
    for (at, record) in records.iter().enumerate() {
        encode(&mut out, record)?;
        if out.bytes.len() >= BLOCK || at + 1 == records.len() {
            frame.section(name, &out.bytes)?;
            out.bytes.clear();
        }
    }
    Ok(())
}

fn json(name: Name, value: &impl serde::Serialize) -> Result<String, SnapshotError> {
    serde_json::to_string(value).map_err(|_| SnapshotError::damaged(name))
}

fn product(out: &mut Out, product: &FrozenProduct) -> Result<(), SnapshotError> {
    out.text(&product.name);
    let Some(stored) = &product.meta else {
        out.unsigned(if product.available { UNLISTED } else { WITHDRAWN });
        return Ok(());
    };
    out.unsigned(LISTED);
    // By name, so that a field may be added; but numbers by the hundred are too slow as text.
    let meta = ProductMeta {
        embedding: None,
        ..stored.meta.clone()
    };
    out.text(&json(PROD, &meta)?);
    let embedding = stored.meta.embedding.as_deref();
    out.unsigned(u64::from(embedding.is_some()));
    out.floats(embedding.unwrap_or_default());
    Ok(())
}

fn customer(out: &mut Out, customer: &FrozenCustomer) {
    let history = &customer.history;
    out.text(&customer.slot.name);
    out.signed(history.newest_ms);
    out.signed(history.newest_ms.wrapping_sub(customer.known_ms));
    out.signed(history.rate.minute);
    out.unsigned(history.rate.events.into());
    out.unsigned(history.entries.len() as u64);
    let mut newer_ms = history.newest_ms;
    for entry in &history.entries {
        out.unsigned(entry.product.into());
        // Newest first: the differences are small.
        out.signed(newer_ms.wrapping_sub(entry.last_ms));
        newer_ms = entry.last_ms;
        out.signed(entry.total.into());
        out.signed(entry.purchases.into());
        out.unsigned(entry.kinds.into());
    }
}

fn visit(out: &mut Out, visit: &Visit) {
    out.fixed(visit.key);
    out.fixed(visit.owner);
    out.signed(visit.last_ms);
    out.unsigned(u64::from(visit.latest));
    out.unsigned(visit.products.len() as u64);
    for product in &visit.products {
        out.unsigned((*product).into());
    }
}
