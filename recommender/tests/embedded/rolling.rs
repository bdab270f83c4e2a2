//! A rolling update: one of two servers ends and is replaced while clients go on with their connections.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use recommendation_api::config::RecommenderConfig;

use crate::embedded;
use crate::support::{Running, eventually};

/// The ready ones, as a Service knows them: some time after they have changed.
type Endpoints = Arc<Mutex<Vec<SocketAddr>>>;

/// A client with one connection at a time, which it keeps until it is told to close it or it breaks; a new one
/// goes to any endpoint, as kube-proxy has it.
async fn client(endpoints: Endpoints, stop: Arc<AtomicBool>, asked: Arc<AtomicUsize>) -> Vec<String> {
    let mut failures = Vec::new();
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let address = {
            let endpoints = endpoints.lock().unwrap();
            turn += 1;
            endpoints[turn % endpoints.len()]
        };
        let mut connection = match Keep::open(address).await {
            Ok(connection) => connection,
            Err(error) => {
                failures.push(format!("connect: {error}"));
                continue;
            }
        };
        while !stop.load(Ordering::Relaxed) {
            asked.fetch_add(1, Ordering::Relaxed);
            match connection.get("/v1/trending").await {
                Ok((200, true)) => {}
                Ok((200, false)) => break,
                Ok((status, _)) => failures.push(format!("status {status}")),
                Err(error) => {
                    failures.push(format!("request: {error}"));
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
    }
    failures
}

/// A connection without any retry: HTTP clients' own would hide what this is about.
struct Keep(
    hyper::client::conn::http1::SendRequest<axum::body::Body>,
    SocketAddr,
);

impl Keep {
    async fn open(address: SocketAddr) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        let io = hyper_util::rt::TokioIo::new(stream);
        let (send, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        Ok(Self(send, address))
    }

    /// The status, and whether the connection stays.
    async fn get(&mut self, path: &str) -> Result<(u16, bool), Box<dyn std::error::Error + Send + Sync>> {
        let request = http::Request::get(path)
            .header("host", self.1.to_string())
            .body(axum::body::Body::empty())?;
        let response = self.0.send_request(request).await?;
        let closes = response
            .headers()
            .get("connection")
            .is_some_and(|value| value == "close");
        let status = response.status().as_u16();
        axum::body::to_bytes(axum::body::Body::new(response.into_body()), usize::MAX).await?;
        Ok((status, !closes))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_fails_no_request() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let start = async |dir: &tempfile::TempDir| {
        let mut options = embedded(dir.path(), RecommenderConfig::default());
        options.drain = Duration::from_secs(4);
        Running::start(options).await.ready().await
    };
    let (old, other) = (start(&dirs[0]).await, start(&dirs[1]).await);
    let endpoints: Endpoints = Arc::new(Mutex::new(vec![old.public, other.public]));
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn(client(
                Arc::clone(&endpoints),
                Arc::clone(&stop),
                Arc::clone(&asked),
            ))
        })
        .collect();
    eventually("load", || async { asked.load(Ordering::Relaxed) > 200 }).await;

    // The new pod is ready first; the old one is told to end, and leaves the endpoints a second later.
    let new = start(&dirs[2]).await;
    endpoints.lock().unwrap().push(new.public);
    old.end();
    tokio::time::sleep(Duration::from_secs(1)).await;
    endpoints.lock().unwrap().remove(0);
    old.stop().await;
    let so_far = asked.load(Ordering::Relaxed);
    eventually("load after it", || async {
        asked.load(Ordering::Relaxed) > so_far + 200
    })
    .await;

    stop.store(true, Ordering::Relaxed);
    let mut failures = Vec::new();
    for client in clients {
        failures.extend(client.await.unwrap());
    }
    assert!(
        failures.is_empty(),
        "{} of {}: {failures:?}",
        failures.len(),
        asked.load(Ordering::Relaxed)
    );
    other.stop().await;
    new.stop().await;
}
