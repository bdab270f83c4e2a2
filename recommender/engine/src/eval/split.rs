//! A validation set cut from training data alone.

use std::sync::Arc;

use ahash::AHashSet;

use super::data::{Dataset, Pair, Task, Touch};
use crate::event::EventKind;

/// Of customers without times, one product in this many is held out (as common test splits do).
const HELD_OUT: u64 = 5;
/// The last share of sessions and of time that is held out.
const SESSIONS: usize = 30;
const TIME: i64 = 11;
/// Questions are thinned out to about this many.
const QUESTIONS: usize = 4_000;

impl Dataset {
    /// Training data without its last part, and that part as the task. The task of `self` is not looked at,
    /// except for its kind.
    pub fn validation(&self) -> Dataset {
        let (customers, mut task) = match (&self.task, self.timed) {
            (Task::Sessions(_), _) => self.last_sessions(),
            (Task::Customers(_), true) => self.last_days(),
            (Task::Customers(_), false) => self.some_products(),
        };
        match &mut task {
            Task::Customers(cases) => thin(cases),
            Task::Sessions(pairs) => thin(pairs),
        }
        let newest = customers
            .iter()
            .flat_map(|(_, touches)| touches)
            .map(|touch| touch.time_ms)
            .max();
        let mut known = vec![false; self.products.len()];
        for touch in customers.iter().flat_map(|(_, touches)| touches) {
            known[touch.product as usize] |= touch.kind != EventKind::Return;
        }
        Dataset {
            products: self.products.clone(),
            catalogue: known.iter().filter(|known| **known).count(),
            customers,
            task,
            now_ms: newest.unwrap_or_default(),
            timed: self.timed,
        }
    }

    fn last_sessions(&self) -> (Customers, Task) {
        let cut = self.customers.len() - self.customers.len() / SESSIONS;
        let mut pairs = Vec::new();
        for (_, touches) in &self.customers[cut..] {
            let products: Vec<u32> = touches.iter().map(|touch| touch.product).collect();
            pairs.extend((1..products.len()).map(|at| Pair {
                prefix: products[..at].to_vec(),
                next: products[at],
            }));
        }
        (self.customers[..cut].to_vec(), Task::Sessions(pairs))
    }

    fn last_days(&self) -> (Customers, Task) {
        let times = || {
            self.customers
                .iter()
                .flat_map(|(_, touches)| touches)
                .map(|touch| touch.time_ms)
        };
        let oldest = times().min().unwrap_or_default();
        let split_ms = self.now_ms - (self.now_ms - oldest) / TIME;
        let purchase = |touch: &&Touch| touch.kind == EventKind::Purchase;
        let mut sold: AHashSet<u32> = AHashSet::new();
        let (mut kept, mut later) = (Vec::new(), Vec::new());
        for (name, touches) in &self.customers {
            let cut = touches.partition_point(|touch| touch.time_ms < split_ms);
            sold.extend(touches[..cut].iter().filter(purchase).map(|touch| touch.product));
            kept.push((Arc::clone(name), touches[..cut].to_vec()));
            later.push(&touches[cut..]);
        }
        let mut cases = Vec::new();
        for (at, later) in later.into_iter().enumerate() {
            let owned: AHashSet<u32> = kept[at]
                .1
                .iter()
                .filter(purchase)
                .map(|touch| touch.product)
                .collect();
            let new = |product: &u32| sold.contains(product) && !owned.contains(product);
            let mut wanted: Vec<u32> = later
                .iter()
                .filter(purchase)
                .map(|touch| touch.product)
                .filter(new)
                .collect();
            wanted.sort_unstable();
            wanted.dedup();
            if !wanted.is_empty() && !owned.is_empty() {
                cases.push((at, wanted));
            }
        }
        (kept, Task::Customers(cases))
    }

    fn some_products(&self) -> (Customers, Task) {
        let (mut kept, mut cases) = (Vec::new(), Vec::new());
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        for (at, (name, touches)) in self.customers.iter().enumerate() {
            let held = |touch: &&Touch| {
                touches.len() >= HELD_OUT as usize
                    && hasher.hash_one((at, touch.product)).is_multiple_of(HELD_OUT)
            };
            let mut wanted: Vec<u32> = touches.iter().filter(held).map(|touch| touch.product).collect();
            wanted.sort_unstable();
            wanted.dedup();
            kept.push((
                Arc::clone(name),
                touches.iter().filter(|touch| !held(touch)).copied().collect(),
            ));
            if !wanted.is_empty() {
                cases.push((at, wanted));
            }
        }
        (kept, Task::Customers(cases))
    }
}

type Customers = Vec<(Arc<str>, Vec<Touch>)>;

fn thin<T>(questions: &mut Vec<T>) {
    let step = questions.len().div_ceil(QUESTIONS).max(1);
    let mut at = 0;
    questions.retain(|_| {
        at += 1;
        (at - 1) % step == 0
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{parse_interactions, parse_sessions};

    #[test]
    fn what_is_held_out_is_not_in_the_training_part() {
        let lines: Vec<String> = (0..50)
            .map(|user| {
                let items: Vec<String> = (0..20).map(|item| (user * 7 + item * 3).to_string()).collect();
                format!("{user} {}", items.join(" "))
            })
            .collect();
        let data = parse_interactions(&lines.join("\n"), "0 1").unwrap();
        let validation = data.validation();
        let Task::Customers(cases) = &validation.task else {
            panic!("customers stay customers")
        };
        let held: usize = cases.iter().map(|(_, wanted)| wanted.len()).sum();
        assert!((150..250).contains(&held), "{held}");
        for (customer, wanted) in cases {
            let kept = &validation.customers[*customer].1;
            assert!(kept.iter().all(|touch| !wanted.contains(&touch.product)));
            assert_eq!(kept.len() + wanted.len(), 20);
        }
    }

    #[test]
    fn the_last_sessions_become_pairs() {
        let text = (0..60)
            .map(|n| format!("{n} {} {}", n + 1, n + 2))
            .collect::<Vec<_>>()
            .join("\n");
        let validation = parse_sessions(&text, "1\t2").unwrap().validation();
        assert_eq!((validation.customers.len(), validation.task.len()), (58, 4));
    }
}
