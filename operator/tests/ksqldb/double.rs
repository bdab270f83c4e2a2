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

/// Answers, and what was asked.
#[derive(Default)]
pub struct Tape {
    /// Answers to equal requests come in the order of the recordings; the last one repeats.
    answers: HashMap<Key, VecDeque<(u16, String)>>,
    /// Requests that no recording shows.
    strangers: Vec<String>,
    /// Requests in order, as their statement or path.
    seen: Vec<String>,
    /// The highest command sequence number that was handed out.
    known: i64,
}

impl Tape {
    /// Requests that no recording shows.
    #[allow(dead_code, reason = "the cluster tests use less")]
    pub fn strangers(&self) -> &[String] {
        &self.strangers
    }
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
        Self::replay_changed(names, |_, text| text).await
    }

    /// The same with answers changed on their way: only the state of something may be, and a test that does it is
    /// called synthetic.
    pub async fn replay_changed(names: &[&str], change: impl Fn(&str, String) -> String) -> Self {
        let tape = Arc::new(Mutex::new(tape(names, change)));
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

    /// The routes of a double, to be served by a listener of one's own.
    #[allow(dead_code, reason = "the cluster tests use less")]
    pub fn routes(names: &[&str]) -> (Router, Arc<Mutex<Tape>>) {
        let tape = Arc::new(Mutex::new(tape(names, |_, text| text)));
        (Router::new().fallback(answer).with_state(Arc::clone(&tape)), tape)
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

    /// What was asked so far, as the statement or path.
    #[allow(dead_code, reason = "the cluster tests use it")]
    pub fn seen(&self) -> Vec<String> {
        self.tape.lock().unwrap().seen.clone()
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

fn tape(names: &[&str], change: impl Fn(&str, String) -> String) -> Tape {
    let mut tape = Tape::default();
    for name in names {
        let (key, (status, text)) = recording(name);
        let text = change(name, text);
        tape.known = tape.known.max(sequence(&text));
        tape.answers.entry(key).or_default().push_back((status, text));
    }
    tape
}

/// The highest command sequence number in an answer.
fn sequence(text: &str) -> i64 {
    let entities: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    let numbers = entities
        .iter()
        .filter_map(|entity| entity["commandSequenceNumber"].as_i64());
    numbers.max().unwrap_or(-1)
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

/// A server that has executed the command of that number answers as if it had not been said (recording 581); one that
/// has not waits and refuses (recording 582).
fn without_known_sequence(body: &mut Value, known: i64) {
    let number = body["commandSequenceNumber"].as_i64();
    if number.is_some_and(|number| number <= known)
        && let Some(map) = body.as_object_mut()
    {
        map.remove("commandSequenceNumber");
    }
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
    let mut tape = tape.lock().unwrap();
    let mut body = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    without_known_sequence(&mut body, tape.known);
    let body = canonical(&body);
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
