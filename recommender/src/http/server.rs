//! Accepts connections, serves HTTP/1 and HTTP/2 on them, and ends them in good order.
//!
//! A connection is closed gracefully after a bounded age: kube-proxy balances connections, not requests, so
//! that a client with one long connection would otherwise stay with one pod for ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use super::remote::Peer;

/// Connections at once; further ones wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 10_000;
/// Longest a client may take for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest requests in flight may take once a connection is to be closed.
const GRACE: Duration = Duration::from_secs(15);
/// Streams of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 250;

/// Serves until stopped, then until the last request is answered (at most [`GRACE`]).
pub async fn serve(listener: TcpListener, router: Router, max_age: Duration, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let next = async {
            let permit = Arc::clone(&room)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            (permit, listener.accept().await)
        };
        let Some((permit, accepted)) = stop.run_until_cancelled(next).await else {
            break;
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    connection(stream, peer, router, aged(max_age), stop).await;
                    drop(permit);
                });
            }
            // Out of file descriptors, or the client was gone already: neither ends the server.
            Err(e) => {
                tracing::warn!(error = %e, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(GRACE + Duration::from_secs(1), connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(open = connections.len(), "connections still open at the end");
    }
}

/// Between 75 % and 100 % of the age, so that clients that came together do not leave together.
fn aged(max_age: Duration) -> Duration {
    max_age.mul_f64(rand::random_range(0.75..=1.0))
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    age: Duration,
    stop: CancellationToken,
) {
    // Small answers must not wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        // A router is always ready.
        router.clone().call(request)
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = async { tokio::select! { () = tokio::time::sleep(age) => {}, () = stop.cancelled() => {} } } => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(GRACE, connection.as_mut()).await {
                Ok(result) => result,
                Err(_) => return,
            }
        }
    };
    if let Err(e) = result {
        tracing::debug!(error = %e, %peer, "connection ended");
    }
}
