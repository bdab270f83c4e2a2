//! `/healthz`, `/readyz`, `/metrics` and `/loglevel`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::WriterDropped;
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
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/loglevel", get(log_filter).put(set_log_filter))
        .with_state(context);
    axum::serve(listener, routes)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .map_err(ServerError::Serve)
}

/// Alive while its loop turns. One that waits for the lease has none yet.
async fn alive(State(context): State<Arc<Context>>) -> impl IntoResponse {
    if context.health.hangs() {
        (StatusCode::INTERNAL_SERVER_ERROR, "the controller's loop hangs\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

/// Ready once every cache has been filled: before that nothing is reconciled. One that waits for the lease is as ready
/// as it can be, or no rollout of two would ever end.
async fn ready(State(context): State<Arc<Context>>) -> impl IntoResponse {
    use futures::FutureExt as _;
    if !context.fence.holds() {
        return (StatusCode::OK, "waiting for the lease\n".to_owned());
    }
    let filled = |ready: Option<Result<(), WriterDropped>>| ready.is_some_and(|ready| ready.is_ok());
    let pipelines = context
        .stores
        .iter()
        .all(|store| filled(store.wait_until_ready().now_or_never()));
    if !pipelines || !filled(context.caches.ready().now_or_never()) {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the caches are being filled\n".to_owned(),
        );
    }
    let failing = context.health.failing();
    if !failing.is_empty() {
        let text = format!("the API server cannot be watched: {}\n", failing.join(", "));
        return (StatusCode::SERVICE_UNAVAILABLE, text);
    }
    (StatusCode::OK, "ok\n".to_owned())
}

async fn log_filter(State(context): State<Arc<Context>>) -> String {
    context.log_filter.current() + "\n"
}

async fn set_log_filter(State(context): State<Arc<Context>>, filter: String) -> (StatusCode, String) {
    match context.log_filter.set(filter.trim()) {
        Ok(()) => {
            tracing::info!(filter = filter.trim(), "log filter changed");
            (StatusCode::OK, context.log_filter.current() + "\n")
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

async fn metrics(State(context): State<Arc<Context>>) -> impl IntoResponse {
    let (mut ready, mut unready, mut malformed) = (0, 0, 0);
    for guarded in context.stores.iter().flat_map(Store::state) {
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
    context
        .metrics
        .queue_depth
        .set(i64::try_from(context.queue.depth()).unwrap_or(i64::MAX));
    let asked = context.kafka.requests();
    let counted = context.metrics.kafka_requests.get();
    context
        .metrics
        .kafka_requests
        .inc_by(asked.saturating_sub(counted));
    context.metrics.leader.set(i64::from(context.fence.holds()));
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        context.metrics.render(),
    )
}
