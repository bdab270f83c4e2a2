//! The shop as a whole: what customers do, what is popular and rising, what experiments found.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::http::App;
use crate::http::caller::{CUSTOMERS_READ, Caller};
use crate::http::input::Params;
use crate::http::problem::Problem;
use crate::http::routes::insights::{days, figures};
use crate::insights::report::Report;

/// The figures of `GET /v1/insights`.
pub(super) async fn shop(
    State(app): State<Arc<App>>,
    params: Params,
    caller: Caller,
) -> Result<Json<Report>, Problem> {
    caller.require_scope(CUSTOMERS_READ)?;
    params.only(&["days", "limit"])?;
    let limit = params.limit()?;
    app.require_model()?;
    Ok(Json(figures(&app, days(&params)?).await?.shortened(limit)))
}
