//! `/api/resource`: rate-limited, and says so.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::App;
use crate::http::problem::Problem;
use crate::http::remote::Peer;
use crate::ratelimit::{Decision, WINDOW};

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(resource))
}

/// A resource with a rate limit
///
/// Five requests of one remote address pass in any 60 seconds, over all replicas.
#[utoipa::path(get, path = "/api/resource", operation_id = "limited_resource", tag = "limits", responses(
    (status = 200, description = "It passed", body = String, content_type = "text/plain", headers(
        ("ratelimit-limit" = String, description = "Requests in any 60 seconds"),
        ("ratelimit-remaining" = String, description = "How many more would pass now"),
        ("ratelimit-reset" = String, description = "Seconds until the oldest counted request leaves the window"),
        ("ratelimit-policy" = String, description = "Limit and window"),
    )),
))]
async fn resource(
    State(app): State<Arc<App>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Response {
    let caller = app.caller(peer, &headers);
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
