//! The public routes, one file per group.

mod events;
mod products;
mod recommendations;
mod resource;
mod sign_in;
mod view;
mod webhooks;

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse as _, Response};

use super::App;
use super::problem::Problem;

/// All of them.
pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .merge(recommendations::router())
        .merge(products::router())
        .merge(events::router())
        .merge(webhooks::router())
        .merge(sign_in::router())
        .merge(resource::router())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
}

async fn no_route() -> Response {
    Problem::not_found("there is no such route").into_response()
}

async fn no_method() -> Response {
    Problem::method_not_allowed().into_response()
}
