//! `/v1/snippet.js`: what a shop's pages include to send events of their visit and to read what is not personal. It
//! keeps an id of the visit, and which recommendation showed which product, for as long as the visit lasts.

use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use http::header;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::App;

/// It goes over the wire as it stands here.
const SNIPPET: &str = include_str!("snippet.js");

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(snippet))
}

/// A script for the shop's pages
///
/// `<script src="…/v1/snippet.js" data-key="pk_…"></script>` makes `window.recommender` with `send`, `recommend`,
/// `similar`, `boughtTogether` and `trending`.
#[utoipa::path(get, path = "/v1/snippet.js", operation_id = "browser_snippet", tag = "documentation", responses(
    (status = 200, description = "JavaScript", body = String, content_type = "text/javascript",
        headers(("cache-control" = String))),
))]
async fn snippet() -> Response {
    let head = [
        (header::CONTENT_TYPE.as_str(), "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL.as_str(), "public, max-age=3600"),
        // Pages of other origins include it, also those that allow only what says that they may.
        ("cross-origin-resource-policy", "cross-origin"),
    ];
    (head, SNIPPET).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_snippet_is_smaller_than_two_kilobytes_and_asks_nobody_else() {
        assert!(SNIPPET.len() < 2_000, "{}", SNIPPET.len());
        assert!(!SNIPPET.contains("http://") && !SNIPPET.contains("https://"));
    }
}
