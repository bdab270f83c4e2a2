//! Answers as clients see them.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use recommendation_api::model::Algorithm;
use recommender_engine::{EventKind, Reader, Reason, Scored};
use serde::Serialize;
use utoipa::ToSchema;

use super::fields::Fields;
use crate::config::Live;

/// What an answer was computed with.
#[derive(Serialize, ToSchema)]
#[schema(as = Model)]
pub struct ModelView {
    /// The algorithm that answered.
    pub algorithm: String,
    /// Version id.
    pub version: String,
}

impl ModelView {
    /// `algorithm` is the one that answered, where it is not the configured one.
    pub fn new(live: &Live, algorithm: Option<recommender_engine::Algorithm>) -> Self {
        let algorithm = algorithm.map_or_else(|| live.algorithm.clone(), |a| a.name().to_owned());
        Self {
            algorithm,
            version: live.version.clone(),
        }
    }

    /// Popularity answers, whatever is configured.
    pub fn popularity(live: &Live) -> Self {
        Self {
            algorithm: Algorithm::Popularity.name().to_owned(),
            version: live.version.clone(),
        }
    }
}

/// One product of an answer.
#[derive(Serialize, ToSchema)]
#[schema(as = Item)]
pub struct ItemView {
    /// Its id.
    pub product_id: Arc<str>,
    /// Its title; the id where the catalogue has none. Absent where `fields` leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub title: Option<Arc<str>>,
    /// Finite; comparable within one answer only. Absent where `fields` leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = f32, required = false)]
    pub score: Option<f32>,
    /// Whether it was put there to be tried out, in place of what the model ranks higher; absent where not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub explored: bool,
    /// The probability with which exploration lets it stand in this place, given the ranking; 1 where it is absent.
    #[serde(skip_serializing_if = "is_certain")]
    #[schema(required = false)]
    pub probability: f32,
    /// Why it stands there. Absent where `fields` leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = ReasonView, required = false)]
    pub reason: Option<ReasonView>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
fn is_certain(probability: &f32) -> bool {
    *probability >= 1.0
}

/// Why a product stands in an answer.
#[derive(Serialize, ToSchema)]
#[schema(as = Reason)]
pub struct ReasonView {
    /// For people.
    pub text: String,
    /// For programs: bought, added_to_cart, clicked, viewed, popular, popular_in_category, similar, profile,
    /// pinned.
    pub kind: &'static str,
    /// The products that led to it, strongest first.
    pub products: Vec<Arc<str>>,
}

/// Names of what a customer did, as kind and as the text's verb.
pub fn done(kind: EventKind) -> (&'static str, &'static str) {
    match kind {
        EventKind::Purchase => ("bought", "you bought"),
        EventKind::Cart => ("added_to_cart", "you put into your cart"),
        EventKind::Click => ("clicked", "you clicked"),
        EventKind::View => ("viewed", "you looked at"),
        EventKind::Email => ("mentioned", "you wrote about"),
        EventKind::Return | EventKind::Other => ("interested", "you were interested in"),
    }
}

/// The engine's answer with titles and texts, as far as they are asked for. What the rules exclude is not named as a
/// reason either: nobody wants to read "because you bought POSTAGE".
pub fn items(reader: &Reader, live: &Live, scored: Vec<Scored>, fields: Fields) -> Vec<ItemView> {
    // The same few products lead to most of an answer: each is looked up once.
    let titles: RefCell<Vec<(Arc<str>, Arc<str>)>> = RefCell::default();
    let title = |id: &Arc<str>| {
        let mut titles = titles.borrow_mut();
        if let Some((_, title)) = titles.iter().find(|(known, _)| Arc::ptr_eq(known, id)) {
            return Arc::clone(title);
        }
        let title = reader.title(id).unwrap_or_else(|| Arc::clone(id));
        titles.push((Arc::clone(id), Arc::clone(&title)));
        title
    };
    scored
        .into_iter()
        .map(|item| ItemView {
            title: fields
                .title
                .then(|| item.title.unwrap_or_else(|| Arc::clone(&item.product))),
            product_id: item.product,
            score: fields.score.then_some(item.score),
            explored: item.explored,
            probability: item.probability,
            reason: fields
                .reason
                .then(|| reason(item.reason, &live.excluded, &title))
                .flatten(),
        })
        .collect()
}

/// None where it was not asked for.
fn reason(
    reason: Reason,
    excluded: &HashSet<String>,
    title: &dyn Fn(&Arc<str>) -> Arc<str>,
) -> Option<ReasonView> {
    let view = match reason {
        Reason::Untold => return None,
        Reason::BecauseOf { mut products, kind } => {
            if !excluded.is_empty() {
                products.retain(|product| !excluded.contains(&**product));
            }
            let (kind, verb) = done(kind);
            let text = match products.as_slice() {
                [] => "because of what you did before".to_owned(),
                [one] => ["because ", verb, " ", &title(one)].concat(),
                [one, other] => ["because ", verb, " ", &title(one), " and ", &title(other)].concat(),
                [one, others @ ..] => {
                    let more = others.len().to_string();
                    ["because ", verb, " ", &title(one), " and ", &more, " more"].concat()
                }
            };
            ReasonView { text, kind, products }
        }
        Reason::Popular => ReasonView {
            text: "popular now".into(),
            kind: "popular",
            products: Vec::new(),
        },
        Reason::PopularInCategory { category } => ReasonView {
            text: format!("popular now in {category}"),
            kind: "popular_in_category",
            products: Vec::new(),
        },
        Reason::SimilarTo { product } => ReasonView {
            text: format!("goes with {}", title(&product)),
            kind: "similar",
            products: vec![product],
        },
        Reason::SuitsProfile {
            customer_attribute,
            value,
            ..
        } => ReasonView {
            text: format!(
                "suits your {}: {value}",
                customer_attribute.replace(['_', '-'], " ")
            ),
            kind: "profile",
            products: Vec::new(),
        },
        Reason::Pinned => ReasonView {
            text: "chosen by the shop".into(),
            kind: "pinned",
            products: Vec::new(),
        },
    };
    Some(view)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excluded_products_are_no_reason() {
        let because = |products: &[&str]| {
            let products = products.iter().map(|id| Arc::from(*id)).collect();
            let kind = EventKind::Purchase;
            let excluded = HashSet::from(["POST".to_owned()]);
            reason(Reason::BecauseOf { products, kind }, &excluded, &|id| {
                id.to_lowercase().into()
            })
            .unwrap()
        };
        assert_eq!(because(&["POST", "CUP"]).text, "because you bought cup");
        let only = because(&["POST"]);
        assert_eq!(
            (only.text.as_str(), only.products.len()),
            ("because of what you did before", 0)
        );
    }
}
