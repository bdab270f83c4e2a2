//! How often visits return to what they have seen: what a product of the visit is worth as the next one.
//!
//! Of shoppers who compare, every third next click is on something seen before; who reads books or listens to music hardly
//! goes back. A weight that suits the one spoils the top of the list for the other, so it follows from finished visits,
//! as sums over them: what they are does not depend on the order in which visits came or went.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// A weight that grows with the share of next products that are returns.
struct Rule {
    /// What it is at most.
    most: f32,
    /// Up to this share it is 0.
    from: f32,
    /// From this share on it is as large as it can be.
    to: f32,
}

/// Of a product of the visit that is not its newest.
const REPEAT: Rule = Rule {
    most: 3.0,
    from: 0.01,
    to: 0.14,
};
/// Of the newest, which comes again where it is put into the cart or bought, too.
const REPEAT_LAST: Rule = Rule {
    most: 1.0,
    from: 0.0,
    to: 0.05,
};
/// Counted as if so many products had come next before, at the share from which on the weight is full: few visits say
/// little.
const PRIOR: f32 = 200.0;
/// Of a visit, its last so many products are asked whether they are returns: no order of hundreds decides for all.
const ASKED: usize = 20;
/// Counted are returns to one of so many products before: in a long visit nearly everything was met at some time.
const BACK: usize = 10;

/// Sums over finished visits. One thread writes.
#[derive(Debug, Default)]
pub(crate) struct Returns {
    /// Products that came next.
    steps: AtomicI64,
    /// Of them, those that were the same again.
    stays: AtomicI64,
    /// Products that came next where there was another to go back to than the one before.
    chances: AtomicI64,
    /// Of them, those that went back.
    backs: AtomicI64,
}

impl Returns {
    /// Takes up a visit, or with -1 takes it back; oldest first.
    pub fn count(&self, products: &[u32], by: i64) {
        let (mut steps, mut stays, mut chances, mut backs) = (0, 0, 0, 0);
        for at in products.len().saturating_sub(ASKED).max(1)..products.len() {
            let before = &products[at.saturating_sub(BACK)..at];
            let same = before.last() == Some(&products[at]);
            steps += 1;
            stays += i64::from(same);
            chances += i64::from(before.iter().any(|product| Some(product) != before.last()));
            backs += i64::from(!same && before.contains(&products[at]));
        }
        for (sum, of_visit) in [
            (&self.steps, steps),
            (&self.stays, stays),
            (&self.chances, chances),
            (&self.backs, backs),
        ] {
            sum.store(sum.load(Relaxed) + by * of_visit, Relaxed);
        }
    }

    /// What a product of the visit counts as the next one, against 1 for a product that is new to it.
    pub fn repeat(&self) -> f32 {
        weight(&self.backs, &self.chances, &REPEAT)
    }

    /// The same of the newest.
    pub fn repeat_last(&self) -> f32 {
        weight(&self.stays, &self.steps, &REPEAT_LAST)
    }
}

fn weight(returned: &AtomicI64, of: &AtomicI64, rule: &Rule) -> f32 {
    let (returned, of) = (returned.load(Relaxed) as f32, of.load(Relaxed) as f32);
    let share = (returned + PRIOR * rule.to) / (of + PRIOR);
    rule.most * ((share - rule.from) / (rule.to - rule.from)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_is_told_from_staying_and_from_what_is_new() {
        let returns = Returns::default();
        let sums = || {
            let sums = [&returns.steps, &returns.stays, &returns.chances, &returns.backs];
            sums.map(|sum| sum.load(Relaxed))
        };
        let long: Vec<u32> = (0..99).chain([97, 88]).collect();
        for (visit, expected) in [
            (&[1, 2, 3][..], [2, 0, 1, 0]),
            (&[1, 1, 1], [2, 2, 0, 0]),
            (&[1, 2, 1, 1, 3, 2], [5, 1, 4, 2]),
            (&[7], [0; 4]),
            (&[], [0; 4]),
            // The last twenty, and of them the one that was met within ten.
            (&long, [20, 0, 20, 1]),
        ] {
            returns.count(visit, 1);
            assert_eq!(sums(), expected, "{visit:?}");
            returns.count(visit, -1);
            assert_eq!(sums(), [0; 4]);
        }
    }

    #[test]
    fn who_never_returns_is_shown_what_is_new_and_few_visits_say_little() {
        let returns = Returns::default();
        let now = || (returns.repeat(), returns.repeat_last());
        let many = |visit: &[u32], by: i64| (0..1_000).for_each(|_| returns.count(visit, by));
        assert_eq!(now(), (3.0, 1.0));
        let order: Vec<u32> = (0..100).collect();
        returns.count(&order, 1);
        assert!(now().0 > 2.6 && now().1 > 0.9, "{:?}", now());
        many(&order, 1);
        assert!(now().0 == 0.0 && now().1 < 0.02, "{:?}", now());
        // Every fourth time, and for every such visit one order.
        many(&[1, 2, 3, 1, 4], 1);
        assert!((0.4..2.0).contains(&now().0), "{:?}", now());
        many(&order, -1);
        returns.count(&order, -1);
        assert!(now().0 == 3.0 && now().1 < 1.0, "{:?}", now());
        many(&[1, 2, 3, 1, 4], -1);
        assert_eq!(now(), (3.0, 1.0));
    }
}
