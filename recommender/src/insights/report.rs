//! The figures as they are told.

use std::sync::Arc;

use recommendation_api::event::rfc3339;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::arms::Arms;
use super::credit::credit;
use super::kept::Kept;
use super::ksqldb::Totals;
use super::shop::{Lists, Shop};
use super::{DAY_MS, DAYS};

/// What is asked.
pub struct Ask<'a> {
    /// Days that the figures are about, 1 to [`DAYS`], up to the newest record.
    pub days: u8,
    /// Most entries of a list.
    pub limit: usize,
    /// The arm that the others of an experiment are compared with.
    pub control: &'a dyn Fn(&str) -> Option<Arc<str>>,
    /// Whether a product may stand in a list.
    pub shows: &'a dyn Fn(&str) -> bool,
    /// A product's title.
    pub title: &'a dyn Fn(&str) -> Option<String>,
}

/// Figures of the last days.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Insights)]
pub struct Report {
    /// The time of the newest record: the end of the days.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<String>,
    /// How many days before it.
    pub days: u8,
    /// The share of customers that the figures come from: 1 unless there are more records than fit into memory. Counts
    /// are extrapolated to all.
    pub share_of_customers: f64,
    /// From looking to buying.
    pub funnel: Funnel,
    /// What the most customers buy.
    pub top_products: Vec<ProductView>,
    /// What more customers turn to in the last day than on a day before it; empty for one day.
    pub rising_products: Vec<Rising>,
    /// What customers buy within a day of each other, the most frequent first.
    pub bought_together: Vec<Pair>,
    /// How active customers are.
    pub activity: Activity,
    /// What recommendations led to, by experiment and arm; the one without a name is of answers outside of experiments.
    pub experiments: Vec<ExperimentView>,
    /// What is wrong with the data.
    pub quality: Quality,
    /// Totals since the first record, from ksqlDB's tables; absent where there are none or they cannot be asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ksqldb: Option<Totals>,
    /// Whether customers have changed; absent while too little is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drift: Option<DriftView>,
}

/// Events by type, and pairs of a customer and a product by how far they got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Funnel {
    /// Events by type.
    pub events: EventCounts,
    /// Pairs with a view or click.
    pub viewed: u64,
    /// Pairs with a cart.
    pub carted: u64,
    /// Pairs with a purchase.
    pub purchased: u64,
    /// Of the pairs viewed, those with a cart too.
    pub carted_after_view: u64,
    /// Of the pairs with a cart, those with a purchase too.
    pub purchased_after_cart: u64,
}

/// Events by type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventCounts {
    /// Views.
    pub view: u64,
    /// Clicks.
    pub click: u64,
    /// Put into the cart.
    pub cart: u64,
    /// Purchases.
    pub purchase: u64,
    /// Returns.
    #[serde(rename = "return")]
    pub returned: u64,
}

impl Funnel {
    pub(super) fn scaled(self, by: u64) -> Self {
        let events = self.events;
        Self {
            events: EventCounts {
                view: events.view * by,
                click: events.click * by,
                cart: events.cart * by,
                purchase: events.purchase * by,
                returned: events.returned * by,
            },
            viewed: self.viewed * by,
            carted: self.carted * by,
            purchased: self.purchased * by,
            carted_after_view: self.carted_after_view * by,
            purchased_after_cart: self.purchased_after_cart * by,
        }
    }
}

/// A product.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TopProduct)]
pub struct ProductView {
    /// Its id.
    pub product_id: String,
    /// Its title, where the catalogue has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub title: Option<String>,
    /// Customers who did something with it.
    pub customers: u64,
    /// Customers who bought it.
    pub buyers: u64,
    /// Views and clicks.
    pub views: u64,
    /// Put into the cart.
    pub carts: u64,
    /// Purchases.
    pub purchases: u64,
    /// Price times quantity of the purchases that tell a price.
    pub revenue: f64,
}

/// A product that more customers turn to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = RisingProduct)]
pub struct Rising {
    /// Its id.
    pub product_id: String,
    /// Its title, where the catalogue has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub title: Option<String>,
    /// Customers in the last day.
    pub customers_in_last_day: u64,
    /// Customers a day before that.
    pub customers_a_day_before: f64,
    /// The one by the other, after three customers were added to both.
    pub factor: f64,
}

/// Two products that the same customers buy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BoughtTogether)]
pub struct Pair {
    /// Both ids.
    pub product_ids: [String; 2],
    /// Both titles, where the catalogue has them.
    pub titles: [Option<String>; 2],
    /// Customers who bought both within a day.
    pub customers: u64,
    /// How many times as many as if the two had nothing to do with each other.
    pub lift: f64,
}

/// Customers by their number of events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Activity {
    /// Customers with an event.
    pub customers: u64,
    /// Customers with an event in the last day.
    pub active_in_last_day: u64,
    /// Customers with a purchase.
    pub buyers: u64,
    /// One event.
    pub with_1_event: u64,
    /// Two to five.
    pub with_2_to_5_events: u64,
    /// Six to twenty.
    pub with_6_to_20_events: u64,
    /// More.
    pub with_more_events: u64,
}

impl Activity {
    pub(super) fn scaled(self, by: u64) -> Self {
        Self {
            customers: self.customers * by,
            active_in_last_day: self.active_in_last_day * by,
            buyers: self.buyers * by,
            with_1_event: self.with_1_event * by,
            with_2_to_5_events: self.with_2_to_5_events * by,
            with_6_to_20_events: self.with_6_to_20_events * by,
            with_more_events: self.with_more_events * by,
        }
    }
}

/// What recommendations led to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Experiment)]
pub struct ExperimentView {
    /// The experiment; absent for answers outside of any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// The arm that the others are compared with: the first of the configuration.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub control: Option<String>,
    /// Each arm as a whole, and in each placement.
    pub arms: Vec<ArmView>,
    /// Each other arm against the control.
    pub comparisons: Vec<Comparison>,
}

/// An arm, or an arm in one placement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Arm)]
pub struct ArmView {
    /// The arm.
    pub arm: String,
    /// The placement; absent for all of them together.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub placement: Option<String>,
    /// Customers with an answer.
    pub customers: u64,
    /// Answers shown.
    pub answers: u64,
    /// Answers that led to a view or click.
    pub clicked_answers: u64,
    /// Answers that led to a cart.
    pub carted_answers: u64,
    /// Purchases that answers led to, less returns.
    pub purchases: u64,
    /// Customers with such a purchase.
    pub converted_customers: u64,
    /// Price times quantity of these purchases.
    pub revenue: f64,
    /// Share of the answers that led to a view or click.
    pub click_through: Estimate,
    /// Share of the customers with a purchase.
    pub conversion: Estimate,
    /// Revenue a customer with an answer.
    pub revenue_per_customer: Estimate,
}

/// An estimate with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Lower end; absent where too little is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub low: Option<f64>,
    /// Upper end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub high: Option<f64>,
}

/// An arm against the control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    /// The arm.
    pub arm: String,
    /// The control.
    pub control: String,
    /// Of the share of answers that led to a view or click.
    pub click_through: MetricDifference,
    /// Of the share of customers with a purchase.
    pub conversion: MetricDifference,
    /// Of the revenue a customer.
    pub revenue_per_customer: MetricDifference,
}

/// The arm's figure less the control's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricDifference {
    /// The difference.
    pub difference: f64,
    /// Lower end of its 95 % confidence interval; absent where too little is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub low: Option<f64>,
    /// Upper end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub high: Option<f64>,
    /// How likely so large a difference, either way, would be without any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub p_value: Option<f64>,
    /// Whether that is under 5 %, divided by the number of arms that are compared.
    pub significant: bool,
}

/// What is wrong with the data. Counted since the service began to learn, but for the prices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DataQuality)]
pub struct Quality {
    /// Valid events.
    pub events: u64,
    /// Records that were not understood.
    pub malformed: u64,
    /// Events beyond a customer's rate.
    pub damped: u64,
    /// Customers of whom nothing is learned any more for their rate.
    pub excluded_customers: u64,
    /// Events of what is no product.
    pub non_products: u64,
    /// Events too old for a full history.
    pub too_old: u64,
    /// Products with events that the catalogue does not describe.
    pub products_without_catalogue: u64,
    /// Purchases of these days that tell no price: their revenue counts as 0.
    pub purchases_without_price: u64,
}

/// Population stability index of the last day against the week before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Drift)]
pub struct DriftView {
    /// Of the mix of products.
    pub products: f64,
    /// Of the mix of event types.
    pub event_types: f64,
    /// Of the mix of products, against the days before the fitted models were made; absent without such models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_fit: Option<f64>,
    /// Over this the model counts as drifted.
    pub threshold: f64,
    /// Whether it does.
    pub drifted: bool,
}

impl Report {
    /// The same with lists of at most so many entries.
    #[must_use]
    pub fn shortened(mut self, limit: usize) -> Self {
        self.top_products.truncate(limit);
        self.rising_products.truncate(limit);
        self.bought_together.truncate(limit);
        self
    }
}

impl Kept {
    /// Computes the figures; takes about a microsecond a record.
    pub fn report(&self, ask: &Ask<'_>) -> Report {
        let days = ask.days.clamp(1, DAYS);
        let scale = 1 << self.halvings;
        let from_ms = self.newest_ms.saturating_sub(i64::from(days) * DAY_MS);
        let (mut arms, mut shop) = (Arms::default(), Shop::new(self.newest_ms));
        for (_, customer) in self.customers() {
            // After the start, so that a week is a week.
            let (acts, shown) = customer.ordered(from_ms.saturating_add(1));
            if !shown.is_empty() {
                arms.add(&self.cells, &shown, &credit(&acts, &shown));
            }
            shop.add(&acts);
        }
        let Lists {
            top,
            rising,
            pairs,
            funnel,
            activity,
            quality,
        } = shop.report(self, scale, ask.limit, days, ask.shows, ask.title);
        Report {
            until: (self.newest_ms > i64::MIN).then(|| rfc3339(self.newest_ms)),
            days,
            share_of_customers: 1.0 / scale as f64,
            funnel,
            top_products: top,
            rising_products: rising,
            bought_together: pairs,
            activity,
            experiments: arms.report(&self.cells, scale, ask.control),
            quality,
            ksqldb: None,
            drift: None,
        }
    }

    /// Whether anything was shown to anybody.
    pub fn has_impressions(&self) -> bool {
        !self.cells.is_empty()
    }
}
