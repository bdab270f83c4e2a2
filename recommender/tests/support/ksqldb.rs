//! A double of ksqlDB for figures. It answers pull queries in the very form of the recorded exchanges, with the default
//! tables in the place of the recorded ones; whatever else it is asked, it refuses as the recorded server does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::Value;

/// What the service asks about all events by type.
pub const FUNNEL: &str = "SELECT * FROM event_funnel;";

const SCAN: &str = include_str!("../data/ksqldb/203-query-pull-table-scan.json");
const WINDOWED: &str = include_str!("../data/ksqldb/202-query-pull-windowed.json");
const UNKNOWN: &str = include_str!("../data/ksqldb/208-query-unknown-source.json");

fn recorded(exchange: &str) -> Value {
    serde_json::from_str(exchange).unwrap()
}

/// An answer of a recorded exchange with another schema and other rows.
fn answer(exchange: &str, schema: &str, rows: &[Value]) -> String {
    let body = recorded(exchange)["response"]["body_text"]
        .as_str()
        .unwrap()
        .to_owned();
    let (from, to) = (
        body.find("\"schema\":\"").unwrap() + 10,
        body.find("\"}}").unwrap(),
    );
    let mut text = format!("{}{schema}\"}}}}", &body[..from]);
    assert!(body[to..].starts_with("\"}},\n{\"row\":{\"columns\":["), "{body}");
    for row in rows {
        text += &format!(",\n{{\"row\":{{\"columns\":{row}}}}}");
    }
    text + "]"
}

/// What it holds and was asked.
#[derive(Default)]
pub struct Double {
    /// Answers by statement.
    pub tables: HashMap<String, String>,
    /// The answer about a product whose statement is not among them.
    pub any_product: Option<String>,
    pub asked: Mutex<Vec<String>>,
    pub gone: AtomicBool,
}

async fn query(State(double): State<Arc<Double>>, headers: HeaderMap, body: String) -> Response {
    if double.gone.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let asked = &recorded(SCAN)["request"];
    for name in ["accept", "content-type"] {
        let wanted = asked["headers"]
            .as_object()
            .unwrap()
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .unwrap()
            .1;
        assert_eq!(headers[name], wanted.as_str().unwrap(), "as the recorded request");
    }
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["streamsProperties"], asked["body"]["streamsProperties"]);
    let statement = body["ksql"].as_str().unwrap().to_owned();
    double.asked.lock().unwrap().push(statement.clone());
    let of_any = double.any_product.as_ref();
    let of_any = of_any.filter(|_| statement.starts_with("SELECT product_id, WINDOWSTART"));
    match double.tables.get(&statement).or(of_any) {
        Some(text) => text.clone().into_response(),
        None => {
            let refused = &recorded(UNKNOWN)["response"];
            let status = u16::try_from(refused["status"].as_u64().unwrap()).unwrap();
            let text = refused["body_text"].as_str().unwrap().to_owned();
            (StatusCode::from_u16(status).unwrap(), text).into_response()
        }
    }
}

/// Serves it; returns its address.
pub async fn serve(double: Arc<Double>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/query", post(query)).with_state(double);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// An answer about all events by type.
pub fn funnel(rows: &[Value]) -> String {
    answer(SCAN, "`EVENT_TYPE` STRING KEY, `EVENTS` BIGINT", rows)
}

/// An answer about one product by the hour.
pub fn popularity(rows: &[Value]) -> String {
    let schema = "`PRODUCT_ID` STRING KEY, `WINDOWSTART` BIGINT KEY, `WINDOWEND` BIGINT KEY, `EVENTS` BIGINT, `PURCHASES` BIGINT";
    answer(WINDOWED, schema, rows)
}
