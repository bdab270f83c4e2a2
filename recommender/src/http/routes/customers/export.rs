//! `GET /v1/customers/{id}`: everything that is known of a customer (GDPR art. 15).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::header::{CACHE_CONTROL, HeaderName};
use recommendation_api::event::rfc3339;
use recommendation_api::records::CustomerProfile;
use recommender_engine::Query;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{aliases, ids};
use crate::clock::now_ms;
use crate::http::App;
use crate::http::caller::{CUSTOMERS_ADMIN, Caller};
use crate::http::input::{PathId, check_id};
use crate::http::problem::{Problem, ProblemBody};
use crate::http::routes::fields::Fields;
use crate::http::routes::view::{self, ItemView};
use crate::http::schemas::ProfileBody;
use crate::insights::{Answered, KEPT_MS};
use crate::privacy::places::Remains;

/// Products that the model would show, as an example of what it concludes.
const CONCLUSIONS: usize = 10;

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(export))
}

#[derive(Serialize, ToSchema)]
#[schema(as = CustomerExport)]
struct Export {
    customer_id: String,
    /// Other ids that are the customer's.
    aliases: Vec<Arc<str>>,
    consent: ConsentView,
    /// What the customer told.
    #[schema(value_type = Option<ProfileBody>)]
    profile: Option<CustomerProfile>,
    /// What the model knows the customer did, newest first.
    history: Vec<Known>,
    /// What was shown to the customer since `shown_since`, newest first, as far as it was recorded.
    shown: Vec<ShownAnswer>,
    /// `shown` goes back to here, eight days: what figures are made of. What was shown before stands in the log until
    /// the time that `stored` tells of it, and is found there by `recommender records`; an embedded log does not keep it.
    shown_since: String,
    /// What it concludes from that.
    derived: Derived,
    /// Where the records are kept that this was learned from, and for how long.
    stored: Vec<Remains>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Consent)]
struct ConsentView {
    /// What the customer said; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    said: Option<bool>,
    /// Whether the customer is learned from and answered personally.
    personalised: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = KnownProduct)]
struct Known {
    product_id: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// The strongest thing done with it.
    kind: &'static str,
    /// Summed weight of the events.
    weight: f32,
    /// Purchases less returns.
    purchases: i32,
    /// The last event's time.
    last: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ShownAnswer)]
struct ShownAnswer {
    /// When.
    at: String,
    /// The experiment that it was part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    experiment: Option<Arc<str>>,
    /// The experiment's arm, or the algorithm.
    arm: Arc<str>,
    /// Where it was shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<Arc<str>>,
    /// What was shown, best first.
    products: Vec<Arc<str>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DerivedFacts)]
struct Derived {
    /// What the customer would be shown now, and why.
    recommendations: Vec<ItemView>,
}

impl From<Answered> for ShownAnswer {
    fn from(answered: Answered) -> Self {
        Self {
            at: rfc3339(answered.time_ms),
            experiment: answered.experiment,
            arm: answered.arm,
            placement: answered.placement,
            products: answered.products,
        }
    }
}

/// Export what is known of a customer
#[utoipa::path(get, path = "/v1/customers/{customer_id}", operation_id = "export_customer", tag = "customers",
    security(("token" = [])),
    params(("customer_id" = String, Path, description = "The customer", min_length = 1, max_length = 256)),
    responses(
        (status = 200, description = "Everything; empty where nothing is known", body = Export),
        (status = 403, description = "The token is another customer's and has no scope customers:admin", body = ProblemBody,
            content_type = "application/problem+json"),
    ))]
async fn export(
    State(app): State<Arc<App>>,
    PathId(customer_id): PathId,
    caller: Caller,
) -> Result<([(HeaderName, &'static str); 1], Json<Export>), Problem> {
    check_id("customer_id", &customer_id)?;
    caller.require_customer_or(&customer_id, CUSTOMERS_ADMIN)?;
    app.require_model()?;
    let ids = ids(&app, &customer_id);
    let name = &ids[0];
    app.recall_surely(name).await?;
    let now = now_ms();
    let history: Vec<Known> = app
        .reader
        .customer_history(name)
        .unwrap_or_default()
        .into_iter()
        .map(|item| Known {
            title: app.reader.product(&item.product).and_then(|meta| meta.title),
            product_id: item.product,
            kind: view::done(item.kind).0,
            weight: item.weight,
            purchases: item.purchases,
            last: rfc3339(item.last_ms),
        })
        .collect();
    let query = Query {
        customer: Some(name),
        limit: CONCLUSIONS,
        now_ms: now,
        ..Query::default()
    };
    let recommendations = if history.is_empty() {
        Vec::new()
    } else {
        let found = app.reader.recommend(&query).items;
        view::items(&app.reader, &app.live.load(), found, Fields::ALL)
    };
    let shown = app.desk.shown_to(&ids).await;
    let shown = shown.map_err(|e| Problem::unavailable(e.to_string(), 1))?;
    let profile = app.directory.profile(name);
    let export = Export {
        aliases: aliases(&ids, &customer_id),
        consent: ConsentView {
            said: profile.as_ref().and_then(|profile| profile.consent),
            personalised: app.privacy.tracks(&app.directory, name),
        },
        stored: app.privacy.places.remains(now, profile.is_some()),
        customer_id,
        profile,
        history,
        shown: shown.into_iter().map(ShownAnswer::from).collect(),
        shown_since: rfc3339(now.saturating_sub(KEPT_MS)),
        derived: Derived { recommendations },
    };
    Ok(([(CACHE_CONTROL, "no-store")], Json(export)))
}
