//! Connections that have grown old are closed so that no request is lost.

use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use recommendation_api::config::RecommenderConfig;
use tokio::net::TcpStream;

use crate::embedded;
use crate::support::Running;

const AGE: Duration = Duration::from_secs(1);
/// After this a connection that was not closed would not be.
const PATIENCE: Duration = Duration::from_secs(15);

async fn service(dir: &std::path::Path) -> Running {
    let mut options = embedded(dir, RecommenderConfig::default());
    options.max_connection_age = AGE;
    Running::start(options).await.ready().await
}

fn request(service: &Running) -> hyper::Request<Body> {
    hyper::Request::get(format!("http://{}/v1/trending", service.public))
        .header("host", "shop")
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn an_idle_connection_is_closed_unasked_and_who_goes_on_sees_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path()).await;
    let mut stream = TcpStream::connect(service.public).await.unwrap();
    let started = Instant::now();
    // The server closes it, and that is the whole of what is read.
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest)
        .await
        .unwrap();
    assert!(
        rest.is_empty() && started.elapsed() < PATIENCE,
        "{:?}",
        started.elapsed()
    );
    // A client that goes on sees only new connections.
    let until = Instant::now() + 3 * AGE;
    while Instant::now() < until {
        assert_eq!(service.get("/v1/trending").await.status, 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    service.stop().await;
}

#[tokio::test]
async fn http1_is_told_by_a_header_of_its_last_answer() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path()).await;
    let stream = TcpStream::connect(service.public).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let closed = tokio::spawn(connection);
    let begun = Instant::now();
    let mut answers = 0;
    loop {
        // Every one of them is answered, the last one too.
        let answer = sender.send_request(request(&service)).await.unwrap();
        assert_eq!(answer.status(), 200);
        answers += 1;
        let last = answer
            .headers()
            .get("connection")
            .is_some_and(|value| value == "close");
        to_bytes(Body::new(answer.into_body()), 1 << 20).await.unwrap();
        if last {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "never asked to close");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        begun.elapsed() >= AGE.mul_f64(0.7) && answers > 1,
        "too soon: {:?}",
        begun.elapsed()
    );
    closed.await.unwrap().unwrap();
    service.stop().await;
}

#[tokio::test]
async fn http2_is_told_by_goaway_and_every_request_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path()).await;
    let stream = TcpStream::connect(service.public).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    let mut closed = tokio::spawn(connection);
    let begun = Instant::now();
    // Several streams at once, all the while, until the connection takes no new one.
    let streams = (0..4).map(|_| {
        let (mut sender, service) = (sender.clone(), &service);
        async move {
            let mut answers = 0;
            while sender.ready().await.is_ok() {
                assert!(begun.elapsed() < PATIENCE, "never told to go away");
                match sender.try_send_request(request(service)).await {
                    Ok(answer) => {
                        assert_eq!(answer.status(), 200);
                        to_bytes(Body::new(answer.into_body()), 1 << 20).await.unwrap();
                        answers += 1;
                    }
                    // It was not sent: the client knows, and sends it over a new connection.
                    Err(mut error) => {
                        assert!(
                            error.take_message().is_some(),
                            "a request was lost: {:?}",
                            error.error()
                        );
                        break;
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            answers
        }
    });
    let answers: usize = futures::future::join_all(streams).await.into_iter().sum();
    assert!(
        begun.elapsed() >= AGE.mul_f64(0.7),
        "too soon: {:?}",
        begun.elapsed()
    );
    assert!(answers > 20, "{answers}");
    // In good order: an error would be a connection that was cut.
    let end = tokio::time::timeout(PATIENCE, &mut closed)
        .await
        .expect("it is closed");
    end.unwrap().unwrap();
    assert_eq!(service.get("/v1/trending").await.status, 200);
    service.stop().await;
}
