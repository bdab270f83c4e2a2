//! What goes in: events, and what became of each.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What a customer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A product page was seen.
    View,
    /// A product was clicked in a list.
    Click,
    /// A product was put into the cart.
    Cart,
    /// A product was bought.
    Purchase,
    /// A product was sent back: takes back one purchase.
    Return,
    /// An e-mail mentioned the product.
    Email,
    /// Anything else: counted, never learned from.
    Other,
}

/// One event, borrowed from the record that it was read from.
#[derive(Clone, Copy, Debug)]
pub struct Interaction<'a> {
    /// Who did it.
    pub customer: &'a str,
    /// With which product.
    pub product: &'a str,
    /// What was done.
    pub kind: EventKind,
    /// How many pieces. Models count events rather than pieces; 0 or less is treated like 1.
    pub quantity: i64,
    /// When it happened, milliseconds since 1970 (UTC). More than five minutes ahead of `now_ms` is clamped.
    pub time_ms: i64,
    /// The visit that it belongs to, where known.
    pub session: Option<&'a str>,
    /// For deduplication; without one the event is always applied.
    pub event_id: Option<&'a str>,
}

impl<'a> Interaction<'a> {
    /// An event of one piece with neither session nor id.
    pub fn new(customer: &'a str, product: &'a str, kind: EventKind, time_ms: i64) -> Self {
        Interaction {
            customer,
            product,
            kind,
            quantity: 1,
            time_ms,
            session: None,
            event_id: None,
        }
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The model changed; readers see the customer's history at once, neighbours at the next publish.
    Learned,
    /// Its kind has weight 0 (or it takes nothing back): counted, nothing changed.
    Weightless,
    /// Its id was seen before.
    Duplicate,
    /// The customer exceeded `max_events_per_minute`.
    Damped,
    /// The customer was excluded: too many of their events were damped.
    Excluded,
    /// Its product is one of `non_products`, or the catalogue labels it as none.
    NonProduct,
    /// A new product beyond `max_products`.
    Refused,
    /// Older than everything in a customer's full history.
    TooOld,
    /// Customer or product id is empty.
    Invalid,
}

/// What the catalogue says of a product.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProductMeta {
    /// Shown to customers and used by content models.
    pub title: Option<String>,
    /// For filters, caps and trending by category.
    pub category: Option<String>,
    /// For content models.
    pub tags: Vec<String>,
    /// Price of one piece.
    pub price: Option<f64>,
    /// `false`: out of stock or withdrawn, never recommended.
    pub available: bool,
    /// For declared rules (`skin_type` and the like).
    pub attributes: std::collections::BTreeMap<String, Vec<String>>,
    /// A vector made elsewhere, used by content models; all of one catalogue have the same length.
    pub embedding: Option<Vec<f32>>,
}

impl ProductMeta {
    /// An available product with this title and nothing else.
    pub fn titled(title: impl Into<String>) -> Self {
        ProductMeta {
            title: Some(title.into()),
            available: true,
            ..ProductMeta::default()
        }
    }
}

/// What a customer has to do with one product, as seen from outside.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HistoryItem {
    /// The product's id.
    pub product: Arc<str>,
    /// The strongest thing done with it: purchase before cart before click before view.
    pub kind: EventKind,
    /// Summed weight of the events.
    pub weight: f32,
    /// Purchases less returns.
    pub purchases: i32,
    /// The last event, milliseconds since 1970.
    pub last_ms: i64,
}
