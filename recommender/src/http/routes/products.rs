//! `/v1/products`: the catalogue, and what is similar to a product.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use recommendation_api::records::Product;
use serde::Serialize;
use serde_json::Value;

use super::view::{self, ItemView, ModelView};
use crate::http::App;
use crate::http::caller::{CATALOG_WRITE, Caller};
use crate::http::input::{Body, Params, PathId, check_id};
use crate::http::problem::{ItemError, Problem};
use crate::model;
use crate::product::parse_product;

/// Most products in one batch.
const MAX_BATCH: usize = 1_000;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/products/{product_id}", get(one).put(put))
        .route("/v1/products/batch", post(batch))
        .route("/v1/products/{product_id}/similar", get(similar))
}

async fn one(State(app): State<Arc<App>>, PathId(id): PathId, _: Caller) -> Result<Json<Product>, Problem> {
    check_id("product_id", &id)?;
    app.require_model()?;
    match app.reader.product(&id) {
        Some(meta) => Ok(Json(model::product(&id, meta))),
        None => Err(Problem::not_found("the catalogue has no such product")),
    }
}

#[derive(Serialize)]
struct Written {
    product_id: String,
}

/// 202: acknowledged by the log; readers see it some milliseconds later.
async fn put(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Written>), Problem> {
    caller.require_scope(CATALOG_WRITE)?;
    check_id("product_id", &id)?;
    let product = parse_product(body.object()?, Some(&id))?;
    let result = app.log.put_products(std::slice::from_ref(&product)).await;
    result.into_iter().collect::<Result<(), _>>()?;
    Ok((StatusCode::ACCEPTED, Json(Written { product_id: id })))
}

#[derive(Serialize)]
struct BatchAnswer {
    accepted: usize,
    rejected: usize,
    results: Vec<BatchItem>,
}

#[derive(Serialize)]
struct BatchItem {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    product_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ItemError>,
}

async fn batch(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<BatchAnswer>), Problem> {
    caller.require_scope(CATALOG_WRITE)?;
    let items = body.items("products", MAX_BATCH)?;
    let parsed: Vec<Result<Product, Problem>> = items
        .into_iter()
        .map(|item| match item {
            Value::Object(map) => parse_product(map, None).map_err(Problem::from),
            _ => Err(Problem::bad_request("a product must be a JSON object")),
        })
        .collect();
    let good: Vec<Product> = parsed.iter().filter_map(|p| p.as_ref().ok()).cloned().collect();
    let mut written = app.log.put_products(&good).await.into_iter();
    let mut results = Vec::with_capacity(parsed.len());
    for product in parsed {
        let outcome = match product {
            Ok(product) => match written.next() {
                Some(Err(e)) => Err(Problem::from(e)),
                _ => Ok(product.product_id),
            },
            Err(problem) => Err(problem),
        };
        results.push(match outcome {
            Ok(id) => BatchItem {
                status: StatusCode::ACCEPTED.as_u16(),
                product_id: Some(id),
                error: None,
            },
            Err(p) => BatchItem {
                status: p.status().as_u16(),
                product_id: None,
                error: Some(p.item()),
            },
        });
    }
    let accepted = results.iter().filter(|r| r.error.is_none()).count();
    let unavailable = StatusCode::SERVICE_UNAVAILABLE.as_u16();
    if accepted == 0 && results.iter().any(|r| r.status == unavailable) {
        return Err(Problem::unavailable(
            "the log did not acknowledge any product of the batch",
            1,
        ));
    }
    let rejected = results.len() - accepted;
    Ok((
        StatusCode::ACCEPTED,
        Json(BatchAnswer {
            accepted,
            rejected,
            results,
        }),
    ))
}

#[derive(Serialize)]
struct Similar {
    product_id: String,
    model: ModelView,
    items: Vec<ItemView>,
}

async fn similar(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
    params: Params,
    _: Caller,
) -> Result<Json<Similar>, Problem> {
    params.only(&["limit"])?;
    check_id("product_id", &id)?;
    app.require_model()?;
    if !app.reader.has_product(&id) {
        return Err(Problem::not_found("no such product is known"));
    }
    let items = app.reader.similar(&id, params.limit()?);
    let live = app.live.load();
    Ok(Json(Similar {
        product_id: id,
        model: ModelView::new(&live, Some(recommender_engine::Algorithm::ItemKnn)),
        items: view::items(&app.reader, &live, items),
    }))
}
