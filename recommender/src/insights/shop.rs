//! What customers do at all: funnel, products, what is bought together, how active customers are.

use std::collections::{BTreeMap, HashMap};

use super::kept::{Act, Kept, Step};
use super::report::{Activity, Funnel, Pair, ProductView, Quality, Rising};
use super::{DAY_MS, DAYS};

/// Pairs of products that are counted; further ones are not, once there are so many.
const MAX_PAIRS: usize = 1_000_000;
/// Products of one customer that pairs are made of.
const MAX_BOUGHT: usize = 50;
/// Customers who do something with a product, fewer than which are no sign of its rising.
const FEWEST_RISING: u64 = 5;
/// Customers a day that every product is given, so that from one to three is no rise of 200 %.
const PRIOR: f64 = 3.0;
/// Customers who bought both, fewer than which are no evidence.
const FEWEST_TOGETHER: u64 = 2;

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    views: u64,
    carts: u64,
    purchases: u64,
    revenue: f64,
    customers: u64,
    buyers: u64,
    /// Customers who did something with it in the last day, and before.
    recent: u64,
    before: u64,
}

/// What one customer did with one product.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    viewed: bool,
    carted: bool,
    bought: bool,
    recent: bool,
    before: bool,
}

/// Gathers customer by customer.
pub(super) struct Shop {
    until_ms: i64,
    products: BTreeMap<u32, Sums>,
    pairs: HashMap<(u32, u32), u64, ahash::RandomState>,
    funnel: Funnel,
    activity: Activity,
    quality: Quality,
    buyers: u64,
}

impl Shop {
    pub fn new(until_ms: i64) -> Self {
        Self {
            until_ms,
            products: BTreeMap::new(),
            pairs: HashMap::default(),
            funnel: Funnel::default(),
            activity: Activity::default(),
            quality: Quality::default(),
            buyers: 0,
        }
    }

    /// One customer's events in the order of time.
    pub fn add(&mut self, acts: &[Act]) {
        if acts.is_empty() {
            return;
        }
        let mut done: BTreeMap<u32, Done> = BTreeMap::new();
        let mut bought: Vec<(u32, i64)> = Vec::new();
        for act in acts {
            let known = done.entry(act.product).or_default();
            let sums = self.products.entry(act.product).or_default();
            let events = &mut self.funnel.events;
            match act.step {
                Step::View | Step::Click => {
                    sums.views += 1;
                    known.viewed = true;
                    match act.step {
                        Step::View => events.view += 1,
                        _ => events.click += 1,
                    }
                }
                Step::Cart => {
                    sums.carts += 1;
                    known.carted = true;
                    events.cart += 1;
                }
                Step::Purchase => {
                    sums.purchases += 1;
                    sums.revenue += act.value.max(0.0);
                    known.bought = true;
                    events.purchase += 1;
                    self.quality.purchases_without_price += u64::from(act.value < 0.0);
                    bought.push((act.product, act.time_ms));
                }
                Step::Return => events.returned += 1,
            }
            if self.until_ms - act.time_ms < DAY_MS {
                known.recent = true;
            } else {
                known.before = true;
            }
        }
        for (product, done) in done {
            let sums = self.products.entry(product).or_default();
            sums.customers += 1;
            sums.buyers += u64::from(done.bought);
            sums.recent += u64::from(done.recent);
            sums.before += u64::from(done.before);
            self.funnel.viewed += u64::from(done.viewed);
            self.funnel.carted += u64::from(done.carted);
            self.funnel.purchased += u64::from(done.bought);
            self.funnel.carted_after_view += u64::from(done.viewed && done.carted);
            self.funnel.purchased_after_cart += u64::from(done.carted && done.bought);
        }
        self.together(&bought);
        self.active(acts, !bought.is_empty());
    }

    /// Each pair that was bought within a day counts once a customer.
    fn together(&mut self, bought: &[(u32, i64)]) {
        self.buyers += u64::from(!bought.is_empty());
        let mut pairs = Vec::new();
        let last = &bought[bought.len().saturating_sub(MAX_BOUGHT)..];
        for (at, (one, time)) in last.iter().enumerate() {
            let later = last[at + 1..]
                .iter()
                .take_while(|(_, later)| later - time <= DAY_MS);
            pairs.extend(
                later
                    .filter(|(other, _)| other != one)
                    .map(|(other, _)| (*one.min(other), *one.max(other))),
            );
        }
        pairs.sort_unstable();
        pairs.dedup();
        for pair in pairs {
            if self.pairs.len() < MAX_PAIRS || self.pairs.contains_key(&pair) {
                *self.pairs.entry(pair).or_default() += 1;
            }
        }
    }

    fn active(&mut self, acts: &[Act], buys: bool) {
        let activity = &mut self.activity;
        activity.customers += 1;
        activity.buyers += u64::from(buys);
        let today = acts
            .last()
            .is_some_and(|act| self.until_ms - act.time_ms < DAY_MS);
        activity.active_in_last_day += u64::from(today);
        let bucket = match acts.len() {
            1 => &mut activity.with_1_event,
            2..=5 => &mut activity.with_2_to_5_events,
            6..=20 => &mut activity.with_6_to_20_events,
            _ => &mut activity.with_more_events,
        };
        *bucket += 1;
    }

    /// The figures; lists have at most `limit` entries. `shows` says what may stand in a list.
    pub fn report(
        self,
        kept: &Kept,
        scale: u64,
        limit: usize,
        days: u8,
        shows: &dyn Fn(&str) -> bool,
        title: &dyn Fn(&str) -> Option<String>,
    ) -> Lists {
        let name = |product: u32| kept.name(product).to_string();
        let mut products: Vec<(&u32, &Sums)> = self.products.iter().collect();
        products.retain(|(product, _)| shows(kept.name(**product)));
        products.sort_unstable_by(|(a, x), (b, y)| {
            let rank = |sums: &Sums| (sums.buyers, sums.customers, sums.views);
            rank(y)
                .cmp(&rank(x))
                .then_with(|| kept.name(**a).cmp(kept.name(**b)))
        });
        let top = products.iter().take(limit).map(|(product, sums)| ProductView {
            product_id: name(**product),
            title: title(kept.name(**product)),
            customers: sums.customers * scale,
            buyers: sums.buyers * scale,
            views: sums.views * scale,
            carts: sums.carts * scale,
            purchases: sums.purchases * scale,
            revenue: sums.revenue * scale as f64,
        });
        let top = top.collect();
        Lists {
            top,
            rising: rising(&products, kept, scale, limit, days, title),
            pairs: self.best_pairs(kept, scale, limit, shows, title),
            funnel: self.funnel.scaled(scale),
            activity: self.activity.scaled(scale),
            quality: Quality {
                purchases_without_price: self.quality.purchases_without_price * scale,
                ..self.quality
            },
        }
    }

    fn best_pairs(
        &self,
        kept: &Kept,
        scale: u64,
        limit: usize,
        shows: &dyn Fn(&str) -> bool,
        title: &dyn Fn(&str) -> Option<String>,
    ) -> Vec<Pair> {
        let mut pairs: Vec<(&(u32, u32), &u64)> = self
            .pairs
            .iter()
            .filter(|((a, b), n)| **n >= FEWEST_TOGETHER && shows(kept.name(*a)) && shows(kept.name(*b)))
            .collect();
        let names = |pair: &(u32, u32)| {
            let (a, b) = (kept.name(pair.0), kept.name(pair.1));
            (a.min(b).clone(), a.max(b).clone())
        };
        pairs.sort_unstable_by(|(a, x), (b, y)| y.cmp(x).then_with(|| names(a).cmp(&names(b))));
        let of = |product: u32| self.products.get(&product).map_or(0, |sums| sums.buyers) as f64;
        let view = |(pair, n): (&(u32, u32), &u64)| {
            let (first, second) = names(pair);
            Pair {
                titles: [title(&first), title(&second)],
                product_ids: [first.to_string(), second.to_string()],
                customers: n * scale,
                lift: *n as f64 * self.buyers as f64 / (of(pair.0) * of(pair.1)).max(1.0),
            }
        };
        pairs.into_iter().take(limit).map(view).collect()
    }
}

/// Products that more customers turn to in the last day than on a day before it.
fn rising(
    products: &[(&u32, &Sums)],
    kept: &Kept,
    scale: u64,
    limit: usize,
    days: u8,
    title: &dyn Fn(&str) -> Option<String>,
) -> Vec<Rising> {
    let before = f64::from(days.clamp(1, DAYS)) - 1.0;
    // In a shop's first day everything is new, which is no news.
    if before < 1.0 || products.iter().all(|(_, sums)| sums.before == 0) {
        return Vec::new();
    }
    let factor = |sums: &Sums| (sums.recent as f64 + PRIOR) / (sums.before as f64 / before + PRIOR);
    let mut found: Vec<_> = products
        .iter()
        .filter(|(_, sums)| sums.recent >= FEWEST_RISING && factor(sums) > 1.0)
        .collect();
    found.sort_by(|(a, x), (b, y)| {
        factor(y)
            .total_cmp(&factor(x))
            .then_with(|| kept.name(**a).cmp(kept.name(**b)))
    });
    let view = |(product, sums): &&(&u32, &Sums)| Rising {
        product_id: kept.name(**product).to_string(),
        title: title(kept.name(**product)),
        customers_in_last_day: sums.recent * scale,
        customers_a_day_before: sums.before as f64 / before * scale as f64,
        factor: factor(sums),
    };
    found.iter().take(limit).map(view).collect()
}

/// What [`Shop::report`] finds.
pub(super) struct Lists {
    pub top: Vec<ProductView>,
    pub rising: Vec<Rising>,
    pub pairs: Vec<Pair>,
    pub funnel: Funnel,
    pub activity: Activity,
    pub quality: Quality,
}
