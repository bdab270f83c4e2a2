//! `/v1/recommendations`: for a customer, for an anonymous visit or a basket; and `/v1/trending`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, header};
use opentelemetry::trace::SpanKind;
use recommendation_api::event::rfc3339;
use recommendation_api::report::DependencyState;
use recommender_engine::{CatalogueRevision, Fallback, Query, Revision};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::fields::Fields;
use super::view::{self, ItemView, ModelView};
use crate::cache::{Body as CachedBody, Keep, Key, KeyBuilder, NO_ID};
use crate::clock::now_ms;
use crate::http::App;
use crate::http::caller::{Caller, RECOMMENDATIONS_READ, visit};
use crate::http::conditional::{self, Validators};
use crate::http::input::{Body, Params, PathId, check_algorithm, check_id, check_limit, check_list};
use crate::http::problem::{Problem, ProblemBody};
use crate::ids;
use crate::placements::{self, Placement};

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(personal))
        .routes(routes!(anonymous))
        .routes(routes!(trending))
}

#[derive(Serialize, ToSchema)]
#[schema(as = Recommendations)]
struct Answer {
    /// Of this answer; send it with the events that it leads to.
    recommendation_id: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<String>,
    /// The experiment that the customer takes part in; absent where there is none, or the request names the algorithm.
    #[serde(skip_serializing_if = "Option::is_none")]
    experiment: Option<Arc<str>>,
    /// The experiment's arm; without one the algorithm that was asked.
    arm: Arc<str>,
    model: ModelView,
    /// What the answer rests on.
    fallback: Basis,
    /// Best first.
    items: Vec<ItemView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Explanation>,
}

/// What an answer rests on: the customer's history, the products of the request, or what is popular; the last also
/// for want of the customer's consent.
#[derive(Clone, Copy, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Basis {
    Personal,
    Session,
    Popular,
    Consent,
}

impl From<Fallback> for Basis {
    fn from(fallback: Fallback) -> Self {
        match fallback {
            Fallback::Personal => Self::Personal,
            Fallback::Session => Self::Session,
            Fallback::Popular => Self::Popular,
        }
    }
}

/// What the model knows of the customer, newest first.
#[derive(Serialize, ToSchema)]
struct Explanation {
    history: Vec<Known>,
}

#[derive(Serialize, ToSchema)]
struct Known {
    product_id: Arc<str>,
    /// The strongest thing done with it.
    kind: &'static str,
    /// Summed weight of the events.
    weight: f32,
    /// Purchases less returns.
    purchases: i32,
    /// The last event's time.
    last: String,
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
    let (tag, bytes) = answered(&app, &query, &place).await?;
    Ok(conditional::bytes_with(
        &known,
        conditional::PERSONAL,
        &tag,
        bytes,
    ))
}

/// Whom an answer is for.
struct Whom<'a> {
    /// As the request names them.
    customer_id: Option<&'a str>,
    /// Only what is popular, for want of consent.
    refuses: bool,
}

/// Where an answer is shown, to whom, and which arm it is of.
struct Place<'a> {
    whom: Whom<'a>,
    /// As the request named it.
    name: Option<&'a str>,
    placement: Placement,
    experiment: Option<Arc<str>>,
    arm: Arc<str>,
    /// What is told of each product.
    fields: Fields,
}

/// The question as the customer's arm asks it. A request that names its algorithm is no part of an experiment.
fn place<'a>(
    app: &App,
    query: Query<'a>,
    name: Option<&'a str>,
    whom: Whom<'a>,
    fields: Fields,
) -> (Query<'a>, Place<'a>) {
    let live = app.live.load();
    let placement = Placement::of(name, query.algorithm.is_some());
    let assigned = query
        .customer
        .filter(|_| query.algorithm.is_none())
        .and_then(|customer| live.experiments.assign(customer));
    let (experiment, arm, algorithm) = match assigned {
        Some(assigned) => (Some(assigned.experiment), assigned.arm, Some(assigned.algorithm)),
        None => {
            let named = query.algorithm.map(recommender_engine::Algorithm::name);
            (None, named.unwrap_or(&live.algorithm).into(), query.algorithm)
        }
    };
    let place = Place {
        whom,
        name,
        placement,
        experiment,
        arm,
        fields,
    };
    (Query { algorithm, ..query }, place)
}

/// An answer's JSON, with a place for its id.
fn written(answer: &Answer) -> Result<CachedBody, Problem> {
    CachedBody::new(conditional::to_bytes(answer)?).map_err(|_| Problem::internal())
}

/// The answer's validator and JSON: from the cache where there is one, else computed.
async fn answered(
    app: &App,
    query: &Query<'_>,
    place: &Place<'_>,
) -> Result<(HeaderValue, Vec<u8>), Problem> {
    let (tag, json) = found_or_computed(app, query, place).await?;
    app.shown.observe(&app.reader, &json, query.now_ms);
    // Not of a basket that nobody's name is on: there is nobody whose events could follow.
    if let Some(customer) = query.customer.filter(|name| app.privacy.may_name(name)) {
        app.impressions.shown(customer, place.name, query.now_ms, &json);
    }
    Ok((tag, json))
}

async fn found_or_computed(
    app: &App,
    query: &Query<'_>,
    place: &Place<'_>,
) -> Result<(HeaderValue, Vec<u8>), Problem> {
    let compute = || {
        let _step = app.traces.step("recommend", SpanKind::Internal);
        written(&answer(app, query, place, None))
    };
    let id = ids::new();
    let Some(cache) = &app.cache else {
        let body = compute()?;
        return Ok((body.tag().clone(), body.into_bytes(&id)));
    };
    let revision = query.customer.map_or_else(Revision::default, |customer| {
        app.reader.customer_revision(customer)
    });
    let catalogue = app.reader.catalogue_revision();
    let key = key(app, query, place, revision, catalogue);
    let stored = cache
        .answer(&key, keep(app, revision, catalogue), compute)
        .await?;
    Ok((stored.body.tag().clone(), stored.body.with_id(&id)))
}

/// Everything that an answer depends on, but for what other customers do.
fn key(
    app: &App,
    query: &Query<'_>,
    place: &Place<'_>,
    revision: Revision,
    catalogue: CatalogueRevision,
) -> Key {
    let live = app.live.load();
    let mut key = KeyBuilder::new("recommendations");
    if let Some(customer) = query.customer.or(place.whom.customer_id) {
        key.about(app.privacy.tag_of(customer));
    }
    key.text(&live.version)
        .optional(query.customer)
        .optional(place.experiment.as_deref())
        .text(&place.arm)
        .number(place.placement as u64)
        .optional(place.whom.customer_id)
        .number(u64::from(place.whom.refuses))
        .number(revision.digest)
        .number(revision.newest_ms.cast_unsigned())
        .number(catalogue.digest)
        .list(query.recent.iter().copied())
        .optional(query.algorithm.map(recommender_engine::Algorithm::name))
        .number(query.limit as u64)
        .number(place.fields.digest())
        .optional(query.category)
        .list(query.exclude.iter().copied())
        .number(
            query
                .diversity
                .map_or(u64::MAX, |share| u64::from(share.to_bits())),
        );
    key.finish()
}

/// Longest that a replica may be behind and still fill the cache, seconds.
const BEHIND: f64 = 2.0;
/// How long the neighbours of what a customer has just touched may take to be brought up to date, milliseconds.
const SETTLES: i64 = 1_000;

fn keep(app: &App, revision: Revision, catalogue: CatalogueRevision) -> Keep {
    let progress = app.progress.load();
    let follows = progress.log == DependencyState::Up && progress.lag.seconds <= BEHIND;
    let settled = now_ms() - revision.newest_ms > SETTLES;
    if follows && settled && catalogue.settled {
        Keep::Yes
    } else {
        Keep::No
    }
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

fn answer(app: &App, query: &Query<'_>, place: &Place<'_>, explanation: Option<Explanation>) -> Answer {
    let live = app.live.load();
    let found = placements::answer(place.placement, &app.reader, &app.baskets, &live, query);
    let fallback = match place.whom.refuses {
        true => Basis::Consent,
        false => found.fallback.into(),
    };
    let label = match fallback {
        Basis::Personal => "personal",
        Basis::Session => "session",
        Basis::Popular => "popular",
        Basis::Consent => "consent",
    };
    app.metrics.answers.with_label_values(&[label]).inc();
    Answer {
        recommendation_id: NO_ID,
        customer_id: place.whom.customer_id.map(str::to_owned),
        experiment: place.experiment.clone(),
        arm: Arc::clone(&place.arm),
        model: ModelView::new(&live, Some(found.algorithm)),
        fallback,
        items: view::items(&app.reader, &live, found.items, place.fields),
        explanation,
    }
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
    let (_, body) = answered(&app, &query, &place).await?;
    let head = [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_TYPE, "application/json"),
    ];
    Ok((head, body).into_response())
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
