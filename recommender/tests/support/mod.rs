//! Starts services in this process, on ports of their own, and talks to them.

pub mod ksqldb;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use recommendation_api::HumanDuration;
use recommendation_api::config::{RecommenderConfig, SnapshotsConfig};
use recommender::http::tokens::mint;
use recommender::service::{Mode, Options, Service, ServiceError};
use recommender::telemetry::LogFilter;
use reqwest::{Method, StatusCode};
use secrecy::SecretString;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The key that signs tokens of tests.
pub const KEY: &str = "a key of tests that is long enough";

/// A service that runs in this process.
pub struct Running {
    pub public: SocketAddr,
    pub internal: SocketAddr,
    pub client: reqwest::Client,
    end: CancellationToken,
    task: JoinHandle<Result<(), ServiceError>>,
}

/// An answer: status, headers, body.
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
}

/// Options of a service whose secrets lie in `dir`.
pub fn options(config: RecommenderConfig, mode: Mode, dir: &Path) -> Options {
    let _ = rustls::crypto::ring::default_provider().install_default();
    std::fs::write(dir.join("jwt"), KEY).unwrap();
    let mut config = config;
    config.auth.jwt_secret_file = Some("jwt".into());
    std::fs::write(dir.join("privacy"), "the key of erasures").unwrap();
    config.privacy.key_file = Some("privacy".into());
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Options {
        config,
        config_file: None,
        secrets_dir: dir.to_owned(),
        mode,
        listen: any,
        internal_listen: any,
        drain: Duration::ZERO,
        max_connection_age: Duration::from_secs(60),
        log_filter: LogFilter::detached("info"),
    }
}

/// A token of a customer or program.
pub fn token(user: &str, scopes: &[&str]) -> String {
    let scopes: Vec<String> = scopes.iter().map(|s| (*s).to_owned()).collect();
    mint(
        &SecretString::from(KEY),
        user,
        &scopes,
        "",
        Duration::from_secs(600),
    )
    .unwrap()
}

impl Running {
    pub async fn start(options: Options) -> Self {
        let service = Service::start(options).await.unwrap();
        let (public, internal) = (service.public(), service.internal());
        let end = CancellationToken::new();
        let task = tokio::spawn(service.run(end.clone()));
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(15))
            // Shorter than a server keeps one: none is taken that is about to be closed.
            .pool_idle_timeout(Duration::from_secs(5))
            .build()
            .unwrap();
        Self {
            public,
            internal,
            client,
            end,
            task,
        }
    }

    /// Waits until the service says that it is ready.
    pub async fn ready(self) -> Self {
        eventually("the service to be ready", || async {
            self.internal("/readyz").await.status.is_success()
        })
        .await;
        self
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer {
            status,
            headers,
            text: response.text().await.unwrap(),
        }
    }

    pub async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Answer {
        let mut request = self
            .client
            .request(method, format!("http://{}{path}", self.public));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None, None).await
    }

    pub async fn internal(&self, path: &str) -> Answer {
        self.send(self.client.get(format!("http://{}{path}", self.internal)))
            .await
    }

    pub async fn status(&self) -> Value {
        self.internal("/status").await.json()
    }

    /// Waits until so many events are learned.
    pub async fn learned(&self, events: u64) {
        eventually(&format!("{events} events"), || async {
            self.status().await["events"] == events
        })
        .await;
    }

    /// Tells it to end, without waiting.
    pub fn end(&self) {
        self.end.cancel();
    }

    /// Ends it in good order.
    pub async fn stop(self) {
        self.end.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// Everything that services of this process log from the first call on, as text.
pub fn logged() -> String {
    use std::io::Write;
    use std::sync::{Mutex, PoisonError};

    static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    struct Log;
    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            LOG.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(|| Log);
    // There is one in all of a process's tests.
    let _ = tracing::subscriber::set_global_default(subscriber.finish());
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&log).into_owned()
}

/// Files below a folder that contain a text.
pub fn files_with(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
            continue;
        }
        // It may be removed meanwhile.
        let bytes = std::fs::read(&path).unwrap_or_default();
        if contains(&bytes, text) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Whether a text stands among bytes.
pub fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

/// Waits until something holds; panics with its name after a minute.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "waited in vain for {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An event as a shop sends it.
pub fn event(customer: &str, product: &str, kind: &str) -> Value {
    serde_json::json!({"customer_id": customer, "product_id": product, "event_type": kind})
}

/// Sends events as a shop does, and expects them to be acknowledged.
pub async fn send(service: &Running, events: &[Value]) {
    let writer = token("shop", &["events:write"]);
    let body = Value::from(events);
    let answer = service
        .call(Method::POST, "/v1/events/batch", Some(&writer), Some(&body))
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

/// Snapshots every second, in a folder.
pub fn snapshots_in(folder: &Path) -> Option<SnapshotsConfig> {
    Some(SnapshotsConfig {
        url: url::Url::from_file_path(folder).unwrap().to_string(),
        interval: HumanDuration::from_secs(1),
        ..SnapshotsConfig::default()
    })
}

/// What is recommended to a customer: product ids in order.
pub async fn recommended(service: &Running, customer: &str) -> Vec<String> {
    let answer = service
        .call(
            Method::GET,
            &format!("/v1/recommendations/{customer}"),
            Some(&token(customer, &[])),
            None,
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let items = answer.json()["items"].as_array().unwrap().clone();
    items
        .iter()
        .map(|item| item["product_id"].as_str().unwrap().to_owned())
        .collect()
}
