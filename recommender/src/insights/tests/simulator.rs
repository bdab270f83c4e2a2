//! A shop that is made up by a law, whose truth is known: what each customer does, and why.
//!
//! Customers differ: some come once, some every day, some buy at each visit and most hardly ever. Answers to one of
//! them hang together, as they do in a real shop.

use recommendation_api::config::RecommenderConfig;
use recommendation_api::model::Algorithm as Named;
use recommendation_api::pipeline::recommender::{ExperimentArm, ExperimentSpec};
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::experiments::Experiments;

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    /// Even in 0..1.
    fn share(&mut self) -> f64 {
        self.0 = xxh3_64(&self.0.to_le_bytes());
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.share() * n as f64) as u64
    }
}

/// What really happened in an arm.
#[derive(Clone, Debug, Default, PartialEq)]
struct Truth {
    customers: u64,
    answers: u64,
    purchases: u64,
    buyers: u64,
    revenue: f64,
}

struct Simulated {
    report: Report,
    /// Of the control, of the other arm.
    truth: [Truth; 2],
}

/// A week of a shop with an experiment of two equal arms. In the second one recommendations lead to purchases `lift`
/// times as often.
fn week(name: &str, customers: u64, lift: f64) -> Simulated {
    let arm = |percent| ExperimentArm {
        algorithm: Named::Hybrid,
        percent,
    };
    let experiments = Experiments::new(&RecommenderConfig {
        experiments: vec![ExperimentSpec {
            name: name.into(),
            arms: vec![arm(50), arm(50)],
        }],
        ..RecommenderConfig::default()
    })
    .unwrap();
    let mut dice = Dice(xxh3_64(name.as_bytes()));
    let mut insights = Insights::default();
    let mut truth = [Truth::default(), Truth::default()];
    for n in 0..customers {
        let customer = format!("{name} {n}");
        let arm = experiments.assign(&customer).unwrap().arm;
        let second = usize::from(*arm == *"Hybrid-2");
        let effect = if second == 1 { lift } else { 1.0 };
        // A few come very often, and those who buy at all buy often.
        let visits = 1 + (3.0 * -dice.share().max(1e-9).ln().min(9.0)) as u64;
        let buys = 0.3 * dice.share().powi(4);
        let clicks = 0.6 * dice.share().powi(2);
        let mut bought = 0;
        for visit in 0..visits {
            let at = NOW + (visit * 6 * DAY_MS as u64 / visits) as i64 + dice.below(HOUR_MS as u64) as i64;
            let items: Vec<String> = (0..5).map(|_| format!("p{}", dice.below(300))).collect();
            let items: Vec<&str> = items.iter().map(String::as_str).collect();
            let id = format!("{customer} {visit}");
            show(
                &mut insights,
                &impression(&id, &customer, &arm, Some("home"), at, &items).within(name),
            );
            truth[second].answers += 1;
            if dice.share() < clicks {
                act(
                    &mut insights,
                    &event(&customer, items[1], "click", Some(&id), None),
                    at + 1_000,
                );
            }
            if dice.share() < buys * effect {
                let price = 1.0 + dice.below(50) as f64;
                // Some events name the answer and some do not; both count.
                let named = (dice.share() < 0.5).then_some(id.as_str());
                let later = 2_000 + dice.below(12 * HOUR_MS as u64) as i64;
                // Within half a day no other answer shows the same product to the same customer, or it would count
                // for that one, which is of the same arm.
                act(
                    &mut insights,
                    &event(&customer, items[0], "purchase", named, Some(price)),
                    at + later,
                );
                bought += 1;
                truth[second].revenue += price;
            }
            if dice.share() < 0.1 {
                // What they would have bought anyway: never shown, or long after.
                let organic = format!("o{}", dice.below(100));
                act(
                    &mut insights,
                    &event(&customer, &organic, "purchase", None, Some(20.0)),
                    at + 3_000,
                );
            }
        }
        truth[second].customers += 1;
        truth[second].purchases += bought;
        truth[second].buyers += u64::from(bought > 0);
    }
    let report = insights.freeze().report(&Ask {
        days: 7,
        limit: 1,
        control: &|experiment| experiments.control(experiment),
        shows: &|_| true,
        title: &|_| None,
    });
    Simulated { report, truth }
}

trait Within {
    fn within(self, experiment: &str) -> Self;
}

impl Within for Impression {
    fn within(self, experiment: &str) -> Self {
        Self {
            experiment: Some(experiment.to_owned()),
            ..self
        }
    }
}

#[test]
fn what_is_told_of_each_arm_is_the_simulators_truth() {
    let Simulated { report, truth } = week("truth", 2_000, 1.5);
    let arms: Vec<_> = report.experiments[0]
        .arms
        .iter()
        .filter(|arm| arm.placement.is_none())
        .collect();
    assert_eq!(arms.len(), 2);
    for (arm, truth) in arms.into_iter().zip(truth) {
        let told = Truth {
            customers: arm.customers,
            answers: arm.answers,
            purchases: arm.purchases,
            buyers: arm.converted_customers,
            revenue: arm.revenue,
        };
        assert!(truth.revenue > 1_000.0, "the simulator does something");
        assert_eq!(told, truth, "{}", arm.arm);
    }
}

#[test]
fn between_equal_arms_there_is_no_significant_difference_in_about_95_of_100_experiments() {
    let runs = 200;
    let mut found = [0; 3];
    for run in 0..runs {
        let report = week(&format!("aa {run}"), 400, 1.0).report;
        let comparison = &report.experiments[0].comparisons[0];
        for (count, metric) in found.iter_mut().zip([
            comparison.conversion,
            comparison.click_through,
            comparison.revenue_per_customer,
        ]) {
            *count += u32::from(metric.significant);
        }
    }
    println!("significant in {found:?} of {runs} (conversion, click-through, revenue)");
    // Ten of two hundred are expected; further out than this is chance once in some thousand.
    assert!(
        found.iter().all(|count| (1..=21).contains(count)),
        "{found:?} of {runs}"
    );
}

#[test]
fn a_planted_lift_is_found_with_its_size() {
    let runs = 20;
    let (mut found, mut covered) = (0, 0);
    for run in 0..runs {
        let Simulated { report, truth } = week(&format!("ab {run}"), 2_500, 1.8);
        let conversion = report.experiments[0].comparisons[0].conversion;
        let rate = |truth: &Truth| truth.buyers as f64 / truth.customers as f64;
        let really = rate(&truth[1]) - rate(&truth[0]);
        assert!((conversion.difference - really).abs() < 1e-9);
        found += u32::from(conversion.significant && conversion.difference > 0.0);
        covered += u32::from(conversion.low.unwrap() < really && really < conversion.high.unwrap());
    }
    println!("a lift of 1.8 was found in {found} of {runs}");
    assert!(found >= 18, "{found} of {runs}");
    assert_eq!(covered, runs);
}
