//! Which answer gets the credit for what a customer did.
//!
//! An event that names an answer counts for that one. Any other counts for the answer that showed its product to its
//! customer last before it. Either way within a day of the answer. A return takes back the last purchase of the product.

use super::CREDIT_MS;
use super::kept::{Act, Shown, Step};

/// How long before an answer was recorded an event that names it may lie: clocks differ.
const SKEW_MS: i64 = 5 * 60 * 1000;

/// What an answer led to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Outcome {
    /// A product of it was looked at or clicked.
    pub clicked: bool,
    /// Something was put into the cart.
    pub carted: bool,
    /// Purchases, less returns.
    pub purchases: u32,
    /// Their price times quantity.
    pub revenue: f64,
}

/// What each answer led to. Both lists are in the order of time.
pub(super) fn credit(acts: &[Act], shown: &[&Shown]) -> Vec<Outcome> {
    let mut outcomes = vec![Outcome::default(); shown.len()];
    // Purchases that nothing has taken back: product, answer, value.
    let mut bought: Vec<(u32, Option<usize>, f64)> = Vec::new();
    for act in acts {
        if act.step == Step::Return {
            if let Some(at) = bought.iter().rposition(|(product, ..)| *product == act.product)
                && let (_, Some(answer), value) = bought.remove(at)
            {
                outcomes[answer].purchases -= 1;
                outcomes[answer].revenue -= value;
            }
            continue;
        }
        let answer = named(act, shown).or_else(|| last_before(act, shown));
        let value = act.value.max(0.0);
        if act.step == Step::Purchase {
            bought.push((act.product, answer, value));
        }
        let Some(answer) = answer else { continue };
        let outcome = &mut outcomes[answer];
        match act.step {
            Step::View | Step::Click => outcome.clicked = true,
            Step::Cart => outcome.carted = true,
            Step::Purchase => {
                outcome.purchases += 1;
                outcome.revenue += value;
            }
            Step::Return => {}
        }
    }
    outcomes
}

fn named(act: &Act, shown: &[&Shown]) -> Option<usize> {
    let within = |shown: &Shown| (-SKEW_MS..=CREDIT_MS).contains(&(act.time_ms - shown.time_ms));
    (act.recommendation != 0)
        .then(|| {
            shown
                .iter()
                .rposition(|shown| shown.recommendation == act.recommendation && within(shown))
        })
        .flatten()
}

fn last_before(act: &Act, shown: &[&Shown]) -> Option<usize> {
    let before = shown.partition_point(|shown| shown.time_ms <= act.time_ms);
    let within = shown[..before]
        .iter()
        .enumerate()
        .rev()
        .take_while(|(_, shown)| act.time_ms - shown.time_ms <= CREDIT_MS);
    within
        .into_iter()
        .find(|(_, shown)| shown.products.contains(&act.product))
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(time_ms: i64, step: Step, product: u32, recommendation: u64, value: f64) -> Act {
        Act {
            time_ms,
            recommendation,
            product,
            step,
            value,
        }
    }

    fn shown(time_ms: i64, recommendation: u64, products: &[u32]) -> Shown {
        Shown {
            time_ms,
            recommendation,
            cell: 0,
            products: products.into(),
        }
    }

    #[test]
    fn the_answer_that_an_event_names_comes_before_the_one_that_showed_its_product_last() {
        let (first, second) = (shown(0, 1, &[7]), shown(10, 2, &[7]));
        let answers = [&first, &second];
        let outcomes = credit(
            &[
                act(20, Step::Purchase, 7, 1, 5.0),
                act(21, Step::Purchase, 7, 0, 3.0),
                act(22, Step::Click, 9, 2, 0.0),
                act(23, Step::Click, 9, 0, 0.0),
                // Nobody knows this answer: by its product.
                act(24, Step::Cart, 7, 99, 0.0),
            ],
            &answers,
        );
        assert_eq!((outcomes[0].revenue, outcomes[0].clicked), (5.0, false));
        assert_eq!(
            (outcomes[1].revenue, outcomes[1].clicked, outcomes[1].carted),
            (3.0, true, true)
        );
    }

    #[test]
    fn credit_lasts_a_day_and_does_not_reach_back() {
        let answer = shown(1_000_000, 1, &[7]);
        let revenue = |time_ms, recommendation| {
            credit(
                &[act(time_ms, Step::Purchase, 7, recommendation, 1.0)],
                &[&answer],
            )[0]
            .revenue
        };
        assert_eq!(revenue(999_999, 0), 0.0);
        assert_eq!(revenue(999_999, 1), 1.0, "its own clock");
        assert_eq!(revenue(1_000_000 + CREDIT_MS, 0), 1.0);
        assert_eq!(revenue(1_000_001 + CREDIT_MS, 0), 0.0);
        assert_eq!(revenue(1_000_001 + CREDIT_MS, 1), 0.0);
    }

    #[test]
    fn a_return_takes_back_the_last_purchase_of_its_product() {
        let (answer, other) = (shown(0, 1, &[7]), shown(5, 2, &[8]));
        let outcomes = credit(
            &[
                act(1, Step::Purchase, 7, 0, 5.0),
                act(2, Step::Purchase, 7, 0, 4.0),
                act(6, Step::Purchase, 8, 0, 2.0),
                act(7, Step::Return, 7, 0, 0.0),
                act(8, Step::Return, 9, 0, 0.0),
            ],
            &[&answer, &other],
        );
        assert_eq!((outcomes[0].purchases, outcomes[0].revenue), (1, 5.0));
        assert_eq!((outcomes[1].purchases, outcomes[1].revenue), (1, 2.0));
    }

    #[test]
    fn a_purchase_without_a_price_is_a_purchase_of_nothing() {
        let answer = shown(0, 1, &[7]);
        let outcome = credit(&[act(1, Step::Purchase, 7, 0, Act::UNPRICED)], &[&answer])[0];
        assert_eq!((outcome.purchases, outcome.revenue), (1, 0.0));
    }
}
