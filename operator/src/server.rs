//! `/healthz`, `/readyz` and `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// The server could not listen, or broke.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Serving ended.
    #[error("the health server ended: {0}")]
    Serve(std::io::Error),
}

/// Serves until `stop`.
///
/// # Errors
/// [`ServerError`] when the address is taken.
pub async fn serve(
    address: SocketAddr,
    context: Arc<Context>,
    stop: CancellationToken,
) -> Result<(), ServerError> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServerError::Listen { address, source })?;
    tracing::info!(%address, "health and metrics");
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(context);
    axum::serve(listener, routes)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .map_err(ServerError::Serve)
}

/// Ready once every cache has been filled: before that nothing is reconciled.
async fn ready(State(context): State<Arc<Context>>) -> impl IntoResponse {
    use futures::FutureExt as _;
    let filled = context
        .caches
        .ready()
        .now_or_never()
        .is_some_and(|ready| ready.is_ok())
        && context
            .store
            .wait_until_ready()
            .now_or_never()
            .is_some_and(|ready| ready.is_ok());
    if filled {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the caches are being filled")
    }
}

async fn metrics(State(context): State<Arc<Context>>) -> impl IntoResponse {
    let (mut ready, mut unready, mut malformed) = (0, 0, 0);
    for guarded in context.store.state() {
        match &guarded.0 {
            Ok(pipeline) if crate::report::is_ready(pipeline.status.as_ref()) => ready += 1,
            Ok(_) => unready += 1,
            Err(_) => malformed += 1,
        }
    }
    context.metrics.pipelines.with_label_values(&["true"]).set(ready);
    context
        .metrics
        .pipelines
        .with_label_values(&["false"])
        .set(unready);
    context.metrics.malformed.set(malformed);
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        context.metrics.render(),
    )
}
