//! `POST /v1/recommendations`: for an anonymous visit or a basket.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header;
use recommender_engine::Query;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Answer, Whom, answered, place};
use crate::clock::now_ms;
use crate::http::App;
use crate::http::caller::{Caller, visit};
use crate::http::input::{Body, check_algorithm, check_id, check_limit, check_list};
use crate::http::problem::{Problem, ProblemBody};
use crate::http::routes::fields::Fields;

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(anonymous))
}

/// A visit or a basket.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Visit {
    /// What was looked at last, oldest first.
    #[serde(default, alias = "products", alias = "recent_products")]
    #[schema(max_items = 500)]
    recent: Vec<String>,
    /// The visit whose events a publishable key wrote: its history counts too.
    #[schema(min_length = 1, max_length = 248)]
    session_id: Option<String>,
    /// How many products; 10 unless given.
    #[schema(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// Instead of the configured one.
    algorithm: Option<String>,
    /// Only products of this category.
    #[schema(min_length = 1, max_length = 256)]
    category: Option<String>,
    /// Where the answer is shown: `home`, `product` (first what is similar to the last of `recent`), `cart` (first
    /// what is bought together with `recent`), or a name of the shop's own.
    #[schema(min_length = 1, max_length = 256)]
    placement: Option<String>,
    /// Products to leave out.
    #[serde(default)]
    #[schema(max_items = 500)]
    exclude: Vec<String>,
    /// 0 = most alike, 1 = most varied.
    #[schema(minimum = 0, maximum = 1)]
    diversity: Option<f32>,
    /// What to tell of each product, all of it unless given: some of `product_id` (always told), `title`, `score`,
    /// `reason`. An answer without reasons is faster.
    #[schema(min_items = 1, max_items = 500)]
    fields: Option<Vec<String>>,
}

/// Recommendations for an anonymous visit or a basket
#[utoipa::path(post, path = "/v1/recommendations", operation_id = "recommend_to_visit", tag = "recommendations",
    security((), ("publishable_key" = []), ("publishable_key_parameter" = []), ("token" = [])),
    request_body = Visit,
    responses(
        (status = 200, description = "Products, best first", body = Answer, headers(("cache-control" = String))),
        (status = 403, description = "The publishable key is bound to other origins", body = ProblemBody,
            content_type = "application/problem+json"),
    ))]
async fn anonymous(State(app): State<Arc<App>>, caller: Caller, body: Body) -> Result<Response, Problem> {
    caller.require_public()?;
    let asked: Visit = body.json()?;
    app.require_model()?;
    check_list("recent", &asked.recent)?;
    check_list("exclude", &asked.exclude)?;
    for (field, value) in [("category", &asked.category), ("placement", &asked.placement)] {
        value.as_deref().map_or(Ok(()), |v| check_id(field, v))?;
    }
    if asked.diversity.is_some_and(|d| !(0.0..=1.0).contains(&d)) {
        return Err(Problem::field(
            "diversity",
            "diversity must be a number between 0 and 1",
        ));
    }
    if let Some(fields) = &asked.fields {
        check_list("fields", fields)?;
    }
    let fields = asked.fields.as_deref().map_or(Ok(Fields::ALL), Fields::named)?;
    let customer = asked.session_id.as_deref().map(visit).transpose()?;
    let recent: Vec<&str> = asked.recent.iter().map(String::as_str).collect();
    let exclude: Vec<&str> = asked.exclude.iter().map(String::as_str).collect();
    // Not whose the visit turned out to be: whoever knows its id is not therefore its customer.
    let name = customer
        .as_deref()
        .map(|visit| app.privacy.known_as(visit).unwrap_or_else(|| visit.to_owned()));
    if let Some(name) = &name {
        app.recall(name).await;
    }
    let query = Query {
        customer: name.as_deref(),
        recent: &recent,
        limit: asked.limit.map_or(Ok(10), |n| check_limit(Some(n)))?,
        algorithm: asked.algorithm.as_deref().map(check_algorithm).transpose()?,
        category: asked.category.as_deref(),
        exclude: &exclude,
        diversity: asked.diversity,
        reasons: fields.reason,
        now_ms: now_ms(),
        ..Query::default()
    };
    let whom = Whom {
        customer_id: customer.as_deref(),
        refuses: false,
    };
    let (query, place) = place(&app, query, asked.placement.as_deref(), whom, fields);
    let (_, body) = answered(&app, &query, &place, true).await?;
    let head = [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_TYPE, "application/json"),
    ];
    Ok((head, body).into_response())
}
