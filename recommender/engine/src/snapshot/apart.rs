//! Customers and visits, which are nearly all of a snapshot: taken apart beside its reading, on as many threads as there
//! are.

use std::sync::{
    Mutex, PoisonError,
    mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};

use super::{
    SnapshotError,
    codec::{Damaged, In},
    frame::Name,
    parts::HIST,
};
use crate::{
    bulk::{Loaded, joined},
    history::{Entry, History, HistoryRules, Rate, interest},
    sessions::Visit,
};

/// What a section holds.
pub(super) enum Part {
    Customers(Vec<Loaded>),
    Visits(Vec<Visit>),
}

/// A section, with its place among the others.
struct Section {
    at: usize,
    name: Name,
    payload: Vec<u8>,
    /// Products known by then.
    products: usize,
}

type Taken = (usize, Result<Part, SnapshotError>);

impl Section {
    fn taken(self, rules: &HistoryRules) -> Taken {
        let mut input = In::new(&self.payload);
        let part = if self.name == HIST {
            all(&mut input, |input| customer(input, rules, self.products)).map(Part::Customers)
        } else {
            all(&mut input, |input| visit(input, self.products)).map(Part::Visits)
        };
        (self.at, part.map_err(|Damaged| SnapshotError::damaged(self.name)))
    }
}

fn all<T>(
    input: &mut In<'_>,
    mut one: impl FnMut(&mut In<'_>) -> Result<T, Damaged>,
) -> Result<Vec<T>, Damaged> {
    let mut all = Vec::new();
    while !input.is_empty() {
        all.push(one(input)?);
    }
    Ok(all)
}

/// Where whoever reads hands over such sections.
pub(super) struct Apart {
    rules: HistoryRules,
    sections: SyncSender<Section>,
    given: usize,
    /// By the reading thread itself.
    own: Vec<Taken>,
}

impl Apart {
    /// Has a section taken apart by a thread that has time, which may be this one.
    pub fn take(&mut self, name: Name, payload: Vec<u8>, products: usize) {
        let section = Section {
            at: self.given,
            name,
            payload,
            products,
        };
        self.given += 1;
        if let Err(TrySendError::Full(section) | TrySendError::Disconnected(section)) =
            self.sections.try_send(section)
        {
            self.own.push(section.taken(&self.rules));
        }
    }
}

/// Reads, and takes apart what is handed over meanwhile, on so many threads. The parts are in the order of their
/// sections.
pub(super) fn taken_apart(
    rules: HistoryRules,
    threads: usize,
    read: impl FnOnce(&mut Apart) -> Result<(), SnapshotError>,
) -> Result<Vec<Part>, SnapshotError> {
    let helpers = threads.saturating_sub(1);
    let (sections, queue) = sync_channel(helpers);
    let queue = Mutex::new(queue);
    let mut apart = Apart {
        rules,
        sections,
        given: 0,
        own: Vec::new(),
    };
    let mut taken = std::thread::scope(|scope| {
        let helping: Vec<_> = (0..helpers)
            .map(|_| scope.spawn(|| help(&rules, &queue)))
            .collect();
        let read = read(&mut apart);
        // The helpers end with what they have.
        drop(apart.sections);
        let mut taken = apart.own;
        taken.extend(helping.into_iter().flat_map(|helper| joined(helper.join())));
        read.map(|()| taken)
    })?;
    taken.sort_unstable_by_key(|(at, _)| *at);
    taken.into_iter().map(|(_, part)| part).collect()
}

fn help(rules: &HistoryRules, queue: &Mutex<Receiver<Section>>) -> Vec<Taken> {
    let mut taken = Vec::new();
    loop {
        // Others wait for the lock as they would for a section.
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(section) = next else { return taken };
        taken.push(section.taken(rules));
    }
}

fn customer(input: &mut In<'_>, rules: &HistoryRules, products: usize) -> Result<Loaded, Damaged> {
    let name = input.text()?.into();
    let newest_ms = input.signed()?;
    let known_ms = newest_ms.wrapping_sub(input.signed()?);
    let rate = Rate {
        minute: input.signed()?,
        events: input.small()?,
    };
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
        if product as usize >= products {
            return Err(Damaged);
        }
    }
    let mut different: Vec<u32> = entries.iter().map(|entry| entry.product).collect();
    different.sort_unstable();
    if different.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Damaged);
    }
    let history = History::restored(entries, newest_ms, rules.window, rate);
    Ok(Loaded {
        name,
        known_ms,
        history,
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EngineConfig, engine, snapshot::codec::Out, snapshot::parts::VISI};

    const SECTIONS: i64 = 200;

    /// A section of one customer without a history, who is called by its number.
    fn customer(number: i64) -> Vec<u8> {
        let mut out = Out::default();
        out.text(&number.to_string());
        // Newest event, activity known, minute; events in it, products.
        (0..3).for_each(|_| out.signed(number));
        (0..2).for_each(|_| out.unsigned(0));
        out.bytes
    }

    fn visit(number: i64, product: u64) -> Vec<u8> {
        let mut out = Out::default();
        (0..2).for_each(|_| out.fixed(number as u64));
        out.signed(number);
        out.unsigned(1);
        out.unsigned(1);
        out.unsigned(product);
        out.bytes
    }

    fn rules() -> HistoryRules {
        engine(EngineConfig::default()).unwrap().0.history_rules()
    }

    #[test]
    fn parts_are_in_the_order_of_their_sections_on_any_number_of_threads() {
        for threads in [1, 2, 8] {
            let parts = taken_apart(rules(), threads, |apart| {
                for number in 0..SECTIONS {
                    apart.take(HIST, customer(number), 1);
                    apart.take(VISI, visit(number, 0), 1);
                }
                Ok(())
            });
            let numbers = parts.unwrap().into_iter().map(|part| match part {
                Part::Customers(customers) => customers[0].name.parse().unwrap(),
                Part::Visits(visits) => visits[0].last_ms,
            });
            let expected = (0..SECTIONS).flat_map(|number| [number, number]);
            assert!(numbers.eq(expected), "on {threads} threads");
        }
    }

    #[test]
    fn what_is_damaged_is_told_whichever_thread_meets_it_and_so_is_what_ends_reading() {
        for threads in [1, 4] {
            // A product that is not known, in the middle.
            let damaged = taken_apart(rules(), threads, |apart| {
                for number in 0..SECTIONS {
                    apart.take(VISI, visit(number, u64::from(number == SECTIONS / 2)), 1);
                }
                Ok(())
            });
            assert!(matches!(damaged, Err(SnapshotError::Damaged { section }) if section == "VISI"));
            let cut = taken_apart(rules(), threads, |apart| {
                apart.take(HIST, customer(1), 1);
                Err(SnapshotError::Truncated)
            });
            assert!(matches!(cut, Err(SnapshotError::Truncated)));
        }
    }
}
