//! How often visits return to what they have seen: what a product of the visit is worth as the next one.
//!
//! Of shoppers who compare, every third next click is on something seen before; who reads books or listens to music hardly
//! goes back. A weight that suits the one spoils the top of the list for the other, so it follows from finished visits,
//! as sums over them: what they are does not depend on the order in which visits came or went.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// What a product of the visit counts at most, and the share of returns to each at which it does.
const REPEAT: (f32, f32) = (3.0, 0.04);
/// The same of the newest product, and of next products that are the same again.
const REPEAT_LAST: (f32, f32) = (1.0, 0.05);
/// As if so many had returned that it counts as much as it can: few visits say little.
const PRIOR: f32 = 1_000.0;

/// Sums over finished visits. One thread writes.
#[derive(Debug, Default)]
pub(crate) struct Returns {
    /// Products that came next.
    steps: AtomicI64,
    /// Of them, those that were the same again.
    stays: AtomicI64,
    /// Products that a visit could have gone back to, at all steps.
    others: AtomicI64,
    /// Of them, those that it went back to.
    backs: AtomicI64,
}

impl Returns {
    /// Takes up a visit, or with -1 takes it back; oldest first.
    pub fn count(&self, products: &[u32], by: i64) {
        let (mut stays, mut others, mut backs, mut distinct) = (0, 0, 0, 0);
        for (at, product) in products.iter().enumerate() {
            // All that were met, but the newest.
            others += (distinct - 1).max(0);
            let known = products[..at].contains(product);
            let same = at > 0 && products[at - 1] == *product;
            stays += i64::from(same);
            backs += i64::from(known && !same);
            distinct += i64::from(!known);
        }
        let steps = products.len().saturating_sub(1) as i64;
        for (sum, of_visit) in [
            (&self.steps, steps),
            (&self.stays, stays),
            (&self.others, others),
            (&self.backs, backs),
        ] {
            sum.store(sum.load(Relaxed) + by * of_visit, Relaxed);
        }
    }

    /// What a product of the visit counts as the next one, against 1 for a product that is new to it.
    pub fn repeat(&self) -> f32 {
        weight(&self.backs, &self.others, REPEAT)
    }

    /// The same of the newest.
    pub fn repeat_last(&self) -> f32 {
        weight(&self.stays, &self.steps, REPEAT_LAST)
    }
}

fn weight(returned: &AtomicI64, of: &AtomicI64, (most, at): (f32, f32)) -> f32 {
    let (returned, of) = (returned.load(Relaxed) as f32, of.load(Relaxed) as f32);
    let rate = (returned + PRIOR * at) / (of + PRIOR);
    most * (rate / at).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_is_told_from_staying_and_from_what_is_new() {
        let returns = Returns::default();
        let sums =
            || [&returns.steps, &returns.stays, &returns.others, &returns.backs].map(|sum| sum.load(Relaxed));
        for (visit, expected) in [
            (&[1, 2, 3][..], [2, 0, 1, 0]),
            (&[1, 1, 1], [2, 2, 0, 0]),
            // One to go back to at each of three steps, and at the last one two.
            (&[1, 2, 1, 1, 3, 2], [5, 1, 5, 2]),
            (&[7], [0; 4]),
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
        assert_eq!(now(), (3.0, 1.0));
        returns.count(&[1, 2, 3], 1);
        assert!(now().0 > 2.9 && now().1 > 0.9, "{:?}", now());
        let visit: Vec<u32> = (0..50).collect();
        (0..1_000).for_each(|_| returns.count(&visit, 1));
        assert!(now().0 < 0.01 && now().1 < 0.03, "{:?}", now());
        (0..1_000).for_each(|_| returns.count(&[1, 1, 2, 1, 2], 1));
        assert!(now().0 < 0.3 && now().1 < 0.7, "{:?}", now());
        (0..1_000).for_each(|_| returns.count(&visit, -1));
        assert_eq!(now(), (3.0, 1.0));
    }
}
