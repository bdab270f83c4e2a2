//! `/v1/products`: the catalogue, and what is similar to a product.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use recommendation_api::records::Product;
use recommender_engine::Scored;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::fields::Fields;
use super::view::{self, ItemView, ModelView};
use crate::http::App;
use crate::http::caller::{CATALOG_WRITE, Caller};
use crate::http::conditional::{self, Validators};
use crate::http::input::{Body, Params, PathId, check_id};
use crate::http::problem::{ItemError, Problem, ProblemBody};
use crate::http::schemas::{ProductBody, ProductsBody};
use crate::model;
use crate::product::parse_product;

/// Most products in one batch.
const MAX_BATCH: usize = 1_000;

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(one, put))
        .routes(routes!(batch))
        .routes(routes!(similar))
        .routes(routes!(bought_together))
}

/// A product may be called like a route: `batch` is read and written like any other, and only posting to it is not
/// about it.
pub(super) fn named_like_a_route() -> Router<Arc<App>> {
    let id = || PathId("batch".to_owned());
    let read = get(move |app, caller| one(app, id(), caller));
    Router::new().route(
        "/v1/products/batch",
        read.put(move |app, caller, body| put(app, id(), caller, body)),
    )
}

/// Read a product
#[utoipa::path(get, path = "/v1/products/{product_id}", operation_id = "read_product", tag = "products",
    security((), ("publishable_key" = []), ("publishable_key_parameter" = []), ("token" = [])),
    params(("product_id" = String, Path, description = "The product", min_length = 1, max_length = 256)),
    responses(
        (status = 200, description = "What the catalogue says of it", body = ProductBody),
        (status = 403, description = "The publishable key is bound to other origins", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 404, description = "There is no such product", body = ProblemBody,
            content_type = "application/problem+json"),
    ))]
async fn one(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
    caller: Caller,
) -> Result<Json<Product>, Problem> {
    caller.require_public()?;
    check_id("product_id", &id)?;
    app.require_model()?;
    match app.reader.product(&id) {
        Some(meta) => Ok(Json(model::product(&id, meta))),
        None => Err(Problem::not_found("the catalogue has no such product")),
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = WrittenProduct)]
struct Written {
    /// Which product was written.
    product_id: String,
}

/// Write a product
///
/// 202: acknowledged by the log; readers see it some milliseconds later.
#[utoipa::path(put, path = "/v1/products/{product_id}", operation_id = "write_product", tag = "products", security(("token" = [])),
    params(("product_id" = String, Path, description = "The product", min_length = 1, max_length = 256)),
    request_body = ProductBody,
    responses(
        (status = 202, description = "Written", body = Written),
        (status = 403, description = "The token has no scope catalog:write", body = ProblemBody,
            content_type = "application/problem+json"),
    ))]
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

#[derive(Serialize, ToSchema)]
#[schema(as = ProductResults)]
struct BatchAnswer {
    accepted: usize,
    rejected: usize,
    /// One per product, in the order sent.
    results: Vec<BatchItem>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ProductResult)]
struct BatchItem {
    /// As if it had been sent alone.
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    product_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ItemError>,
}

/// Write many products
///
/// Each is accepted or refused by itself. 503 means that none was acknowledged; `retry_ids` are the products to send again.
#[utoipa::path(post, path = "/v1/products/batch", operation_id = "write_products", tag = "products", security(("token" = [])),
    request_body = ProductsBody,
    responses(
        (status = 202, description = "What became of each", body = BatchAnswer),
        (status = 403, description = "The token has no scope catalog:write", body = ProblemBody,
            content_type = "application/problem+json"),
    ))]
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
    let ids: Vec<Option<String>> = parsed
        .iter()
        .map(|p| p.as_ref().ok().map(|p| p.product_id.clone()))
        .collect();
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
        let refused = Problem::unavailable(
            "the log did not acknowledge any product of the batch; send those of retry_ids again",
            1,
        );
        return Err(refused.about_batch(ids));
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

#[derive(Serialize, ToSchema)]
#[schema(as = RelatedProducts)]
struct Near {
    product_id: String,
    model: ModelView,
    /// Nearest first.
    items: Vec<ItemView>,
}

/// Answers with products that have to do with `id`, found by `find` where it is known.
fn near(
    app: &App,
    id: String,
    params: &Params,
    known: &Validators,
    find: impl FnOnce(&str, usize) -> Vec<Scored>,
) -> Result<Response, Problem> {
    params.only(&["limit", "fields"])?;
    check_id("product_id", &id)?;
    app.require_model()?;
    let fields = Fields::of(params)?;
    if !app.reader.has_product(&id) {
        return Err(Problem::not_found("no such product is known"));
    }
    let items = find(&id, params.limit()?);
    let live = app.live.load();
    let answer = Near {
        product_id: id,
        model: ModelView::new(&live, Some(recommender_engine::Algorithm::ItemKnn)),
        items: view::items(&app.reader, &live, items, fields),
    };
    conditional::json(known, conditional::SHARED, &answer)
}

/// Similar products
#[utoipa::path(get, path = "/v1/products/{product_id}/similar", operation_id = "similar_products", tag = "products",
    security((), ("publishable_key" = []), ("publishable_key_parameter" = []), ("token" = [])),
    params(
        ("product_id" = String, Path, description = "The product", min_length = 1, max_length = 256),
        ("limit" = Option<u32>, Query, description = "How many products", minimum = 1, maximum = 100),
        ("fields" = Option<Vec<String>>, Query, description = "What to tell of each product, all of it unless given: some of `product_id` (always told), `title`, `score`, `reason`, separated by commas or given several times. An answer without reasons is faster", max_items = 500),
        ("if-none-match" = Option<String>, Header, description = "Validators of answers that the caller has"),
    ),
    responses(
        (status = 200, description = "Products that interest the same customers", body = Near,
            headers(("etag" = String, description = "Validator of the answer"), ("cache-control" = String))),
        (status = 304, description = "The caller has this answer already"),
        (status = 403, description = "The publishable key is bound to other origins", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 404, description = "There is no such product", body = ProblemBody,
            content_type = "application/problem+json"),
    ))]
async fn similar(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
    params: Params,
    caller: Caller,
    known: Validators,
) -> Result<Response, Problem> {
    caller.require_public()?;
    near(&app, id, &params, &known, |id, limit| {
        app.reader.similar(id, limit)
    })
}

/// Products bought together with this one
#[utoipa::path(get, path = "/v1/products/{product_id}/bought-together", operation_id = "bought_together", tag = "products",
    security((), ("publishable_key" = []), ("publishable_key_parameter" = []), ("token" = [])),
    params(
        ("product_id" = String, Path, description = "The product", min_length = 1, max_length = 256),
        ("limit" = Option<u32>, Query, description = "How many products", minimum = 1, maximum = 100),
        ("fields" = Option<Vec<String>>, Query, description = "What to tell of each product, all of it unless given: some of `product_id` (always told), `title`, `score`, `reason`, separated by commas or given several times. An answer without reasons is faster", max_items = 500),
        ("if-none-match" = Option<String>, Header, description = "Validators of answers that the caller has"),
    ),
    responses(
        (status = 200, description = "Products that the same customers bought within a day", body = Near,
            headers(("etag" = String, description = "Validator of the answer"), ("cache-control" = String))),
        (status = 304, description = "The caller has this answer already"),
        (status = 403, description = "The publishable key is bound to other origins", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 404, description = "There is no such product", body = ProblemBody,
            content_type = "application/problem+json"),
    ))]
async fn bought_together(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
    params: Params,
    caller: Caller,
    known: Validators,
) -> Result<Response, Problem> {
    caller.require_public()?;
    near(&app, id, &params, &known, |id, limit| {
        app.baskets
            .together(&app.reader, id, limit, &app.live.load().excluded)
    })
}
