//! Validation sets cut from training data alone.

use std::sync::Arc;

use ahash::AHashSet;

use super::data::{Dataset, Pair, Task, Touch};

/// Of customers without times, one product in this many is held out (as common test splits do).
const HELD_OUT: u64 = 5;
/// The last share of sessions that is held out.
const SESSIONS: usize = 20;
/// The last share of time that is held out.
const TIME: i64 = 11;
/// Questions are thinned out to about this many. On recall of a tenth to a half, differences of a hundredth
/// of it are then seen: the same questions are asked of everyone.
const QUESTIONS: usize = 5_000;
/// With fewer questions than this, chance decides.
const FEW: usize = 500;

impl Dataset {
    /// Training data without a part of it, and that part as the task: what hyper-parameters are chosen by.
    /// The task of `self` is not looked at, except for its kind. Of timed data it is the last part: what
    /// comes next is most like it. If that asks too little there is a second set, of the time before. Sets
    /// without questions are left out.
    pub fn validations(&self) -> Vec<Dataset> {
        let mut parts = match (&self.task, self.timed) {
            (Task::Sessions(_), _) => vec![self.last_sessions()],
            (Task::Customers(_), true) => vec![self.days(self.now_ms - self.span(), i64::MAX)],
            (Task::Customers(_), false) => vec![self.some_products()],
        };
        if self.timed && parts[0].1.len() < FEW {
            let to_ms = self.now_ms - self.span();
            parts.push(self.days(to_ms - self.span(), to_ms));
        }
        let sets = parts.into_iter().map(|(customers, mut task)| {
            match &mut task {
                Task::Customers(cases) => thin(cases),
                Task::Sessions(pairs) => thin(pairs),
            }
            self.part(customers, task)
        });
        sets.filter(|set| !set.task.is_empty()).collect()
    }

    /// The time that is held out.
    fn span(&self) -> i64 {
        (self.now_ms - self.oldest_ms()) / TIME
    }

    fn part(&self, customers: Customers, task: Task) -> Dataset {
        let touches = || customers.iter().flat_map(|(_, touches)| touches);
        Dataset {
            products: self.products.clone(),
            now_ms: touches().map(|touch| touch.time_ms).max().unwrap_or_default(),
            catalogue: 0,
            customers,
            task,
            timed: self.timed,
            purchases_only: self.purchases_only,
        }
        .with_catalogue()
    }

    fn oldest_ms(&self) -> i64 {
        let touches = self.customers.iter().flat_map(|(_, touches)| touches);
        touches.map(|touch| touch.time_ms).min().unwrap_or_default()
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

    /// Learned is what came before `from_ms`; asked about is what is new to a customer from then until
    /// `to_ms`.
    fn days(&self, from_ms: i64, to_ms: i64) -> (Customers, Task) {
        let mut sold: AHashSet<u32> = AHashSet::new();
        let (mut kept, mut later) = (Vec::new(), Vec::new());
        let target = |touch: &&Touch| self.is_target(touch.kind);
        for (name, touches) in &self.customers {
            let cut = touches.partition_point(|touch| touch.time_ms < from_ms);
            let end = touches.partition_point(|touch| touch.time_ms < to_ms);
            sold.extend(touches[..cut].iter().filter(target).map(|touch| touch.product));
            kept.push((Arc::clone(name), touches[..cut].to_vec()));
            later.push(&touches[cut..end.max(cut)]);
        }
        let mut cases = Vec::new();
        for (at, later) in later.into_iter().enumerate() {
            let before = kept[at].1.iter().filter(target);
            let owned: AHashSet<u32> = before.map(|touch| touch.product).collect();
            let new = |product: &u32| sold.contains(product) && !owned.contains(product);
            let then = later.iter().filter(target).map(|touch| touch.product);
            let mut wanted: Vec<u32> = then.filter(new).collect();
            wanted.sort_unstable();
            wanted.dedup();
            if !wanted.is_empty() && !owned.is_empty() {
                cases.push((at, wanted));
            }
        }
        (kept, Task::Customers(cases))
    }

    /// Of as many customers as there shall be questions (half of all, where there are few) some products are
    /// held out; the others keep all, so that what is learned from is nearly as dense as the whole.
    fn some_products(&self) -> (Customers, Task) {
        let (mut kept, mut cases) = (Vec::new(), Vec::new());
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let able = |touches: &[Touch]| touches.len() >= HELD_OUT as usize;
        let candidates = self.customers.iter().filter(|(_, touches)| able(touches)).count();
        let one_in = candidates.div_ceil(QUESTIONS).max(2) as u64;
        for (at, (name, touches)) in self.customers.iter().enumerate() {
            let asked = able(touches) && hasher.hash_one(at).is_multiple_of(one_in);
            let held =
                |touch: &&Touch| asked && hasher.hash_one((at, touch.product)).is_multiple_of(HELD_OUT);
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

/// A sample of the questions, in an order of chance that is the same every time: a part from the
/// front is a sample of its own.
fn thin<T>(questions: &mut Vec<T>) {
    let hasher = ahash::RandomState::with_seeds(5, 6, 7, 8);
    let mut numbered: Vec<(u64, T)> = questions
        .drain(..)
        .enumerate()
        .map(|(at, question)| (hasher.hash_one(at), question))
        .collect();
    numbered.sort_unstable_by_key(|(number, _)| *number);
    questions.extend(numbered.into_iter().take(QUESTIONS).map(|(_, question)| question));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{parse_events, parse_interactions, parse_sessions};

    #[test]
    fn what_is_held_out_is_not_in_the_training_part() {
        let lines: Vec<String> = (0..50)
            .map(|user| {
                let items: Vec<String> = (0..20).map(|item| (user * 7 + item * 3).to_string()).collect();
                format!("{user} {}", items.join(" "))
            })
            .collect();
        let data = parse_interactions(&lines.join("\n"), "0 1").unwrap();
        let validation = data.validations().remove(0);
        let Task::Customers(cases) = &validation.task else {
            panic!("customers stay customers")
        };
        let held: usize = cases.iter().map(|(_, wanted)| wanted.len()).sum();
        assert!((60..150).contains(&held), "{held}");
        assert!(cases.len() < 40, "some keep everything");
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
        let validation = parse_sessions(&text, "1\t2").unwrap().validations();
        assert_eq!((validation[0].customers.len(), validation[0].task.len()), (57, 6));
    }

    #[test]
    fn the_last_days_and_those_before_are_asked_about_by_what_came_before_them() {
        let event = |customer: &str, product: &str, day: u32| {
            format!(
                r#"{{"customer_id":"{customer}","product_id":"{product}","event_type":"purchase","timestamp":"2011-01-{day:02}T00:00:00Z"}}"#
            )
        };
        let text = [
            event("ann", "mug", 1),
            event("bob", "cup", 2),
            event("bob", "jar", 3),
            event("ann", "cup", 20),
            event("ann", "jar", 23),
            event("ann", "mug", 23),
            event("ann", "lid", 30),
            event("bob", "lid", 30),
        ]
        .join("\n");
        let split = crate::eval::instant::instant("2011-01-24T00:00:00Z").unwrap();
        let sets = parse_events(&text, split).unwrap_err();
        assert_eq!(sets.to_string(), "no test data");
        let text = text.replace("lid", "mug");
        let data = parse_events(&text, split).unwrap();
        let sets = data.validations();
        // Twenty-two days of training: the last two, and the two before them (from the 19th on).
        let id = |name: &str| data.products.iter().position(|known| &**known == name).unwrap() as u32;
        assert_eq!(sets[0].task, Task::Customers(vec![(0, vec![id("jar")])]));
        assert_eq!(sets[1].task, Task::Customers(vec![(0, vec![id("cup")])]));
        assert_eq!(sets[1].customers[0].1.len(), 1);
    }
}
