//! Which requests are answered at all, and until when: load is shed before it queues, callers are held to their rate,
//! nothing takes longer than its deadline, and a panic ends one request only. One service and not four layers around
//! each other, for the reason that [`super::observe`] gives.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use tower::{Layer, Service};

use super::App;
use super::problem::{Problem, REQUEST_ID};
use super::remote::Peer;
use crate::resilience::load::InFlight;

/// Longest a request may take; an event's acknowledgement is given up a little earlier.
const DEADLINE: Duration = Duration::from_secs(10);

/// Puts [`Admit`] around a service.
#[derive(Clone)]
pub(super) struct AdmitLayer(pub Arc<App>);

impl<S> Layer<S> for AdmitLayer {
    type Service = Admit<S>;

    fn layer(&self, inner: S) -> Admit<S> {
        Admit {
            app: Arc::clone(&self.0),
            inner,
        }
    }
}

/// Admits requests, or not.
#[derive(Clone)]
pub(super) struct Admit<S> {
    app: Arc<App>,
    inner: S,
}

impl<S> Service<Request> for Admit<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let in_flight = match admitted(&self.app, &request) {
            Ok(in_flight) => in_flight,
            Err(problem) => {
                let response = problem.into_response();
                return Box::pin(std::future::ready(Ok(response)));
            }
        };
        let answer = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        Box::pin(async move {
            let _in_flight = in_flight;
            match tokio::time::timeout(DEADLINE, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(panic)) => Ok(panicked(panic.as_ref())),
                Err(_) => Ok(Problem::unavailable("the request took too long", 1).into_response()),
            }
        })
    }
}

/// More requests than can be answered soon are refused at once instead of queueing, and those of callers who ask too
/// often.
fn admitted(app: &App, request: &Request) -> Result<InFlight, Problem> {
    let Some(in_flight) = app.load.admit() else {
        app.metrics.shed.inc();
        return Err(Problem::unavailable("too many requests at once", 1));
    };
    let per_second = app.live.load().rate_limits.requests_per_second;
    let extensions = request.extensions();
    let has_own_limit = || {
        let route = extensions.get::<MatchedPath>();
        route.is_some_and(|route| route.as_str() == "/api/resource")
    };
    if per_second > 0
        && !has_own_limit()
        && let Some(peer) = extensions.get::<Peer>()
        && !app
            .limiter
            .request(app.trusted.caller(*peer, request.headers()), per_second)
    {
        app.metrics.rate_limited.with_label_values(&["requests"]).inc();
        return Err(Problem::too_many_requests(1));
    }
    Ok(in_flight)
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
    let what = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    let request_id = REQUEST_ID
        .try_with(|id| id.as_str().to_owned())
        .unwrap_or_default();
    tracing::error!(panic = what, request_id, "a handler panicked");
    Problem::internal().into_response()
}
