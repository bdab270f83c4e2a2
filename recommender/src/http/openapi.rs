//! The OpenAPI document: made from the routes themselves, so that a route that is not in it does not exist. What every
//! route has in common (problems, headers, size limits) is added here once.

use std::sync::OnceLock;

use http::StatusCode;
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, HeaderBuilder, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::openapi::{ObjectBuilder, schema::Type};

use super::caller::{KEY_HEADER, KEY_PARAMETER};
use super::problem::ProblemBody;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Recommender",
        description = "Learns from a shop's event stream while it runs, and answers with recommendations. Errors are \
            problems as RFC 9457 has them: `detail` says what to do, `field` names what is at fault.",
    ),
    tags(
        (name = "recommendations", description = "What to show"),
        (name = "products", description = "The catalogue"),
        (name = "events", description = "What customers do"),
        (name = "customers", description = "What is known of customers"),
        (name = "insights", description = "What customers do, and what recommendations lead to"),
        (name = "webhooks", description = "Events as other systems send them"),
        (name = "sign-in", description = "Tokens"),
        (name = "limits", description = "A resource with a rate limit"),
        (name = "documentation", description = "This document"),
    ),
    components(schemas(ProblemBody)),
)]
struct Base;

/// What the routes' own documents are added to.
pub fn base() -> OpenApi {
    Base::openapi()
}

/// The whole document, as text: what `/openapi.json` serves.
pub fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let document = super::routes::router().1;
        let mut text = document
            .to_pretty_json()
            .expect("the document is made of strings and numbers");
        text.push('\n');
        text
    })
}

/// Adds what all routes have in common.
pub fn finish(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(
            "From /auth/token, `recommender token`, or the identity provider",
        ));
    components.add_security_scheme("token", SecurityScheme::Http(bearer.build()));
    let key = |value: ApiKeyValue| value;
    components.add_security_scheme(
        "publishable_key",
        SecurityScheme::ApiKey(ApiKey::Header(key(ApiKeyValue::with_description(
            KEY_HEADER,
            "A key that may stand in a web page; needed where the service has such keys",
        )))),
    );
    components.add_security_scheme(
        "publishable_key_parameter",
        SecurityScheme::ApiKey(ApiKey::Query(key(ApiKeyValue::with_description(
            KEY_PARAMETER,
            "The same where a header cannot be set",
        )))),
    );
    for item in document.paths.paths.values_mut() {
        for (_, operation) in operations_mut(item) {
            complete(operation);
        }
    }
    document
}

/// The operations of a path with their methods, in capitals.
fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    [
        ("GET", &mut item.get),
        ("PUT", &mut item.put),
        ("POST", &mut item.post),
        ("DELETE", &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Method and path of every route in the document.
pub fn routes(document: &OpenApi) -> Vec<(String, String)> {
    let mut document = document.clone();
    let mut routes = Vec::new();
    for (path, item) in &mut document.paths.paths {
        for (method, _) in operations_mut(item) {
            routes.push((method.to_owned(), path.clone()));
        }
    }
    routes
}

fn complete(operation: &mut Operation) {
    use StatusCode as S;
    let mut problems = vec![
        (
            S::BAD_REQUEST,
            "A parameter or the body is wrong; `field` names it",
        ),
        (S::TOO_MANY_REQUESTS, "Too many requests of this address"),
        (
            S::INTERNAL_SERVER_ERROR,
            "Something broke; `request_id` finds the log line",
        ),
        (
            S::SERVICE_UNAVAILABLE,
            "The model is still loading, the event log does not acknowledge, or there are too many requests at once",
        ),
    ];
    if operation.request_body.is_some() {
        problems.push((S::PAYLOAD_TOO_LARGE, "The body is too large"));
    }
    // An operation that takes a token may be refused for a bad one; whether it may be for want of a scope, its own
    // documentation says.
    if operation.security.is_some() {
        problems.push((S::UNAUTHORIZED, "The token or key is missing, expired or wrong"));
    }
    let responses = &mut operation.responses.responses;
    for (status, description) in problems {
        responses
            .entry(status.as_u16().to_string())
            .or_insert_with(|| problem(status, description));
    }
    for response in responses.values_mut() {
        if let RefOr::T(response) = response {
            response
                .headers
                .entry("x-request-id".into())
                .or_insert_with(|| RefOr::T(text_header("The request's id: the caller's own, or a new one")));
        }
    }
}

fn text_header(description: &str) -> utoipa::openapi::Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some(description))
        .build()
}

fn problem(status: StatusCode, description: &str) -> RefOr<utoipa::openapi::Response> {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .build();
    let mut response = ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", content);
    if matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        response = response.header(
            "retry-after",
            text_header("Seconds until it is worth trying again"),
        );
    }
    RefOr::T(response.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_document_is_the_current_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(path, text()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == text(),
            "recommender/openapi.json is not current: UPDATE_OPENAPI=1 cargo test -p recommender --lib openapi"
        );
    }

    #[test]
    fn every_operation_is_named_described_and_says_what_goes_wrong() {
        let mut document = super::super::routes::router().1;
        let mut names = std::collections::HashSet::new();
        for (path, item) in &mut document.paths.paths {
            for (method, operation) in operations_mut(item) {
                let name = operation.operation_id.clone().unwrap_or_default();
                assert!(names.insert(name.clone()), "{method} {path}: {name} stands twice");
                assert!(
                    operation.summary.is_some() && operation.tags.is_some(),
                    "{method} {path}"
                );
                for status in ["400", "429", "500", "503"] {
                    assert!(
                        operation.responses.responses.contains_key(status),
                        "{method} {path}: {status}"
                    );
                }
            }
        }
        assert!(text().contains("\"openapi\": \"3.1"));
    }
}
