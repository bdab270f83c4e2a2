//! `/v1/recommendations`: for a customer, for an anonymous visit or a basket; and `/v1/trending`.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use recommendation_api::event::rfc3339;
use recommender_engine::{Fallback, Query, Recommendations};
use serde::{Deserialize, Serialize};

use super::view::{self, ItemView, ModelView};
use crate::clock::now_ms;
use crate::http::App;
use crate::http::caller::{Caller, RECOMMENDATIONS_READ};
use crate::http::input::{Body, Params, PathId, check_algorithm, check_id, check_limit, check_list};
use crate::http::problem::Problem;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/recommendations/{customer_id}", get(personal))
        .route("/v1/recommendations", axum::routing::post(anonymous))
        .route("/v1/trending", get(trending))
}

#[derive(Serialize)]
struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<String>,
    recommendation_id: String,
    model: ModelView,
    /// What the answer rests on: `personal`, `session` or `popular`.
    fallback: Fallback,
    items: Vec<ItemView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Explanation>,
}

/// What the model knows of the customer, newest first.
#[derive(Serialize)]
struct Explanation {
    history: Vec<Known>,
}

#[derive(Serialize)]
struct Known {
    product_id: Arc<str>,
    kind: &'static str,
    weight: f32,
    purchases: i32,
    last: String,
}

async fn personal(
    State(app): State<Arc<App>>,
    PathId(customer_id): PathId,
    params: Params,
    caller: Caller,
) -> Result<Json<Answer>, Problem> {
    params.only(&[
        "limit",
        "algorithm",
        "placement",
        "category",
        "exclude",
        "diversity",
        "explain",
    ])?;
    check_id("customer_id", &customer_id)?;
    caller.require_customer_or(&customer_id, RECOMMENDATIONS_READ)?;
    app.require_model()?;
    let exclude = params.list("exclude")?;
    let exclude: Vec<&str> = exclude.iter().map(String::as_str).collect();
    params
        .one("placement")?
        .map_or(Ok(()), |placement| check_id("placement", placement))?;
    let query = Query {
        customer: Some(&customer_id),
        limit: params.limit()?,
        algorithm: params.one("algorithm")?.map(check_algorithm).transpose()?,
        category: params.category()?,
        exclude: &exclude,
        diversity: params.share("diversity")?,
        now_ms: now_ms(),
        ..Query::default()
    };
    let explanation = params.flag("explain")?.then(|| explain(&app, &customer_id));
    let found = app.reader.recommend(&query);
    Ok(Json(answer(&app, Some(customer_id), found, explanation)))
}

fn explain(app: &App, customer_id: &str) -> Explanation {
    let history = app.reader.customer_history(customer_id).unwrap_or_default();
    let known = history.into_iter().map(|item| Known {
        product_id: item.product,
        kind: view::done(item.kind).0,
        weight: item.weight,
        purchases: item.purchases,
        last: rfc3339(item.last_ms),
    });
    Explanation {
        history: known.collect(),
    }
}

fn answer(
    app: &App,
    customer_id: Option<String>,
    found: Recommendations,
    explanation: Option<Explanation>,
) -> Answer {
    let label = match found.fallback {
        Fallback::Personal => "personal",
        Fallback::Session => "session",
        Fallback::Popular => "popular",
    };
    app.metrics.answers.with_label_values(&[label]).inc();
    let live = app.live.load();
    Answer {
        customer_id,
        recommendation_id: uuid::Uuid::now_v7().to_string(),
        model: ModelView::new(&live, Some(found.algorithm)),
        fallback: found.fallback,
        items: view::items(&app.reader, &live, found.items),
        explanation,
    }
}

/// A visit or a basket: what was looked at last, oldest first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Visit {
    #[serde(default, alias = "products", alias = "recent_products")]
    recent: Vec<String>,
    limit: Option<usize>,
    algorithm: Option<String>,
    category: Option<String>,
    placement: Option<String>,
    #[serde(default)]
    exclude: Vec<String>,
    diversity: Option<f32>,
}

async fn anonymous(State(app): State<Arc<App>>, _: Caller, body: Body) -> Result<Json<Answer>, Problem> {
    let visit: Visit = body.json()?;
    app.require_model()?;
    check_list("recent", &visit.recent)?;
    check_list("exclude", &visit.exclude)?;
    for (field, value) in [("category", &visit.category), ("placement", &visit.placement)] {
        value.as_deref().map_or(Ok(()), |v| check_id(field, v))?;
    }
    if visit.diversity.is_some_and(|d| !(0.0..=1.0).contains(&d)) {
        return Err(Problem::field(
            "diversity",
            "diversity must be a number between 0 and 1",
        ));
    }
    let recent: Vec<&str> = visit.recent.iter().map(String::as_str).collect();
    let exclude: Vec<&str> = visit.exclude.iter().map(String::as_str).collect();
    let query = Query {
        recent: &recent,
        limit: visit.limit.map_or(Ok(10), |n| check_limit(Some(n)))?,
        algorithm: visit.algorithm.as_deref().map(check_algorithm).transpose()?,
        category: visit.category.as_deref(),
        exclude: &exclude,
        diversity: visit.diversity,
        now_ms: now_ms(),
        ..Query::default()
    };
    let found = app.reader.recommend(&query);
    Ok(Json(answer(&app, None, found, None)))
}

#[derive(Serialize)]
struct Trending {
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    model: ModelView,
    items: Vec<ItemView>,
}

async fn trending(State(app): State<Arc<App>>, params: Params, _: Caller) -> Result<Json<Trending>, Problem> {
    params.only(&["limit", "category"])?;
    app.require_model()?;
    let category = params.category()?;
    let items = app.reader.trending(params.limit()?, category, now_ms());
    let live = app.live.load();
    Ok(Json(Trending {
        category: category.map(str::to_owned),
        model: ModelView::popularity(&live),
        items: view::items(&app.reader, &live, items),
    }))
}
