//! Figures of experiments' arms and of placements.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::credit::Outcome;
use super::kept::{Cell, Shown};
use super::report::{ArmView, Comparison, Estimate, ExperimentView, MetricDifference};
use super::stats::{self, ALPHA, Difference, Moments};

/// What is summed of an arm, or of an arm in a placement.
#[derive(Clone, Debug, Default)]
struct Sums {
    customers: u64,
    answers: u64,
    clicked: u64,
    carted: u64,
    converted_customers: u64,
    purchases: u64,
    revenue: f64,
    /// Answers that were clicked, of answers.
    clicks: Moments,
    /// Revenue, of customers.
    spent: Moments,
}

/// One customer's part of it.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    answers: u64,
    clicked: u64,
    carted: u64,
    purchases: u64,
    revenue: f64,
}

impl Part {
    fn add(&mut self, outcome: &Outcome) {
        self.answers += 1;
        self.clicked += u64::from(outcome.clicked);
        self.carted += u64::from(outcome.carted);
        self.purchases += u64::from(outcome.purchases);
        self.revenue += outcome.revenue;
    }
}

impl Sums {
    fn add(&mut self, part: &Part) {
        self.customers += 1;
        self.answers += part.answers;
        self.clicked += part.clicked;
        self.carted += part.carted;
        self.converted_customers += u64::from(part.purchases > 0);
        self.purchases += part.purchases;
        self.revenue += part.revenue;
        self.clicks.add(part.answers as f64, part.clicked as f64);
        self.spent.add(1.0, part.revenue);
    }
}

/// An arm: its experiment and its name.
type ArmKey = (Option<Arc<str>>, Arc<str>);

/// Gathers customer by customer.
#[derive(Default)]
pub(super) struct Arms {
    cells: BTreeMap<u16, Sums>,
    arms: BTreeMap<ArmKey, Sums>,
}

impl Arms {
    /// One customer's answers and what each led to.
    pub fn add(&mut self, cells: &[Cell], shown: &[&Shown], outcomes: &[Outcome]) {
        let mut by_cell: BTreeMap<u16, Part> = BTreeMap::new();
        for (shown, outcome) in shown.iter().zip(outcomes) {
            by_cell.entry(shown.cell).or_default().add(outcome);
        }
        let mut by_arm: BTreeMap<ArmKey, Part> = BTreeMap::new();
        for (cell, part) in by_cell {
            self.cells.entry(cell).or_default().add(&part);
            let Some(cell) = cells.get(usize::from(cell)) else {
                continue;
            };
            let of_arm = by_arm
                .entry((cell.experiment.clone(), Arc::clone(&cell.arm)))
                .or_default();
            of_arm.answers += part.answers;
            of_arm.clicked += part.clicked;
            of_arm.carted += part.carted;
            of_arm.purchases += part.purchases;
            of_arm.revenue += part.revenue;
        }
        for (arm, part) in by_arm {
            self.arms.entry(arm).or_default().add(&part);
        }
    }

    /// The figures: experiments by name, and before them what is part of none. `control` tells the arm that the others
    /// of an experiment are compared with; counts are of `scale` times as many customers as were looked at.
    pub fn report(
        &self,
        cells: &[Cell],
        scale: u64,
        control: &dyn Fn(&str) -> Option<Arc<str>>,
    ) -> Vec<ExperimentView> {
        let mut found: BTreeMap<Option<Arc<str>>, ExperimentView> = BTreeMap::new();
        for ((experiment, arm), sums) in &self.arms {
            let view = found.entry(experiment.clone()).or_insert_with(|| ExperimentView {
                name: experiment.as_deref().map(str::to_owned),
                control: None,
                arms: Vec::new(),
                comparisons: Vec::new(),
            });
            view.arms.push(arm_view(arm, None, sums, scale));
            let mut places: Vec<(&Cell, &Sums)> = self
                .cells
                .iter()
                .filter_map(|(number, sums)| Some((cells.get(usize::from(*number))?, sums)))
                .filter(|(cell, _)| cell.experiment == *experiment && cell.arm == *arm)
                .collect();
            places.sort_by_key(|(cell, _)| *cell);
            let named = places.into_iter().map(|(cell, sums)| {
                let placement = cell.placement.as_deref().unwrap_or("unspecified");
                arm_view(arm, Some(placement), sums, scale)
            });
            view.arms.extend(named);
        }
        for (experiment, view) in &mut found {
            let Some(name) = experiment else { continue };
            self.compare(experiment, control(name), view);
        }
        found.into_values().collect()
    }

    fn compare(&self, experiment: &Option<Arc<str>>, control: Option<Arc<str>>, view: &mut ExperimentView) {
        let arms: Vec<(&Arc<str>, &Sums)> = self
            .arms
            .iter()
            .filter(|((of, _), _)| of == experiment)
            .map(|((_, arm), sums)| (arm, sums))
            .collect();
        // Of an experiment that is configured no more: the arm with the most customers, of several the first by name.
        let largest = || arms.iter().rev().max_by_key(|(_, sums)| sums.customers);
        let Some((control, base)) = control
            .and_then(|control| arms.iter().find(|(arm, _)| **arm == control))
            .or_else(largest)
            .copied()
        else {
            return;
        };
        view.control = Some(control.to_string());
        let others: Vec<_> = arms.iter().filter(|(arm, _)| *arm != control).collect();
        // Bonferroni: of twenty comparisons without a difference one would be significant otherwise.
        let alpha = ALPHA / others.len().max(1) as f64;
        for (arm, sums) in others {
            let conversion = stats::compare_shares(
                (base.converted_customers, base.customers),
                (sums.converted_customers, sums.customers),
            );
            view.comparisons.push(Comparison {
                arm: arm.to_string(),
                control: control.to_string(),
                click_through: metric(stats::compare(base.clicks.ratio(), sums.clicks.ratio()), alpha),
                conversion: metric(conversion, alpha),
                revenue_per_customer: metric(stats::compare(base.spent.ratio(), sums.spent.ratio()), alpha),
            });
        }
    }
}

fn metric(found: Difference, alpha: f64) -> MetricDifference {
    MetricDifference {
        difference: found.difference.value,
        low: found.difference.ends.map(|ends| ends.0),
        high: found.difference.ends.map(|ends| ends.1),
        p_value: found.p_value,
        significant: found.p_value.is_some_and(|p| p < alpha),
    }
}

fn arm_view(arm: &str, placement: Option<&str>, sums: &Sums, scale: u64) -> ArmView {
    let estimate = |interval: stats::Interval| Estimate {
        value: interval.value,
        low: interval.ends.map(|ends| ends.0),
        high: interval.ends.map(|ends| ends.1),
    };
    ArmView {
        arm: arm.to_owned(),
        placement: placement.map(str::to_owned),
        customers: sums.customers * scale,
        answers: sums.answers * scale,
        clicked_answers: sums.clicked * scale,
        carted_answers: sums.carted * scale,
        purchases: sums.purchases * scale,
        converted_customers: sums.converted_customers * scale,
        revenue: sums.revenue * scale as f64,
        click_through: estimate(sums.clicks.ratio()),
        conversion: estimate(stats::share(sums.converted_customers, sums.customers)),
        revenue_per_customer: estimate(sums.spent.ratio()),
    }
}
