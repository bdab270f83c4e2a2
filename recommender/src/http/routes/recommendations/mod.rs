//! `/v1/recommendations`: for a customer, for an anonymous visit or a basket; and `/v1/trending`.

mod answer;
mod trending;
mod visit;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Method;
use recommender_engine::Query;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::answer::{Answer, Whom, answer, answered, explain, place, written};
use super::fields::Fields;
use crate::clock::now_ms;
use crate::http::App;
use crate::http::caller::{Caller, RECOMMENDATIONS_READ};
use crate::http::conditional::{self, Validators};
use crate::http::input::{Params, PathId, check_algorithm, check_id};
use crate::http::problem::{Problem, ProblemBody};
use crate::ids;

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(personal))
        .merge(visit::router())
        .merge(trending::router())
}

/// Recommendations for a customer
///
/// Personal where something is known of the customer, else what is popular; `fallback` says which. The answer has a
/// validator: with `If-None-Match`, 304 says that it would be the same.
#[utoipa::path(get, path = "/v1/recommendations/{customer_id}", operation_id = "recommend_to_customer", tag = "recommendations", security(("token" = [])),
    params(
        ("customer_id" = String, Path, description = "The customer", min_length = 1, max_length = 256),
        ("limit" = Option<u32>, Query, description = "How many products", minimum = 1, maximum = 100),
        ("algorithm" = Option<String>, Query, description = "Instead of the configured one: Hybrid, ItemKnn, …"),
        ("placement" = Option<String>, Query, description = "Where the answer is shown: `home`, `product` (first what is similar to the product last looked at), `cart` (first what is bought together with what is in it), or a name of the shop's own", max_length = 256),
        ("category" = Option<String>, Query, description = "Only products of this category", max_length = 256),
        ("exclude" = Option<Vec<String>>, Query, description = "Products to leave out: separated by commas, or given several times", max_items = 500),
        ("diversity" = Option<f32>, Query, description = "0 = most alike, 1 = most varied", minimum = 0, maximum = 1),
        ("explain" = Option<bool>, Query, description = "Whether to tell what is known of the customer"),
        ("fields" = Option<Vec<String>>, Query, description = "What to tell of each product, all of it unless given: some of `product_id` (always told), `title`, `score`, `reason`, separated by commas or given several times. An answer without reasons is faster", max_items = 500),
        ("if-none-match" = Option<String>, Header, description = "Validators of answers that the caller has"),
    ),
    responses(
        (status = 200, description = "Products, best first", body = Answer,
            headers(("etag" = String, description = "Validator of the answer, whatever its id"), ("cache-control" = String))),
        (status = 304, description = "The caller has this answer already"),
        (status = 403, description = "The token is another customer's and has no scope recommendations:read",
            body = ProblemBody, content_type = "application/problem+json"),
    ))]
async fn personal(
    State(app): State<Arc<App>>,
    method: Method,
    PathId(customer_id): PathId,
    params: Params,
    caller: Caller,
    known: Validators,
) -> Result<Response, Problem> {
    params.only(&[
        "limit",
        "algorithm",
        "placement",
        "category",
        "exclude",
        "diversity",
        "explain",
        "fields",
    ])?;
    check_id("customer_id", &customer_id)?;
    caller.require_customer_or(&customer_id, RECOMMENDATIONS_READ)?;
    app.require_model()?;
    let exclude = params.list("exclude")?;
    let exclude: Vec<&str> = exclude.iter().map(String::as_str).collect();
    let placement = params.one("placement")?;
    placement.map_or(Ok(()), |placement| check_id("placement", placement))?;
    let name = app.name(&customer_id);
    let whom = Whom {
        customer_id: Some(&customer_id),
        refuses: !app.privacy.tracks(&app.directory, &name),
    };
    let fields = Fields::of(&params)?;
    if !whom.refuses {
        app.recall(&name).await;
    }
    let query = Query {
        customer: (!whom.refuses).then_some(&*name),
        limit: params.limit()?,
        algorithm: params.one("algorithm")?.map(check_algorithm).transpose()?,
        category: params.category()?,
        exclude: &exclude,
        diversity: params.share("diversity")?,
        reasons: fields.reason,
        now_ms: now_ms(),
        ..Query::default()
    };
    let (query, place) = place(&app, query, placement, whom, fields);
    if params.flag("explain")? {
        let explanation = Some(explain(&app, &name));
        let answer = written(&answer(&app, &query, &place, explanation))?;
        let tag = answer.tag().clone();
        let bytes = answer.into_bytes(&ids::new());
        app.shown.observe(&app.reader, &bytes, query.now_ms);
        return Ok(conditional::bytes_with(
            &known,
            conditional::PERSONAL,
            &tag,
            bytes,
        ));
    }
    let (tag, bytes) = answered(&app, &query, &place, method != Method::HEAD).await?;
    Ok(conditional::bytes_with(
        &known,
        conditional::PERSONAL,
        &tag,
        bytes,
    ))
}
