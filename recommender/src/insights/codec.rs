//! What is kept as bytes, for snapshots. Numbers are little-endian. Only names that are in use are written.

use std::collections::HashMap;
use std::sync::Arc;

use super::kept::{Act, Cell, Customer, Kept, SHARDS, Shard, Shown, Step};
use super::{Insights, names, shard_of};

/// First byte; another one was written by another version.
const FORMAT: u8 = 1;

/// The bytes are something else, or damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not understood")]
pub struct Damaged;

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn optional(out: &mut Vec<u8>, value: Option<&str>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        text(out, value);
    }
}

/// As bytes.
pub fn write(kept: &Kept) -> Vec<u8> {
    let mut out = vec![FORMAT];
    out.extend_from_slice(&kept.newest_ms.to_le_bytes());
    out.extend_from_slice(&kept.halvings.to_le_bytes());
    out.extend_from_slice(&(kept.cells.len() as u32).to_le_bytes());
    for cell in kept.cells.iter() {
        optional(&mut out, cell.experiment.as_deref());
        text(&mut out, &cell.arm);
        optional(&mut out, cell.placement.as_deref());
    }
    let mut numbers: HashMap<u32, u32, ahash::RandomState> = HashMap::default();
    let mut used: Vec<u32> = Vec::new();
    let mut number = |product: u32| {
        *numbers.entry(product).or_insert_with(|| {
            used.push(product);
            (used.len() - 1) as u32
        })
    };
    let mut records = Vec::new();
    let mut customers: u32 = 0;
    for (hash, customer) in kept.customers() {
        customers += 1;
        records.extend_from_slice(&hash.to_le_bytes());
        records.extend_from_slice(&(customer.acts.iter().count() as u32).to_le_bytes());
        for act in customer.acts.iter() {
            records.extend_from_slice(&act.time_ms.to_le_bytes());
            records.extend_from_slice(&act.recommendation.to_le_bytes());
            records.extend_from_slice(&number(act.product).to_le_bytes());
            records.push(act.step as u8);
            records.extend_from_slice(&act.value.to_le_bytes());
        }
        records.extend_from_slice(&(customer.shown.len() as u32).to_le_bytes());
        for shown in &customer.shown {
            records.extend_from_slice(&shown.time_ms.to_le_bytes());
            records.extend_from_slice(&shown.recommendation.to_le_bytes());
            records.extend_from_slice(&shown.cell.to_le_bytes());
            records.extend_from_slice(&(shown.products.len() as u32).to_le_bytes());
            for product in &shown.products {
                records.extend_from_slice(&number(*product).to_le_bytes());
            }
        }
    }
    out.extend_from_slice(&(used.len() as u32).to_le_bytes());
    for product in used {
        text(&mut out, kept.name(product));
    }
    out.extend_from_slice(&customers.to_le_bytes());
    out.extend_from_slice(&records);
    out
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Damaged)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, Damaged> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn i64(&mut self) -> Result<i64, Damaged> {
        Ok(i64::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, Damaged> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn text(&mut self) -> Result<Arc<str>, Damaged> {
        let length = self.u32()? as usize;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        Ok(std::str::from_utf8(text).map_err(|_| Damaged)?.into())
    }

    fn optional(&mut self) -> Result<Option<Arc<str>>, Damaged> {
        match self.take::<1>()? {
            [0] => Ok(None),
            _ => Ok(Some(self.text()?)),
        }
    }

    /// So many of something, but no room for more than can be there.
    fn list<T>(
        &mut self,
        n: u32,
        mut one: impl FnMut(&mut Self) -> Result<T, Damaged>,
    ) -> Result<Vec<T>, Damaged> {
        let mut list = Vec::with_capacity((n as usize).min(self.0.len()));
        for _ in 0..n {
            list.push(one(self)?);
        }
        Ok(list)
    }
}

/// The sample is never smaller than one customer in so many halvings: more are damage, not data.
const MAX_HALVINGS: u32 = 32;

/// And back.
pub fn read(bytes: &[u8]) -> Result<Insights, Damaged> {
    let mut input = Input(bytes);
    if input.take::<1>()? != [FORMAT] {
        return Err(Damaged);
    }
    let (newest_ms, halvings) = (input.i64()?, input.u32()?);
    if halvings > MAX_HALVINGS {
        return Err(Damaged);
    }
    let n = input.u32()?;
    let cells = input.list(n, |input| {
        Ok(Cell {
            experiment: input.optional()?,
            arm: input.text()?,
            placement: input.optional()?,
        })
    })?;
    let n = input.u32()?;
    let used = input.list(n, Input::text)?;
    let known = |number: u32| {
        if (number as usize) < used.len() {
            Ok(number)
        } else {
            Err(Damaged)
        }
    };
    let mut shards: Vec<Shard> = (0..SHARDS).map(|_| Shard::default()).collect();
    for _ in 0..input.u32()? {
        let hash = input.u64()?;
        let n = input.u32()?;
        let acts = input.list(n, |input| {
            Ok(Act {
                time_ms: input.i64()?,
                recommendation: input.u64()?,
                product: known(input.u32()?)?,
                step: Step::ALL
                    .get(usize::from(input.take::<1>()?[0]))
                    .copied()
                    .ok_or(Damaged)?,
                value: f64::from_le_bytes(input.take()?),
            })
        })?;
        let n = input.u32()?;
        let shown = input.list(n, |input| {
            Ok(Shown {
                time_ms: input.i64()?,
                recommendation: input.u64()?,
                cell: u16::from_le_bytes(input.take()?),
                products: {
                    let n = input.u32()?;
                    input.list(n, |input| known(input.u32()?))?.into()
                },
            })
        })?;
        let acts = acts.into_iter().collect();
        shards[shard_of(hash)].add(hash, Customer { acts, shown });
    }
    if !input.0.is_empty() {
        return Err(Damaged);
    }
    Ok(Insights::resume(Kept {
        shards: shards.into_iter().map(Arc::new).collect(),
        names: names::chunks(used),
        cells: Arc::new(cells),
        newest_ms,
        halvings,
    }))
}
