//! What every public request passes, from outside in: an id, the log line and metrics ([`super::observe`]); CORS and
//! compression; shedding of load, the caller's rate, the deadline, and the net under panics ([`super::admit`]).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::HttpBody as _;
use axum::extract::DefaultBodyLimit;
use axum::response::Response;
use http::{HeaderName, HeaderValue, Method, header};
use tower::ServiceBuilder;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::App;
use super::admit::AdmitLayer;
use super::asked::Asked;
use super::caller::KEY_HEADER;
use super::observe::{ObserveLayer, REQUEST_ID_HEADER};

/// Largest body; a batch of a thousand full events is about half of it.
pub(super) const MAX_BODY: usize = 1024 * 1024;
/// Answers of fewer bytes go out in one packet as they are.
const COMPRESS_ABOVE: u64 = 1_024;

/// Puts the layers around the routes; all in one, or each would be boxed and copied with every request.
pub(super) fn wrap(routes: Router, app: &Arc<App>, cors_origins: &[String]) -> Router {
    let compression = CompressionLayer::new()
        .gzip(true)
        .compress_when(SizeAbove::new(COMPRESS_ABOVE));
    routes.layer(
        ServiceBuilder::new()
            .layer(ObserveLayer(Arc::clone(app)))
            // Browsers of other origins say which; whoever unpacks answers says so.
            .layer(Asked::by(header::ORIGIN, cors(cors_origins), of_any_origin))
            .layer(Asked::by(header::ACCEPT_ENCODING, compression, unpacked))
            .layer(AdmitLayer(Arc::clone(app)))
            .layer(DefaultBodyLimit::max(MAX_BODY)),
    )
}

/// What CORS would say of an answer for nobody in particular: caches keep it apart from those for an origin.
fn of_any_origin(mut answer: Response) -> Response {
    let varies = "origin, access-control-request-method, access-control-request-headers";
    let headers = answer.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static(varies));
    answer
}

/// What compression would say of an answer that would have been packed for others.
fn unpacked(mut answer: Response) -> Response {
    let large = answer.body().size_hint().lower() >= COMPRESS_ABOVE;
    let headers = answer.headers_mut();
    let says = |value: &HeaderValue| {
        value
            .to_str()
            .is_ok_and(|value| value.contains("accept-encoding"))
    };
    if large && !headers.get_all(header::VARY).iter().any(says) {
        headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    answer
}

fn cors(origins: &[String]) -> CorsLayer {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_NONE_MATCH,
            HeaderName::from_static(KEY_HEADER),
        ])
        .expose_headers([REQUEST_ID_HEADER, header::RETRY_AFTER, header::ETAG])
        .max_age(Duration::from_secs(600));
    if origins.iter().any(|o| o == "*") {
        return layer.allow_origin(AllowOrigin::any());
    }
    layer.allow_origin(AllowOrigin::list(
        origins.iter().filter_map(|o| HeaderValue::from_str(o).ok()),
    ))
}
