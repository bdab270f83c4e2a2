use std::sync::{Arc, Mutex};

use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// An API server with one lease, versions checked as a real one does; it can be made to hang.
#[derive(Clone, Default)]
struct Server {
    lease: Arc<Mutex<Option<Value>>>,
    hangs: Arc<std::sync::atomic::AtomicBool>,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let server = server.clone();
            async move {
                if server.hangs.load(std::sync::atomic::Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                let method = request.method().clone();
                let body = request.into_body().collect_bytes().await.unwrap_or_default();
                let (code, answer) = server.answer(&method, &body);
                let mut response = http::Response::new(Body::from(answer.to_string().into_bytes()));
                *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        Client::new(service, "default")
    }

    fn answer(&self, method: &http::Method, body: &[u8]) -> (u16, Value) {
        let failure = |code: u16| {
            (
                code,
                json!({"kind": "Status", "status": "Failure", "code": code, "reason": if code == 404 { "NotFound" } else { "Conflict" }, "message": "x"}),
            )
        };
        let mut stored = self.lease.lock().unwrap();
        if method == http::Method::GET {
            return stored.clone().map_or_else(|| failure(404), |lease| (200, lease));
        }
        let mut lease: Value = serde_json::from_slice(body).unwrap();
        let version = |v: &Value| {
            v["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or("0")
                .to_owned()
        };
        let current = stored.as_ref().map(version);
        let post = method == http::Method::POST;
        if (post && current.is_some()) || (!post && current != Some(version(&lease))) {
            return failure(409);
        }
        let next: u64 = current.unwrap_or_default().parse().unwrap_or(0) + 1;
        lease["metadata"]["resourceVersion"] = json!(next.to_string());
        *stored = Some(lease.clone());
        (200, lease)
    }

    fn holder(&self) -> String {
        let lease = self.lease.lock().unwrap();
        lease.as_ref().unwrap()["spec"]["holderIdentity"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

const QUICK: Times = Times {
    lease: Duration::from_millis(600),
    hold: Duration::from_millis(400),
    renew: Duration::from_millis(50),
    request: Duration::from_millis(100),
};

fn candidate(server: &Server, name: &str) -> Candidate {
    Candidate::new(server.client(), "system", name.to_owned(), QUICK, Fence::closed())
}

#[tokio::test]
async fn the_first_leads_and_the_second_waits_until_the_first_gives_up() {
    let server = Server::default();
    let (first, second) = (candidate(&server, "a"), candidate(&server, "b"));
    let stop = CancellationToken::new();
    assert!(first.acquire(&stop).await && first.fence.holds());
    let kept = tokio::spawn({
        let (first, stop) = (first.clone(), stop.clone());
        async move { first.keep(&stop).await }
    });
    let never = CancellationToken::new();
    let waiting = tokio::time::timeout(Duration::from_secs(1), second.acquire(&never)).await;
    assert!(
        waiting.is_err() && !second.fence.holds(),
        "a lease that is renewed is not taken"
    );
    stop.cancel();
    kept.await.unwrap().unwrap();
    assert!(!first.fence.holds() && server.holder().is_empty());
    let begun = Instant::now();
    assert!(second.acquire(&never).await);
    assert!(
        begun.elapsed() < QUICK.lease,
        "a lease that was given up is taken at once"
    );
    assert_eq!(server.holder(), "b");
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_before_another_may_begin() {
    let server = Server::default();
    let first = candidate(&server, "a");
    let stop = CancellationToken::new();
    assert!(first.acquire(&stop).await);
    let begun = Instant::now();
    server.hangs.store(true, std::sync::atomic::Ordering::SeqCst);
    let lost = first.keep(&stop).await.unwrap_err();
    assert!(matches!(lost, LeaderError::Expired(_)), "{lost}");
    assert!(!first.fence.holds() && begun.elapsed() < QUICK.lease);
}

#[tokio::test]
async fn a_leader_that_nobody_renews_for_is_replaced_and_finds_out() {
    let server = Server::default();
    let (first, second) = (candidate(&server, "a"), candidate(&server, "b"));
    let never = CancellationToken::new();
    assert!(first.acquire(&never).await);
    // Frozen: it renews nothing, and its fence is closed by the clock alone.
    assert!(second.acquire(&never).await);
    assert!(!first.fence.holds() && second.fence.holds());
    assert!(first.keep(&never).await.is_err());
    assert_eq!(server.holder(), "b", "one that woke up writes nothing any more");
    let lease = server.lease.lock().unwrap().clone().unwrap();
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
}

#[tokio::test]
async fn one_who_is_told_to_stop_stops_waiting() {
    let server = Server::default();
    let never = CancellationToken::new();
    assert!(candidate(&server, "a").acquire(&never).await);
    let stop = CancellationToken::new();
    stop.cancel();
    assert!(!candidate(&server, "b").acquire(&stop).await);
}
