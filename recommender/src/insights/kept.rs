//! What is kept: by customer, what they did and what was shown to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use recommendation_api::EventType;

use super::acts::Acts;
use super::names::Chunk;

/// Customers are spread over so many parts, each copied only if it changes while somebody reads it.
pub(super) const SHARDS: usize = 64;
/// Bytes of events (5,000 plain ones, or half as many with a price) and number of answers kept of one customer: who has
/// more in a week is a program.
const MAX_ACT_BYTES: usize = 80_000;
const MAX_SHOWN: usize = 1_000;
/// What a customer takes beside their records, bytes.
const CUSTOMER: usize = 96;

/// What a customer did with a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Step {
    View,
    Click,
    Cart,
    Purchase,
    Return,
}

impl Step {
    pub const ALL: [Self; 5] = [Self::View, Self::Click, Self::Cart, Self::Purchase, Self::Return];

    /// `None` for what no figure is about.
    pub fn of(event_type: &EventType) -> Option<Self> {
        match event_type {
            EventType::View => Some(Self::View),
            EventType::Click => Some(Self::Click),
            EventType::Cart => Some(Self::Cart),
            EventType::Purchase => Some(Self::Purchase),
            EventType::Return => Some(Self::Return),
            EventType::Email | EventType::Other(_) => None,
        }
    }
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Act {
    pub time_ms: i64,
    /// The answer that it names; 0 for none.
    pub recommendation: u64,
    pub product: u32,
    pub step: Step,
    /// Price times quantity; [`Act::UNPRICED`] where the event has no price.
    pub value: f64,
}

impl Act {
    pub const UNPRICED: f64 = -1.0;
}

/// An answer that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub time_ms: i64,
    pub recommendation: u64,
    pub cell: u16,
    pub products: Box<[u32]>,
}

impl Shown {
    fn bytes(&self) -> usize {
        size_of::<Self>() + 8 + 4 * self.products.len()
    }
}

/// What answers are compared by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    pub experiment: Option<Arc<str>>,
    pub arm: Arc<str>,
    pub placement: Option<Arc<str>>,
}

impl Cell {
    pub fn is(&self, experiment: Option<&str>, arm: &str, placement: Option<&str>) -> bool {
        self.experiment.as_deref() == experiment
            && *self.arm == *arm
            && self.placement.as_deref() == placement
    }
}

/// One customer, in no order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Customer {
    pub acts: Acts,
    pub shown: Vec<Shown>,
}

impl Customer {
    fn bytes(&self) -> usize {
        let shown: usize = self.shown.iter().map(Shown::bytes).sum();
        CUSTOMER + self.acts.bytes() + shown
    }

    /// Records from `from_ms` on, each kind in an order that the set alone decides.
    pub fn ordered(&self, from_ms: i64) -> (Vec<Act>, Vec<&Shown>) {
        let mut acts: Vec<Act> = self.acts.iter().filter(|act| act.time_ms >= from_ms).collect();
        acts.sort_unstable_by(|a, b| {
            let key = |act: &Act| (act.time_ms, act.step, act.product, act.recommendation);
            key(a).cmp(&key(b)).then(a.value.total_cmp(&b.value))
        });
        let mut shown: Vec<&Shown> = self
            .shown
            .iter()
            .filter(|shown| shown.time_ms >= from_ms)
            .collect();
        shown.sort_unstable_by_key(|shown| (shown.time_ms, shown.recommendation));
        (acts, shown)
    }
}

/// A part of the customers, by the hash of their id.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    customers: BTreeMap<u64, Customer>,
    bytes: usize,
}

impl Shard {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.customers.is_empty()
    }

    /// In the order of their hashes.
    pub(super) fn customers(&self) -> impl ExactSizeIterator<Item = (u64, &Customer)> {
        self.customers.iter().map(|(hash, customer)| (*hash, customer))
    }

    fn known(&mut self, hash: u64) -> &mut Customer {
        self.customers.entry(hash).or_insert_with(|| {
            self.bytes += CUSTOMER;
            Customer::default()
        })
    }

    pub(super) fn act(&mut self, hash: u64, act: Act) {
        let acts = &mut self.known(hash).acts;
        let before = acts.bytes();
        if before < MAX_ACT_BYTES {
            acts.push(act);
            self.bytes += acts.bytes() - before;
        }
    }

    pub(super) fn shown(&mut self, hash: u64, shown: Shown) {
        let customer = self.known(hash);
        // A customer's records come in the order of their time, or once more from where reading was resumed.
        let newer = customer
            .shown
            .iter()
            .rev()
            .take_while(|known| known.time_ms >= shown.time_ms);
        let again = newer
            .into_iter()
            .any(|known| known.recommendation == shown.recommendation);
        if !again && customer.shown.len() < MAX_SHOWN {
            let bytes = shown.bytes();
            customer.shown.push(shown);
            self.bytes += bytes;
        }
    }

    pub(super) fn take(&mut self, hash: u64) -> Option<Customer> {
        let customer = self.customers.remove(&hash)?;
        self.bytes -= customer.bytes();
        Some(customer)
    }

    pub(super) fn add(&mut self, hash: u64, more: Customer) {
        for act in more.acts.iter() {
            self.act(hash, act);
        }
        for shown in more.shown {
            self.shown(hash, shown);
        }
    }

    /// Forgets records before `oldest_ms`, and customers who are not in the sample any more.
    pub(super) fn sweep(&mut self, oldest_ms: i64, halvings: u32) {
        self.customers.retain(|hash, customer| {
            if !super::in_sample(*hash, halvings) {
                return false;
            }
            customer.acts.sweep(oldest_ms);
            customer.shown.retain(|shown| shown.time_ms >= oldest_ms);
            !(customer.acts.is_empty() && customer.shown.is_empty())
        });
        self.bytes = self.customers.values().map(Customer::bytes).sum();
    }
}

/// What is kept at one moment.
#[derive(Clone, Debug)]
pub struct Kept {
    pub(super) shards: Vec<Arc<Shard>>,
    pub(super) names: Vec<Arc<Chunk>>,
    pub(super) cells: Arc<Vec<Cell>>,
    pub(super) newest_ms: i64,
    pub(super) halvings: u32,
}

impl Default for Kept {
    fn default() -> Self {
        super::Insights::default().freeze()
    }
}

/// An answer that was shown, as its customer is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// When, milliseconds since 1970.
    pub time_ms: i64,
    /// The experiment and arm that it was of.
    pub experiment: Option<Arc<str>>,
    /// The arm, or the algorithm where there was no experiment.
    pub arm: Arc<str>,
    /// Where it was shown.
    pub placement: Option<Arc<str>>,
    /// What was shown, best first.
    pub products: Vec<Arc<str>>,
}

impl Kept {
    /// What was shown to a customer, by the [hash](recommender_engine::owner) of their id; newest first.
    pub fn shown_to(&self, owner: u64) -> Vec<Answered> {
        let known = self.shards[super::shard_of(owner)].customers.get(&owner);
        let mut shown: Vec<&Shown> = known.into_iter().flat_map(|customer| &customer.shown).collect();
        shown.sort_unstable_by_key(|shown| std::cmp::Reverse((shown.time_ms, shown.recommendation)));
        let answered = shown.into_iter().filter_map(|shown| {
            let cell = self.cells.get(usize::from(shown.cell))?;
            Some(Answered {
                time_ms: shown.time_ms,
                experiment: cell.experiment.clone(),
                arm: Arc::clone(&cell.arm),
                placement: cell.placement.clone(),
                products: shown.products.iter().map(|n| Arc::clone(self.name(*n))).collect(),
            })
        });
        answered.collect()
    }

    /// All customers, in an order that every replica has.
    pub(super) fn customers(&self) -> impl Iterator<Item = (u64, &Customer)> {
        self.shards.iter().flat_map(|shard| shard.customers())
    }

    /// A product's id.
    pub(super) fn name(&self, product: u32) -> &Arc<str> {
        super::names::name(&self.names, product)
    }
}
