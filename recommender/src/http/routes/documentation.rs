//! `/openapi.json`, and `/docs` for people: a page of one file that needs nothing from elsewhere, for it must work
//! where there is no Internet.

use std::sync::{Arc, OnceLock};

use axum::response::{Html, IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, header};
use sha2::{Digest as _, Sha256};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::App;
use crate::http::openapi;

const PAGE: &str = include_str!("documentation.html");

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(document))
        .routes(routes!(page))
}

/// This document
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi_document", tag = "documentation", responses(
    (status = 200, description = "OpenAPI 3.1", body = serde_json::Value),
))]
async fn document() -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, openapi::text()).into_response()
}

/// This document, for people
#[utoipa::path(get, path = "/docs", operation_id = "documentation_page", tag = "documentation", responses(
    (status = 200, description = "A page", body = String, content_type = "text/html"),
))]
async fn page() -> Response {
    let mut response = Html(PAGE).into_response();
    if let Ok(policy) = HeaderValue::from_str(policy()) {
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Nothing but the page's own script, by its digest.
fn policy() -> &'static str {
    static POLICY: OnceLock<String> = OnceLock::new();
    POLICY.get_or_init(|| {
        let digest = STANDARD.encode(Sha256::digest(script().as_bytes()));
        format!(
            "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    })
}

fn script() -> &'static str {
    let from = PAGE.find("<script>").map_or(0, |at| at + "<script>".len());
    let to = PAGE.find("</script>").unwrap_or(PAGE.len());
    &PAGE[from..to]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_script_and_asks_nobody_else_for_anything() {
        assert_eq!(PAGE.matches("<script").count(), 1);
        assert!(script().contains("openapi.json") && policy().contains("sha256-"));
        assert!(!PAGE.contains("http://") && !PAGE.contains("https://"));
    }
}
