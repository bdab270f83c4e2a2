//! A server that replays recordings, matched by method, path, credentials and body. Anything else is a failure of
//! the test: the double must never be kinder than the truth.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use recommendation_operator::ksqldb::{Credentials, KsqlClient};
use serde_json::Value;

/// Method, path, authorization, body.
type Key = (String, String, String, String);

#[derive(Default)]
struct Tape {
    /// Answers to equal requests come in the order of the recordings; the last one repeats.
    answers: HashMap<Key, VecDeque<(u16, String)>>,
    /// Requests that no recording shows.
    strangers: Vec<String>,
    /// Requests in order, as their statement or path.
    seen: Vec<String>,
}

/// A running double.
pub struct Double {
    tape: Arc<Mutex<Tape>>,
    address: String,
    server: tokio::task::JoinHandle<()>,
}

impl Double {
    /// Serves these recordings (names without `.json`).
    pub async fn replay(names: &[&str]) -> Self {
        let tape = Arc::new(Mutex::new(Tape::default()));
        for name in names {
            let (key, answer) = recording(name);
            tape.lock()
                .unwrap()
                .answers
                .entry(key)
                .or_default()
                .push_back(answer);
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&tape));
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            tape,
            address,
            server,
        }
    }

    /// `http://host:port`.
    #[allow(dead_code, reason = "the cluster tests use it")]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A client of it.
    pub fn client(&self, credentials: Option<(&str, &str)>) -> KsqlClient {
        // reqwest looks for a TLS provider even for plain HTTP; another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let credentials = credentials.map(|(user, password)| Credentials {
            username: user.into(),
            password: password.into(),
        });
        KsqlClient::new(reqwest::Client::new(), &self.address, credentials)
    }

    /// What was asked, in order. Panics if anything was asked that no recording shows.
    pub fn asked(self) -> Vec<String> {
        self.server.abort();
        let tape = self.tape.lock().unwrap();
        assert!(
            tape.strangers.is_empty(),
            "no recording shows these requests: {:#?}",
            tape.strangers
        );
        tape.seen.clone()
    }
}

fn recording(name: &str) -> (Key, (u16, String)) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/ksqldb/recordings/{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let recording: Value = serde_json::from_str(&text).unwrap();
    let (request, response) = (&recording["request"], &recording["response"]);
    let body = canonical(&request["body"]);
    let authorization = request["headers"]["Authorization"].as_str().unwrap_or_default();
    let key = (
        request["method"].as_str().unwrap().to_owned(),
        request["path"].as_str().unwrap().to_owned(),
        authorization.to_owned(),
        body,
    );
    let status = u16::try_from(
        response["status"]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: no status")),
    )
    .unwrap();
    (
        key,
        (
            status,
            response["body_text"].as_str().unwrap_or_default().to_owned(),
        ),
    )
}

/// Bodies are compared as JSON: the order of keys is no part of the protocol, and no properties are the same as
/// empty ones (recordings 328 and 120).
fn canonical(body: &Value) -> String {
    let mut body = body.clone();
    if body["streamsProperties"] == serde_json::json!({})
        && let Some(map) = body.as_object_mut()
    {
        map.remove("streamsProperties");
    }
    if body.is_null() {
        String::new()
    } else {
        body.to_string()
    }
}

async fn answer(
    State(tape): State<Arc<Mutex<Tape>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = serde_json::from_slice::<Value>(&body)
        .map(|v| canonical(&v))
        .unwrap_or_default();
    let authorization = headers
        .get("authorization")
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let key = (
        method.to_string(),
        uri.path().to_owned(),
        authorization.to_owned(),
        body,
    );
    let mut tape = tape.lock().unwrap();
    let asked = serde_json::from_str::<Value>(&key.3)
        .ok()
        .and_then(|v| v["ksql"].as_str().map(str::to_owned));
    tape.seen.push(asked.unwrap_or_else(|| key.1.clone()));
    let Some(answers) = tape.answers.get_mut(&key) else {
        tape.strangers.push(format!("{key:?}"));
        return (StatusCode::NOT_IMPLEMENTED, "no recording shows this request").into_response();
    };
    let (status, text) = if answers.len() > 1 {
        answers.pop_front().unwrap()
    } else {
        answers.front().unwrap().clone()
    };
    (
        StatusCode::from_u16(status).unwrap(),
        [("content-type", "application/json")],
        text,
    )
        .into_response()
}
