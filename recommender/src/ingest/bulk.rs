//! Events on their way to the engine's bulk path: gathered while the log is read for the first time, 24 bytes
//! each and every id once.

use ahash::RandomState;
use hashbrown::HashTable;
use recommender_engine::{EventKind, Interaction};

/// No session.
const NONE: u32 = u32::MAX;

/// Ids by number.
#[derive(Default)]
struct Ids {
    text: String,
    /// Where each id ends in the text.
    ends: Vec<usize>,
    numbers: HashTable<u32>,
    hasher: RandomState,
}

impl Ids {
    fn name(&self, number: u32) -> &str {
        name(&self.text, &self.ends, number)
    }

    fn number(&mut self, id: &str) -> u32 {
        let (text, ends, hasher) = (&self.text, &self.ends, &self.hasher);
        let hash = hasher.hash_one(id);
        if let Some(known) = self.numbers.find(hash, |n| name(text, ends, *n) == id) {
            return *known;
        }
        let number = ends.len() as u32;
        self.numbers
            .insert_unique(hash, number, |n| hasher.hash_one(name(text, ends, *n)));
        self.text.push_str(id);
        self.ends.push(self.text.len());
        number
    }
}

fn name<'a>(text: &'a str, ends: &[usize], number: u32) -> &'a str {
    let at = number as usize;
    let start = if at == 0 { 0 } else { ends[at - 1] };
    &text[start..ends[at]]
}

struct Waiting {
    time_ms: i64,
    customer: u32,
    product: u32,
    session: u32,
    kind: EventKind,
}

/// Gathered events, in the order of the log.
#[derive(Default)]
pub(super) struct Bulk {
    ids: Ids,
    events: Vec<Waiting>,
}

impl Bulk {
    pub fn push(&mut self, event: &Interaction<'_>) {
        self.events.push(Waiting {
            time_ms: event.time_ms,
            customer: self.ids.number(event.customer),
            product: self.ids.number(event.product),
            session: event.session.map_or(NONE, |session| self.ids.number(session)),
            kind: event.kind,
        });
    }

    pub fn len(&self) -> usize {
        self.events.len()
    }

    pub fn events(&self) -> impl Iterator<Item = Interaction<'_>> {
        self.events.iter().map(|waiting| {
            let (customer, product) = (self.ids.name(waiting.customer), self.ids.name(waiting.product));
            Interaction {
                session: (waiting.session != NONE).then(|| self.ids.name(waiting.session)),
                ..Interaction::new(customer, product, waiting.kind, waiting.time_ms)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_its_order() {
        let mut bulk = Bulk::default();
        let event = |n: usize| {
            (
                [format!("c{}", n % 7), format!("p{}", n % 5)],
                n.is_multiple_of(3),
            )
        };
        for n in 0..100 {
            let ([customer, product], in_session) = event(n);
            bulk.push(&Interaction {
                session: in_session.then_some("s"),
                ..Interaction::new(&customer, &product, EventKind::Cart, n as i64)
            });
        }
        assert_eq!((bulk.len(), bulk.ids.ends.len()), (100, 13));
        for (n, out) in bulk.events().enumerate() {
            let ([customer, product], in_session) = event(n);
            assert_eq!(
                (out.customer, out.product, out.time_ms),
                (&*customer, &*product, n as i64)
            );
            assert_eq!(
                (out.session, out.kind),
                (in_session.then_some("s"), EventKind::Cart)
            );
        }
    }
}
