//! `GET /v1/trending`: what is popular now.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::clock::now_ms;
use crate::http::App;
use crate::http::caller::Caller;
use crate::http::conditional::{self, Validators};
use crate::http::input::Params;
use crate::http::problem::{Problem, ProblemBody};
use crate::http::routes::fields::Fields;
use crate::http::routes::view::{self, ItemView, ModelView};

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(trending))
}

#[derive(Serialize, ToSchema)]
struct Trending {
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    model: ModelView,
    /// Most popular first.
    items: Vec<ItemView>,
}

/// What is popular now
#[utoipa::path(get, path = "/v1/trending", operation_id = "trending", tag = "recommendations",
    security((), ("publishable_key" = []), ("publishable_key_parameter" = []), ("token" = [])),
    params(
        ("limit" = Option<u32>, Query, description = "How many products", minimum = 1, maximum = 100),
        ("category" = Option<String>, Query, description = "Only products of this category", max_length = 256),
        ("fields" = Option<Vec<String>>, Query, description = "What to tell of each product, all of it unless given: some of `product_id` (always told), `title`, `score`, `reason`, separated by commas or given several times. An answer without reasons is faster", max_items = 500),
        ("if-none-match" = Option<String>, Header, description = "Validators of answers that the caller has"),
    ),
    responses(
        (status = 200, description = "Products, most popular first", body = Trending,
            headers(("etag" = String, description = "Validator of the answer"), ("cache-control" = String))),
        (status = 304, description = "The caller has this answer already"),
        (status = 403, description = "The publishable key is bound to other origins", body = ProblemBody,
            content_type = "application/problem+json"),
    ))]
async fn trending(
    State(app): State<Arc<App>>,
    params: Params,
    caller: Caller,
    known: Validators,
) -> Result<Response, Problem> {
    caller.require_public()?;
    params.only(&["limit", "category", "fields"])?;
    app.require_model()?;
    let category = params.category()?;
    let fields = Fields::of(&params)?;
    let items = app.reader.trending(params.limit()?, category, now_ms());
    let live = app.live.load();
    let answer = Trending {
        category: category.map(str::to_owned),
        model: ModelView::popularity(&live),
        items: view::items(&app.reader, &live, items, fields),
    };
    conditional::json(&known, conditional::SHARED, &answer)
}
