//! What is learned and what is asked in an evaluation.

use std::sync::Arc;

use ahash::AHashSet;

use crate::{event::EventKind, models::shape::Shape};

/// One contact of a customer with a product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Touch {
    /// Index into [`Dataset::products`].
    pub product: u32,
    /// What was done.
    pub kind: EventKind,
    /// Milliseconds since 1970; the position within the line where the data has no times.
    pub time_ms: i64,
}

/// A next item to be found after a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Oldest first.
    pub prefix: Vec<u32>,
    /// What came next.
    pub next: u32,
}

/// What is tested.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Products new to the customer: index into [`Dataset::customers`] and the products to be found.
    Customers(Vec<(usize, Vec<u32>)>),
    /// Next items; nothing is left out of the answer.
    Sessions(Vec<Pair>),
}

impl Task {
    /// How many questions.
    pub fn len(&self) -> usize {
        match self {
            Task::Customers(cases) => cases.len(),
            Task::Sessions(pairs) => pairs.len(),
        }
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Training data and what is asked of a model trained on it.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Names of products; those up to [`Dataset::catalogue`] occur in training.
    pub products: Vec<Arc<str>>,
    /// How many products occur in training: the catalogue that coverage is measured by.
    pub catalogue: usize,
    /// Training histories (or sessions), oldest touch first.
    pub customers: Vec<(Arc<str>, Vec<Touch>)>,
    /// What is tested.
    pub task: Task,
    /// The newest time of training; the time at which questions are asked.
    pub now_ms: i64,
    /// Whether touches carry real times.
    pub timed: bool,
    /// Whether only purchases count as having a product. Not so in data without any: there, whatever is no
    /// return does.
    pub purchases_only: bool,
}

impl Dataset {
    /// Whether an event of this kind makes a product one that the customer has, and is to be found.
    pub fn is_target(&self, kind: EventKind) -> bool {
        is_target(kind, self.purchases_only)
    }

    /// The customers of each product, ascending, by their position.
    pub fn buyers(&self) -> Vec<Vec<u32>> {
        let mut buyers: Vec<Vec<u32>> = vec![Vec::new(); self.products.len()];
        for (customer, (_, touches)) in self.customers.iter().enumerate() {
            for touch in touches.iter().filter(|touch| self.is_target(touch.kind)) {
                let list = &mut buyers[touch.product as usize];
                if list.last() != Some(&(customer as u32)) {
                    list.push(customer as u32);
                }
            }
        }
        buyers
    }

    /// Who has what, in numbers.
    pub(super) fn shape(&self) -> Shape {
        let mut had: AHashSet<u32> = AHashSet::new();
        let (mut customers, mut pairs) = (0, 0);
        for (_, touches) in &self.customers {
            had.clear();
            let has = touches.iter().filter(|touch| self.is_target(touch.kind));
            had.extend(has.map(|touch| touch.product));
            customers += usize::from(!had.is_empty());
            pairs += had.len();
        }
        Shape {
            customers,
            products: self.catalogue,
            pairs,
        }
    }

    /// Counts the products that somebody has.
    pub(super) fn with_catalogue(mut self) -> Dataset {
        let mut had = vec![false; self.products.len()];
        for touch in self.customers.iter().flat_map(|(_, touches)| touches) {
            had[touch.product as usize] |= self.is_target(touch.kind);
        }
        self.catalogue = had.iter().filter(|had| **had).count();
        self
    }
}

pub(super) fn is_target(kind: EventKind, purchases_only: bool) -> bool {
    match kind {
        EventKind::Purchase => true,
        EventKind::View | EventKind::Click | EventKind::Cart => !purchases_only,
        EventKind::Return | EventKind::Email | EventKind::Other => false,
    }
}
