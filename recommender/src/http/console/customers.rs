//! Customers: finding them, what is known of each, and what each would be recommended.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use recommendation_api::event::rfc3339;
use recommender_engine::{Fallback, Query};
use serde::Serialize;

use crate::clock::now_ms;
use crate::http::App;
use crate::http::caller::{CUSTOMERS_READ, Caller};
use crate::http::input::{Params, PathId, check_algorithm, check_id};
use crate::http::problem::Problem;
use crate::http::routes::fields::Fields;
use crate::http::routes::view::{self, ItemView, ModelView};
use crate::placements::{self, Placement};

#[derive(Serialize)]
pub(super) struct Found {
    /// Whoever did something last first.
    customers: Vec<Known>,
    /// Whether there may be more than were asked for.
    more: bool,
}

#[derive(Serialize)]
struct Known {
    customer_id: Arc<str>,
    /// When they last did something.
    last: String,
    /// Products in the history.
    products: usize,
}

/// Customers whose id begins with `prefix`.
pub(super) async fn find(
    State(app): State<Arc<App>>,
    params: Params,
    caller: Caller,
) -> Result<Json<Found>, Problem> {
    caller.require_scope(CUSTOMERS_READ)?;
    params.only(&["prefix", "limit"])?;
    let limit = params.limit()?;
    let prefix = params.one("prefix")?.unwrap_or_default().to_owned();
    if !prefix.is_empty() {
        check_id("prefix", &prefix)?;
    }
    // One after the other: who looks must not slow down who is answered.
    let _turn = app
        .console
        .searches
        .acquire()
        .await
        .map_err(|_| Problem::internal())?;
    let reader = app.reader.clone();
    let search = tokio::task::spawn_blocking(move || reader.customers_beginning(&prefix, limit));
    let found = search.await.map_err(|_| Problem::internal())?;
    let more = found.len() == limit;
    let known = found.into_iter().map(|known| Known {
        customer_id: known.customer,
        last: rfc3339(known.last_ms),
        products: known.products,
    });
    Ok(Json(Found {
        customers: known.collect(),
        more,
    }))
}

#[derive(Serialize)]
pub(super) struct Histories {
    customer_id: String,
    /// Whether the model knows anything of them.
    known: bool,
    /// Attributes of the profile, where the shop wrote one.
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<recommender_engine::Attributes>,
    /// Newest first.
    history: Vec<Touched>,
}

#[derive(Serialize)]
struct Touched {
    product_id: Arc<str>,
    title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    /// The strongest thing done with it.
    kind: &'static str,
    /// Summed weight of the events.
    weight: f32,
    /// Purchases less returns.
    purchases: i32,
    /// The last event's time.
    last: String,
}

/// What the model knows of a customer.
pub(super) async fn history(
    State(app): State<Arc<App>>,
    PathId(customer_id): PathId,
    params: Params,
    caller: Caller,
) -> Result<Json<Histories>, Problem> {
    caller.require_scope(CUSTOMERS_READ)?;
    params.only(&[])?;
    check_id("customer_id", &customer_id)?;
    let name = app.name(&customer_id);
    app.recall_surely(&name).await?;
    let history = app.reader.customer_history(&name);
    let attributes = app.directory.profile(&name).map(|p| p.attributes);
    let known = history.is_some() || attributes.is_some();
    let touched = history.unwrap_or_default().into_iter().map(|item| {
        let meta = app.reader.product(&item.product).unwrap_or_default();
        Touched {
            title: meta.title.unwrap_or_else(|| item.product.to_string()),
            category: meta.category,
            product_id: item.product,
            kind: view::done(item.kind).0,
            weight: item.weight,
            purchases: item.purchases,
            last: rfc3339(item.last_ms),
        }
    });
    Ok(Json(Histories {
        known,
        attributes: attributes.map(crate::model::attributes),
        history: touched.collect(),
        customer_id,
    }))
}

#[derive(Serialize)]
pub(super) struct Answer {
    model: ModelView,
    /// The experiment whose arm chose the algorithm, if any did.
    #[serde(skip_serializing_if = "Option::is_none")]
    experiment: Option<Arc<str>>,
    /// What the answer rests on: personal, session, popular; consent where only what is popular may be shown.
    fallback: &'static str,
    /// How long the engine took, microseconds.
    took_us: u64,
    /// How unlike each other the products are, 0..=1.
    #[serde(skip_serializing_if = "Option::is_none")]
    variety: Option<f64>,
    /// Best first.
    items: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    #[serde(flatten)]
    shown: ItemView,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    /// Whether it was put there to be tried out.
    explored: bool,
}

/// What a customer would be recommended now.
pub(super) async fn recommendations(
    State(app): State<Arc<App>>,
    PathId(customer_id): PathId,
    params: Params,
    caller: Caller,
) -> Result<Json<Answer>, Problem> {
    caller.require_scope(CUSTOMERS_READ)?;
    params.only(&["limit", "algorithm", "placement", "diversity", "exploration"])?;
    check_id("customer_id", &customer_id)?;
    app.require_model()?;
    let named = params.one("algorithm")?.map(check_algorithm).transpose()?;
    let placement = params.one("placement")?;
    placement.map_or(Ok(()), |placement| check_id("placement", placement))?;
    let live = app.live.load();
    // As the customer's own request is answered: a named algorithm is no part of an experiment.
    let name = app.name(&customer_id);
    let customer = app.tracks(&customer_id).then_some(&*name);
    app.recall(&name).await;
    let assigned = customer
        .filter(|_| named.is_none())
        .and_then(|customer| live.experiments.assign(customer));
    let query = Query {
        customer,
        limit: params.limit()?,
        algorithm: named.or(assigned.as_ref().map(|assigned| assigned.algorithm)),
        diversity: params.share("diversity")?,
        exploration: params.share("exploration")?,
        now_ms: now_ms(),
        ..Query::default()
    };
    let started = Instant::now();
    let place = Placement::of(placement, named.is_some());
    let found = placements::answer(place, &app.reader, &app.baskets, &live, &query);
    let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let names: Vec<&str> = found.items.iter().map(|item| &*item.product).collect();
    let variety = app.reader.variety(&names);
    let explored: Vec<bool> = found.items.iter().map(|item| item.explored).collect();
    let shown = view::items(&app.reader, &live, found.items, Fields::ALL);
    let items = shown.into_iter().zip(explored).map(|(shown, explored)| Item {
        category: app
            .reader
            .product(&shown.product_id)
            .and_then(|meta| meta.category),
        shown,
        explored,
    });
    Ok(Json(Answer {
        model: ModelView::new(&live, Some(found.algorithm)),
        experiment: assigned.map(|assigned| assigned.experiment),
        fallback: match found.fallback {
            _ if customer.is_none() => "consent",
            Fallback::Personal => "personal",
            Fallback::Session => "session",
            Fallback::Popular => "popular",
        },
        took_us,
        variety,
        items: items.collect(),
    }))
}
