//! Accepts connections, serves HTTP/1 and HTTP/2 on them, and ends them in good order.
//!
//! A connection is closed gracefully after a bounded age: kube-proxy balances connections, not requests, so
//! that a client with one long connection would otherwise stay with one pod for ever. "Gracefully" must also
//! hold for a client that is just about to send: HTTP/1 is told by `Connection: close` in the next answer,
//! HTTP/2 by GOAWAY, and only what has long been idle is closed unasked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use http::header::CONNECTION;
use http::{HeaderValue, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use super::remote::Peer;
use super::tls::Tls;
use crate::clock::now_ms;

/// Connections at once; further ones wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 10_000;
/// Longest a client may take for TLS's first exchange.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest a client may take for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest requests in flight may take once a connection is to be closed.
const GRACE: Duration = Duration::from_secs(15);
/// How long a connection that is to be closed must have been idle to be closed without another answer.
const IDLE: Duration = Duration::from_secs(3);
/// Streams of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 250;

/// When connections and the server end.
#[derive(Clone)]
pub struct Lifetime {
    /// Longest life of a connection.
    pub max_age: Duration,
    /// Cancelled when the process begins to end: clients are asked to go elsewhere, and still answered.
    pub draining: CancellationToken,
    /// Cancelled when it ends.
    pub stop: CancellationToken,
}

/// Serves, with TLS where given, until stopped, then until the last request is answered (at most [`GRACE`]).
pub async fn serve(listener: TcpListener, router: Router, lifetime: Lifetime, tls: Option<Arc<Tls>>) {
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
        let Some((permit, accepted)) = lifetime.stop.run_until_cancelled(next).await else {
            break;
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, lifetime, tls) = (router.clone(), lifetime.clone(), tls.clone());
                connections.spawn(async move {
                    accept(stream, peer, router, lifetime, tls).await;
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

/// What a connection's requests and its end tell each other.
struct State {
    /// Answers shall ask the client to close.
    leaving: AtomicBool,
    http2: AtomicBool,
    in_flight: AtomicUsize,
    last_ms: AtomicI64,
}

impl State {
    /// Whether closing now can hit a request on its way only by the rarest chance, or none at all.
    fn may_close(&self) -> bool {
        let idle_ms = now_ms() - self.last_ms.load(Ordering::Relaxed);
        let idle = self.in_flight.load(Ordering::Relaxed) == 0
            && u128::try_from(idle_ms).is_ok_and(|ms| ms >= IDLE.as_millis());
        self.http2.load(Ordering::Relaxed) || idle
    }

    /// Until the connection is to be closed.
    async fn closing(&self, lifetime: &Lifetime) {
        // Between 75 % and 100 % of the age, so that clients that came together do not leave together.
        let age = lifetime.max_age.mul_f64(rand::random_range(0.75..=1.0));
        tokio::select! {
            () = tokio::time::sleep(age) => {}
            () = lifetime.draining.cancelled() => {}
            () = lifetime.stop.cancelled() => return,
        }
        self.leaving.store(true, Ordering::Relaxed);
        while !self.may_close() {
            let look_again = lifetime
                .stop
                .run_until_cancelled(tokio::time::sleep(Duration::from_millis(250)));
            if look_again.await.is_none() {
                return;
            }
        }
    }
}

async fn accept(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    lifetime: Lifetime,
    tls: Option<Arc<Tls>>,
) {
    // Small answers must not wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return connection(stream, peer, router, lifetime).await;
    };
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.acceptor().accept(stream));
    match lifetime.stop.run_until_cancelled(handshake).await {
        Some(Ok(Ok(stream))) => connection(stream, peer, router, lifetime).await,
        Some(Ok(Err(e))) => tracing::debug!(error = %e, %peer, "TLS refused"),
        Some(Err(_)) | None => {}
    }
}

async fn connection<S>(stream: S, peer: SocketAddr, router: Router, lifetime: Lifetime)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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
    let state = Arc::new(State {
        leaving: AtomicBool::new(false),
        http2: AtomicBool::new(false),
        in_flight: AtomicUsize::new(0),
        last_ms: AtomicI64::new(now_ms()),
    });
    let of_requests = Arc::clone(&state);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let state = Arc::clone(&of_requests);
        let http2 = request.version() == Version::HTTP_2;
        state.http2.store(http2, Ordering::Relaxed);
        state.in_flight.fetch_add(1, Ordering::Relaxed);
        request.extensions_mut().insert(Peer(peer));
        // A router is always ready.
        let answer = router.clone().call(request);
        async move {
            let mut answer = answer.await;
            state.last_ms.store(now_ms(), Ordering::Relaxed);
            state.in_flight.fetch_sub(1, Ordering::Relaxed);
            if let Ok(response) = &mut answer
                && !http2
                && state.leaving.load(Ordering::Relaxed)
            {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            answer
        }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = state.closing(&lifetime) => {
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
