//! What every public request passes, from outside in: an id, the log line and metrics, CORS, shedding of
//! load, the caller's rate, the deadline, and the net under panics.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, Method, header};
use opentelemetry::context::FutureExt as _;
use recommendation_api::config::RecommenderConfig;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::App;
use super::caller::KEY_HEADER;
use super::problem::{Problem, REQUEST_ID};
use super::remote::Peer;
use crate::traces::Traces;

/// Largest body; a batch of a thousand full events is about half of it.
pub(super) const MAX_BODY: usize = 1024 * 1024;
/// Longest a request may take; an event's acknowledgement is given up a little earlier.
const DEADLINE: Duration = Duration::from_secs(10);
/// Answers of fewer bytes go out in one packet as they are.
const COMPRESS_ABOVE: u64 = 1_024;
const REQUEST_ID_HEADER: &str = "x-request-id";

/// Puts the layers around the routes.
pub(super) fn wrap(routes: Router, app: &Arc<App>, config: &RecommenderConfig) -> Router {
    routes
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(deadline))
        .layer(from_fn_with_state(Arc::clone(app), caller_rate))
        .layer(from_fn_with_state(Arc::clone(app), shed))
        .layer(
            CompressionLayer::new()
                .gzip(true)
                .compress_when(SizeAbove::new(COMPRESS_ABOVE)),
        )
        .layer(cors(&config.http.cors_origins))
        .layer(from_fn_with_state(Arc::clone(app), observe))
        .layer(from_fn(identify))
}

/// Every request has an id: the caller's if it is harmless, else a new one.
async fn identify(request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(REQUEST_ID_HEADER)
        .and_then(|v| v.to_str().ok())
        .filter(|id| is_harmless(id));
    let id = given.map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned);
    let mut response = REQUEST_ID.scope(id.clone(), next.run(request)).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID_HEADER, value);
    }
    response
}

fn is_harmless(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 64
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = known_method(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |p| p.as_str().to_owned());
    let response = match app.traces.request(method, &route, request.headers()) {
        Some(span) => {
            let response = next.run(request).with_context(span.clone()).await;
            Traces::answered(&span, response.status().as_u16());
            response
        }
        None => next.run(request).await,
    };
    let took = started.elapsed();
    app.metrics
        .request(&route, method, response.status().as_u16(), took);
    let id = REQUEST_ID.try_with(Clone::clone).unwrap_or_default();
    // The route's pattern and not the path: customers' ids stay out of the log.
    if response.status().is_server_error() {
        tracing::warn!(
            route,
            method,
            status = response.status().as_u16(),
            ?took,
            request_id = id,
            "request failed"
        );
    } else {
        tracing::debug!(
            route,
            method,
            status = response.status().as_u16(),
            ?took,
            request_id = id,
            "request"
        );
    }
    response
}

/// Methods as metric labels: a caller must not be able to make up new ones.
fn known_method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

fn cors(origins: &[String]) -> CorsLayer {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_NONE_MATCH,
            http::HeaderName::from_static(KEY_HEADER),
        ])
        .expose_headers([
            http::HeaderName::from_static(REQUEST_ID_HEADER),
            header::RETRY_AFTER,
            header::ETAG,
        ])
        .max_age(Duration::from_secs(600));
    if origins.iter().any(|o| o == "*") {
        return layer.allow_origin(AllowOrigin::any());
    }
    layer.allow_origin(AllowOrigin::list(
        origins.iter().filter_map(|o| HeaderValue::from_str(o).ok()),
    ))
}

/// More requests than can be answered soon are refused at once instead of queueing.
async fn shed(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match app.load.admit() {
        Some(_in_flight) => next.run(request).await,
        None => {
            app.metrics.shed.inc();
            Problem::unavailable("too many requests at once", 1).into_response()
        }
    }
}

async fn caller_rate(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let per_second = app.live.load().rate_limits.requests_per_second;
    let resource = request
        .extensions()
        .get::<MatchedPath>()
        .is_some_and(|p| p.as_str() == "/api/resource");
    if per_second > 0
        && !resource
        && let Some(peer) = request.extensions().get::<Peer>()
        && !app
            .limiter
            .request(app.trusted.caller(*peer, request.headers()), per_second)
    {
        app.metrics.rate_limited.with_label_values(&["requests"]).inc();
        return Problem::too_many_requests(1).into_response();
    }
    next.run(request).await
}

async fn deadline(request: Request, next: Next) -> Response {
    match tokio::time::timeout(DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::unavailable("the request took too long", 1).into_response(),
    }
}

fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let what = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    let id = REQUEST_ID.try_with(Clone::clone).unwrap_or_default();
    tracing::error!(panic = what, request_id = id, "a handler panicked");
    Problem::internal().into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_that_could_forge_log_lines_are_replaced() {
        assert!(is_harmless("0190-ab_c.d"));
        for id in ["", "a b", "a\nb", "\"", &"x".repeat(65)] {
            assert!(!is_harmless(id), "{id:?}");
        }
    }
}
