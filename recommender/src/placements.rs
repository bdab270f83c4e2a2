//! Where in the shop an answer is shown, as far as that says what is wanted: on a product's page what is like it, in
//! the cart what goes with it. What the model recommends fills up the rest; any other place shows that alone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use recommender_engine::{EventKind, Fallback, Query, Reader, Reason, Recommendations, Scored};

use crate::baskets::Baskets;
use crate::config::Live;

/// Products of a basket that are looked at.
const BASKET: usize = 20;
/// What was put into the cart this long before is in it no more.
const CART_MS: i64 = 24 * 3_600_000;

/// A place that has a default of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The model's answer as it is: `home`, any name of the shop's own, and every request that names its algorithm.
    Model,
    /// `product`: first what is similar to the product last looked at.
    Product,
    /// `cart`: first what is bought together with what is in the basket.
    Cart,
}

impl Placement {
    /// Of a request.
    pub fn of(name: Option<&str>, names_algorithm: bool) -> Self {
        match name {
            Some("product") if !names_algorithm => Self::Product,
            Some("cart") if !names_algorithm => Self::Cart,
            _ => Self::Model,
        }
    }
}

/// What the model recommends, with what belongs to the place in front of it.
pub fn answer(
    placement: Placement,
    reader: &Reader,
    baskets: &Baskets,
    live: &Live,
    query: &Query<'_>,
) -> Recommendations {
    let found = reader.recommend(query);
    if placement == Placement::Model {
        return found;
    }
    let history = query
        .customer
        .and_then(|customer| reader.customer_history(customer))
        .unwrap_or_default();
    let basis: Vec<Arc<str>> = match placement {
        _ if !query.recent.is_empty() => query.recent.iter().map(|id| Arc::from(*id)).collect(),
        Placement::Cart => {
            let in_cart = |kind, purchases, last_ms: i64| {
                kind == EventKind::Cart && purchases == 0 && query.now_ms - last_ms <= CART_MS
            };
            let items = history
                .iter()
                .filter(|item| in_cart(item.kind, item.purchases, item.last_ms));
            items.map(|item| Arc::clone(&item.product)).take(BASKET).collect()
        }
        _ => history
            .first()
            .map(|item| Arc::clone(&item.product))
            .into_iter()
            .collect(),
    };
    let bought: HashSet<&str> = history
        .iter()
        .filter(|item| item.purchases > 0 && live.hides_purchased)
        .map(|item| &*item.product)
        .collect();
    let known: HashSet<&str> = basis.iter().map(|id| &**id).collect();
    let wanted = |item: &Scored| {
        let id = &*item.product;
        let in_category = |category: &str| {
            reader
                .product(id)
                .is_some_and(|meta| meta.category.as_deref() == Some(category))
        };
        !known.contains(id)
            && !bought.contains(id)
            && !query.exclude.contains(&id)
            && !live.excluded.contains(id)
            && query.category.is_none_or(in_category)
    };
    // More than asked for: some of them are not wanted.
    let more = query.limit + basis.len() + query.exclude.len() + bought.len();
    let lead: Vec<Scored> = match placement {
        Placement::Cart => together(reader, baskets, live, &basis, more),
        _ => basis
            .last()
            .map(|last| reader.similar(last, more))
            .unwrap_or_default(),
    }
    .into_iter()
    .filter(wanted)
    .take(query.limit)
    .collect();
    in_front(lead, found, query)
}

/// What goes with the products of a basket, by how many of them it goes with and how often.
fn together(
    reader: &Reader,
    baskets: &Baskets,
    live: &Live,
    basket: &[Arc<str>],
    limit: usize,
) -> Vec<Scored> {
    let mut found: HashMap<Arc<str>, Scored> = HashMap::new();
    // The newest first: of two that lead to a product the newer one is the reason.
    for product in basket.iter().rev().take(BASKET) {
        for item in baskets.together(reader, product, limit, &live.excluded) {
            match found.get_mut(&item.product) {
                Some(known) => known.score += item.score,
                None => {
                    found.insert(Arc::clone(&item.product), item);
                }
            }
        }
    }
    let mut ranked: Vec<Scored> = found.into_values().collect();
    ranked.sort_unstable_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| a.product.cmp(&b.product))
    });
    ranked
}

/// Pinned products stay first; scores fall from the first to the last, as in any answer.
fn in_front(lead: Vec<Scored>, found: Recommendations, query: &Query<'_>) -> Recommendations {
    let Some(lowest) = lead.last().map(|item| item.score) else {
        return found;
    };
    let leads: HashSet<Arc<str>> = lead.iter().map(|item| Arc::clone(&item.product)).collect();
    let (pinned, rest): (Vec<Scored>, Vec<Scored>) = found
        .items
        .into_iter()
        .partition(|item| item.reason == Reason::Pinned);
    let highest = rest
        .iter()
        .map(|item| item.score)
        .fold(f32::MIN_POSITIVE, f32::max);
    let scale = (lowest / highest).min(1.0);
    let pins: HashSet<Arc<str>> = pinned.iter().map(|item| Arc::clone(&item.product)).collect();
    let rest = rest
        .into_iter()
        .filter(|item| !leads.contains(&item.product))
        .map(|mut item| {
            item.score *= scale;
            item
        });
    let lead = lead.into_iter().filter(|item| !pins.contains(&item.product));
    Recommendations {
        items: pinned
            .into_iter()
            .chain(lead)
            .chain(rest)
            .take(query.limit)
            .collect(),
        fallback: if query.recent.is_empty() {
            Fallback::Personal
        } else {
            Fallback::Session
        },
        algorithm: found.algorithm,
    }
}

#[cfg(test)]
mod tests {
    use recommendation_api::RecommenderConfig;
    use recommender_engine::{EngineConfig, Interaction, engine};

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn ids(found: &Recommendations) -> Vec<&str> {
        found.items.iter().map(|item| &*item.product).collect()
    }

    #[test]
    fn a_cart_shows_what_goes_with_it_and_a_products_page_what_is_like_it() {
        let (mut writer, reader) = engine(EngineConfig::default()).unwrap();
        let baskets = Baskets::default();
        let mut act = |customer: &str, product: &str, kind| {
            writer.apply(&Interaction::new(customer, product, kind, NOW), NOW);
            if kind == EventKind::Purchase {
                baskets.bought(customer, product);
            }
        };
        for n in 0..6 {
            let customer = format!("c{n}");
            for product in ["cup", "saucer", "spoon"] {
                act(&customer, product, EventKind::Purchase);
            }
            for product in ["hat", "scarf", "glove"] {
                act(&format!("w{n}"), product, EventKind::View);
            }
        }
        act("ann", "cup", EventKind::Cart);
        act("ann", "hat", EventKind::View);
        act("bob", "hat", EventKind::View);
        writer.flush(NOW);
        let live = Live::new(&RecommenderConfig::default()).unwrap();
        let ask = |placement, customer, recent: &[&str], exclude: &[&str]| {
            let query = Query {
                customer,
                recent,
                exclude,
                limit: 4,
                now_ms: NOW + 1,
                exploration: Some(0.0),
                ..Query::default()
            };
            answer(placement, &reader, &baskets, &live, &query)
        };
        let cart = ask(Placement::Cart, None, &["cup"], &[]);
        assert_eq!(
            (&ids(&cart)[..2], cart.fallback),
            (&["saucer", "spoon"][..], Fallback::Session)
        );
        assert!(!ids(&cart).contains(&"cup"));
        assert!(cart.items.windows(2).all(|pair| pair[0].score >= pair[1].score));
        // Without a basket in the request: what the customer has put into the cart.
        assert_eq!(
            ids(&ask(Placement::Cart, Some("ann"), &[], &[]))[..2],
            ["saucer", "spoon"]
        );
        assert_eq!(
            ids(&ask(Placement::Cart, Some("ann"), &[], &["saucer"]))[0],
            "spoon"
        );
        let page = ask(Placement::Product, Some("bob"), &["cup", "hat"], &[]);
        assert!(["scarf", "glove"].contains(&ids(&page)[0]), "{:?}", ids(&page));
        let model = ask(Placement::Model, Some("ann"), &[], &[]);
        assert_eq!(
            ask(Placement::Cart, Some("bob"), &[], &[]).fallback,
            ask(Placement::Model, Some("bob"), &[], &[]).fallback
        );
        assert!(!model.items.is_empty());
    }

    #[test]
    fn a_request_that_names_its_algorithm_gets_that_one_alone() {
        assert_eq!(Placement::of(Some("cart"), false), Placement::Cart);
        assert_eq!(Placement::of(Some("cart"), true), Placement::Model);
        assert_eq!(Placement::of(Some("checkout"), false), Placement::Model);
    }
}
