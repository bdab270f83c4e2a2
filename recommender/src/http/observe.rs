//! What every public request gets first: an id, and, once it is answered, its log line, its metrics and its span.
//!
//! A service of its own and not [`axum::middleware::from_fn`]: several of those around each other copy everything
//! below them once per request and layer, which cost more than answering from the cache.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use http::{HeaderName, HeaderValue, Method};
use opentelemetry::context::FutureExt as _;
use tower::{Layer, Service};

use super::App;
use super::problem::{REQUEST_ID, RequestId};
use crate::traces::Traces;

pub(super) const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Puts [`Observe`] around a service.
#[derive(Clone)]
pub(super) struct ObserveLayer(pub Arc<App>);

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe {
            app: Arc::clone(&self.0),
            inner,
        }
    }
}

/// Identifies and observes requests.
#[derive(Clone)]
pub(super) struct Observe<S> {
    app: Arc<App>,
    inner: S,
}

impl<S, B> Service<Request> for Observe<S>
where
    S: Service<Request, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let started = Instant::now();
        let id = identify(&request);
        let method = known_method(request.method());
        let route = request.extensions().get::<MatchedPath>().cloned();
        let app = Arc::clone(&self.app);
        let span = app.traces.request(method, name(&route), request.headers());
        let answer = REQUEST_ID.sync_scope(id.clone(), || self.inner.call(request));
        Box::pin(async move {
            let answer = REQUEST_ID.scope(id.clone(), answer);
            let mut response = match span {
                Some(span) => {
                    let response = answer.with_context(span.clone()).await?;
                    Traces::answered(&span, response.status().as_u16());
                    response
                }
                None => answer.await?,
            };
            let took = started.elapsed();
            let status = response.status();
            app.metrics.request(name(&route), method, status, took);
            log(name(&route), method, status, took, &id);
            response.headers_mut().insert(REQUEST_ID_HEADER, id.0);
            Ok(response)
        })
    }
}

/// The route's pattern and not the path: customers' ids stay out of metrics, traces and the log.
fn name(route: &Option<MatchedPath>) -> &str {
    route.as_ref().map_or("unmatched", MatchedPath::as_str)
}

fn log(route: &str, method: &str, status: http::StatusCode, took: Duration, id: &RequestId) {
    let (status, request_id) = (status.as_u16(), id.as_str());
    if status >= 500 {
        tracing::warn!(route, method, status, ?took, request_id, "request failed");
    } else {
        tracing::debug!(route, method, status, ?took, request_id, "request");
    }
}

/// Every request has an id: the caller's if it is harmless, else a new one.
fn identify(request: &Request) -> RequestId {
    let given = request.headers().get(REQUEST_ID_HEADER);
    match given.filter(|id| is_harmless(id.as_bytes())) {
        Some(id) => RequestId(id.clone()),
        None => {
            let mut text = uuid::Uuid::encode_buffer();
            let text = crate::ids::new().hyphenated().encode_lower(&mut text);
            RequestId(HeaderValue::from_str(text).expect("a UUID is hexadecimal digits and hyphens"))
        }
    }
}

fn is_harmless(id: &[u8]) -> bool {
    (1..=64).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_that_could_forge_log_lines_are_replaced() {
        assert!(is_harmless(b"0190-ab_c.d"));
        for id in ["", "a b", "a\nb", "\"", &"x".repeat(65)] {
            assert!(!is_harmless(id.as_bytes()), "{id:?}");
        }
    }
}
