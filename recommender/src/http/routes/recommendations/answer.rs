//! An answer: whom it is for and where it is shown, from the cache or computed, and as it is written.

use std::sync::Arc;

use http::HeaderValue;
use opentelemetry::trace::SpanKind;
use recommendation_api::event::rfc3339;
use recommendation_api::report::DependencyState;
use recommender_engine::{CatalogueRevision, Fallback, Query, Revision};
use serde::Serialize;
use utoipa::ToSchema;

use crate::cache::{Body as CachedBody, Keep, Key, KeyBuilder, NO_ID};
use crate::clock::now_ms;
use crate::http::App;
use crate::http::conditional;
use crate::http::problem::Problem;
use crate::http::routes::fields::Fields;
use crate::http::routes::view::{self, ItemView, ModelView};
use crate::ids;
use crate::placements::{self, Placement};

#[derive(Serialize, ToSchema)]
#[schema(as = Recommendations)]
pub(super) struct Answer {
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
pub(super) struct Explanation {
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

/// Whom an answer is for.
pub(super) struct Whom<'a> {
    /// As the request names them.
    pub customer_id: Option<&'a str>,
    /// Only what is popular, for want of consent.
    pub refuses: bool,
}

/// Where an answer is shown, to whom, and which arm it is of.
pub(super) struct Place<'a> {
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
pub(super) fn place<'a>(
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
pub(super) fn written(answer: &Answer) -> Result<CachedBody, Problem> {
    CachedBody::new(conditional::to_bytes(answer)?).map_err(|_| Problem::internal())
}

/// The answer's validator and JSON: from the cache where there is one, else computed. Unless it `is_shown`, it counts as
/// shown to nobody.
pub(super) async fn answered(
    app: &App,
    query: &Query<'_>,
    place: &Place<'_>,
    is_shown: bool,
) -> Result<(HeaderValue, Vec<u8>), Problem> {
    let (tag, json) = found_or_computed(app, query, place).await?;
    if !is_shown {
        return Ok((tag, json));
    }
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

pub(super) fn explain(app: &App, customer_id: &str) -> Explanation {
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

pub(super) fn answer(
    app: &App,
    query: &Query<'_>,
    place: &Place<'_>,
    explanation: Option<Explanation>,
) -> Answer {
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
