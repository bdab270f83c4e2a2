//! The public routes, one file per group.

mod customers;
mod documentation;
mod events;
pub(super) mod fields;
pub(super) mod insights;
mod products;
mod recommendations;
mod resource;
pub(super) mod sign_in;
mod snippet;
pub(super) mod view;
mod webhooks;

use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};

use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use super::App;
use super::openapi;
use super::problem::Problem;

/// All of them, and the document that describes them.
pub(super) fn router() -> (axum::Router<Arc<App>>, OpenApi) {
    let (router, document) = OpenApiRouter::with_openapi(openapi::base())
        .merge(recommendations::router())
        .merge(products::router())
        .merge(events::router())
        .merge(customers::router())
        .merge(insights::router())
        .merge(webhooks::router())
        .merge(sign_in::router())
        .merge(resource::router())
        .merge(documentation::router())
        .merge(snippet::router())
        .split_for_parts();
    let router = router
        .merge(products::named_like_a_route())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method);
    (router, openapi::finish(document))
}

async fn no_route() -> Response {
    Problem::not_found("there is no such route").into_response()
}

async fn no_method() -> Response {
    Problem::method_not_allowed().into_response()
}
