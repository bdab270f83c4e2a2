//! `/api/resource`: rate-limited, and says so.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::http::App;
use crate::http::problem::Problem;
use crate::http::remote::Peer;
use crate::ratelimit::{Decision, WINDOW};

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/api/resource", get(resource))
}

async fn resource(
    State(app): State<Arc<App>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Response {
    // Without a connection (a test's direct call) the caller is this host.
    let caller = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |Extension(peer)| {
        app.trusted.caller(peer, &headers)
    });
    let limit = app.live.load().rate_limits.resource_per_minute;
    let decision = app.limiter.resource(caller, limit).await;
    let mut response = if decision.allowed {
        "This is a rate-limited resource.".into_response()
    } else {
        app.metrics.rate_limited.with_label_values(&["resource"]).inc();
        Problem::too_many_requests(decision.reset_secs()).into_response()
    };
    describe(&decision, response.headers_mut());
    response
}

/// The headers that clients know: those of the IETF's older draft, and the policy.
fn describe(decision: &Decision, headers: &mut HeaderMap) {
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("ratelimit-limit", decision.limit.to_string());
    set("ratelimit-remaining", decision.remaining.to_string());
    set("ratelimit-reset", decision.reset_secs().to_string());
    set(
        "ratelimit-policy",
        format!("{};w={}", decision.limit, WINDOW.as_secs()),
    );
}
