//! The shop as a whole: what customers do, and what is popular.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::clock::now_ms;
use crate::http::App;
use crate::http::caller::{CUSTOMERS_READ, Caller};
use crate::http::input::Params;
use crate::http::problem::Problem;

#[derive(Serialize)]
pub(super) struct Shop {
    /// Events read by type, in the order of a purchase.
    funnel: Vec<Step>,
    /// Most popular first.
    popular: Vec<Popular>,
}

#[derive(Serialize)]
struct Step {
    event_type: &'static str,
    events: u64,
}

#[derive(Serialize)]
struct Popular {
    product_id: Arc<str>,
    title: Arc<str>,
    score: f32,
}

pub(super) async fn shop(
    State(app): State<Arc<App>>,
    params: Params,
    caller: Caller,
) -> Result<Json<Shop>, Problem> {
    caller.require_scope(CUSTOMERS_READ)?;
    params.only(&["limit"])?;
    let step = |event_type: &'static str| Step {
        event_type,
        events: app.metrics.events.with_label_values(&[event_type]).get(),
    };
    let popular = app.reader.trending(params.limit()?, None, now_ms());
    let popular = popular.into_iter().map(|item| Popular {
        title: item.title.unwrap_or_else(|| Arc::clone(&item.product)),
        product_id: item.product,
        score: item.score,
    });
    Ok(Json(Shop {
        funnel: ["view", "click", "cart", "purchase", "return"].map(step).into(),
        popular: popular.collect(),
    }))
}
