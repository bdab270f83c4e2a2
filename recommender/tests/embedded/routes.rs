//! Every route with every kind of caller. The table is held against the OpenAPI document: a route without rows, and
//! a row without a route, fail.

use std::collections::BTreeSet;

use recommendation_api::config::{PublishableKeyConfig, RecommenderConfig};
use recommender::http::openapi;
use reqwest::Method;
use serde_json::{Value, json};

use crate::embedded;
use crate::support::{Running, event, eventually, token};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum As {
    Nobody,
    /// A publishable key.
    Key,
    /// A key that nobody has.
    WrongKey,
    /// The customer ann.
    Ann,
    /// The customer bob.
    Bob,
    /// A program with every scope.
    Program,
    /// A token that nobody signed.
    Forged,
}

use As::{Ann, Bob, Forged, Key, Nobody, Program, WrongKey};

struct Row {
    method: &'static str,
    /// As in the document.
    route: &'static str,
    /// As it is asked.
    path: &'static str,
    body: Option<Value>,
    expected: &'static [(As, u16)],
}

fn row(
    method: &'static str,
    route: &'static str,
    path: &'static str,
    body: Option<Value>,
    expected: &'static [(As, u16)],
) -> Row {
    Row {
        method,
        route,
        path,
        body,
        expected,
    }
}

const OPEN: &[(As, u16)] = &[
    (Nobody, 200),
    (Key, 200),
    (Ann, 200),
    (Program, 200),
    (Forged, 200),
];
/// What is not personal, where there are publishable keys.
const PUBLIC: &[(As, u16)] = &[
    (Nobody, 401),
    (Key, 200),
    (WrongKey, 401),
    (Ann, 200),
    (Program, 200),
    (Forged, 401),
];
const UNKNOWN: &[(As, u16)] = &[(Nobody, 401), (Key, 404), (Forged, 401)];
const OF_ANN: &[(As, u16)] = &[
    (Nobody, 401),
    (Key, 401),
    (Ann, 200),
    (Bob, 403),
    (Program, 200),
    (Forged, 401),
];
const WRITTEN_OF_ANN: &[(As, u16)] = &[
    (Nobody, 401),
    (Key, 401),
    (Ann, 202),
    (Bob, 403),
    (Program, 202),
    (Forged, 401),
];
const PROGRAMS: &[(As, u16)] = &[
    (Nobody, 401),
    (Key, 401),
    (Ann, 403),
    (Program, 202),
    (Forged, 401),
];
const EVENTS: &[(As, u16)] = &[
    (Nobody, 401),
    (Key, 400),
    (WrongKey, 401),
    (Ann, 403),
    (Program, 202),
    (Forged, 401),
];

fn table() -> Vec<Row> {
    let one = || Some(event("ann", "cup", "view"));
    let mail = || Some(json!({"email": "ann@example.com", "subject": "Order", "message": "Where is it?"}));
    vec![
        row(
            "GET",
            "/v1/recommendations/{customer_id}",
            "/v1/recommendations/ann",
            None,
            OF_ANN,
        ),
        row(
            "GET",
            "/v1/recommendations/{customer_id}",
            "/v1/recommendations/ann?limit=5&algorithm=ItemKnn&placement=home&category=kitchen&exclude=a,b&diversity=0.5&explain=true",
            None,
            &[(Ann, 200)],
        ),
        row(
            "GET",
            "/v1/recommendations/{customer_id}",
            "/v1/recommendations/ann?limit=0",
            None,
            &[(Ann, 400), (Nobody, 401)],
        ),
        row(
            "POST",
            "/v1/recommendations",
            "/v1/recommendations",
            Some(json!({"recent": ["cup"]})),
            PUBLIC,
        ),
        row(
            "POST",
            "/v1/recommendations",
            "/v1/recommendations",
            Some(json!({"limit": 1000})),
            &[(Key, 400)],
        ),
        row("GET", "/v1/trending", "/v1/trending?limit=3", None, PUBLIC),
        row("GET", "/v1/trending", "/v1/trending?limt=3", None, &[(Key, 400)]),
        row(
            "GET",
            "/v1/products/{product_id}",
            "/v1/products/cup",
            None,
            PUBLIC,
        ),
        row(
            "GET",
            "/v1/products/{product_id}",
            "/v1/products/nothing",
            None,
            UNKNOWN,
        ),
        row(
            "PUT",
            "/v1/products/{product_id}",
            "/v1/products/cup",
            Some(json!({"title": "Cup"})),
            PROGRAMS,
        ),
        row(
            "PUT",
            "/v1/products/{product_id}",
            "/v1/products/batch",
            Some(json!({"title": "Batch"})),
            PROGRAMS,
        ),
        row(
            "PUT",
            "/v1/products/{product_id}",
            "/v1/products/cup",
            Some(json!({"price": -1})),
            &[(Program, 400)],
        ),
        row(
            "POST",
            "/v1/products/batch",
            "/v1/products/batch",
            Some(json!({"products": [{"product_id": "mug"}]})),
            PROGRAMS,
        ),
        row(
            "GET",
            "/v1/products/{product_id}/similar",
            "/v1/products/cup/similar",
            None,
            PUBLIC,
        ),
        row(
            "GET",
            "/v1/products/{product_id}/similar",
            "/v1/products/nothing/similar",
            None,
            UNKNOWN,
        ),
        row(
            "GET",
            "/v1/products/{product_id}/bought-together",
            "/v1/products/cup/bought-together",
            None,
            PUBLIC,
        ),
        row(
            "GET",
            "/v1/products/{product_id}/bought-together",
            "/v1/products/nothing/bought-together",
            None,
            UNKNOWN,
        ),
        row("POST", "/v1/events", "/v1/events", one(), EVENTS),
        row(
            "POST",
            "/v1/events",
            "/v1/events",
            Some(json!({"event_type": "view", "product_id": "cup", "session_id": "s1"})),
            &[(Key, 202), (Program, 400), (Nobody, 401)],
        ),
        row(
            "POST",
            "/v1/events/batch",
            "/v1/events/batch",
            Some(json!([event("ann", "cup", "view")])),
            PROGRAMS_AND_KEYS,
        ),
        row(
            "PUT",
            "/v1/customers/{customer_id}/profile",
            "/v1/customers/ann/profile",
            Some(json!({"email": "ann@example.com", "attributes": {"skin": "dry"}, "consent": true})),
            WRITTEN_OF_ANN,
        ),
        row(
            "PUT",
            "/v1/customers/{customer_id}/profile",
            "/v1/customers/ann/profile",
            Some(json!({"email": "nobody"})),
            &[(Ann, 400)],
        ),
        row(
            "GET",
            "/v1/customers/{customer_id}",
            "/v1/customers/ann",
            None,
            OF_ANN,
        ),
        row(
            "POST",
            "/v1/customers/{customer_id}/aliases",
            "/v1/customers/ann/aliases",
            Some(json!({"session_id": "visit-1"})),
            WRITTEN_OF_ANN,
        ),
        row(
            "POST",
            "/v1/customers/{customer_id}/aliases",
            "/v1/customers/ann/aliases",
            Some(json!({"alias": "old-ann"})),
            &[(Ann, 403), (Program, 202)],
        ),
        row(
            "POST",
            "/v1/customers/{customer_id}/aliases",
            "/v1/customers/ann/aliases",
            Some(json!({})),
            &[(Ann, 400)],
        ),
        row(
            "DELETE",
            "/v1/customers/{customer_id}",
            "/v1/customers/ann",
            None,
            WRITTEN_OF_ANN,
        ),
        row(
            "POST",
            "/webhook",
            "/webhook",
            Some(json!({"event": "click", "customer_id": "ann", "product_id": "cup"})),
            OPEN,
        ),
        row(
            "POST",
            "/webhook",
            "/webhook",
            Some(json!({"event": "click"})),
            &[(Nobody, 400)],
        ),
        row("POST", "/gmail-webhook", "/gmail-webhook", mail(), OPEN),
        row(
            "POST",
            "/gmail-webhook",
            "/gmail-webhook",
            Some(json!({"email": "x"})),
            &[(Nobody, 400)],
        ),
        row(
            "POST",
            "/gmail-webhook",
            "/gmail-webhook",
            Some(json!({"message": {"data": "e30="}, "subscription": "s"})),
            &[(Nobody, 401), (Forged, 401)],
        ),
        row(
            "GET",
            "/api/resource",
            "/api/resource",
            None,
            &[
                (Nobody, 200),
                (Key, 200),
                (Ann, 200),
                (Bob, 200),
                (Forged, 200),
                (Program, 429),
            ],
        ),
        row(
            "POST",
            "/auth/token",
            "/auth/token",
            Some(json!({"username": "ann", "password": "wrong"})),
            &[(Nobody, 401)],
        ),
        row(
            "POST",
            "/auth/token",
            "/auth/token",
            Some(json!({"username": 7})),
            &[(Nobody, 400)],
        ),
        row(
            "GET",
            "/auth/verify",
            "/auth/verify",
            None,
            &[
                (Nobody, 401),
                (Key, 401),
                (Ann, 200),
                (Program, 200),
                (Forged, 401),
            ],
        ),
        row(
            "GET",
            "/v1/insights",
            "/v1/insights?days=1",
            None,
            &[
                (Nobody, 401),
                (Key, 401),
                (Ann, 403),
                (Program, 200),
                (Forged, 401),
            ],
        ),
        row("GET", "/v1/snippet.js", "/v1/snippet.js", None, OPEN),
        row("GET", "/openapi.json", "/openapi.json", None, OPEN),
        row("GET", "/docs", "/docs", None, OPEN),
    ]
}

/// A batch is answered item by item: that of a key is taken, and its event refused.
const PROGRAMS_AND_KEYS: &[(As, u16)] = &[
    (Nobody, 401),
    (Key, 202),
    (Ann, 403),
    (Program, 202),
    (Forged, 401),
];

#[tokio::test]
async fn every_route_answers_every_kind_of_caller_as_documented() {
    let document: Value = serde_json::from_str(openapi::text()).unwrap();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    let table = table();
    let listed: BTreeSet<_> = table
        .iter()
        .map(|row| (row.method.to_owned(), row.route.to_owned()))
        .collect();
    assert_eq!(
        listed, documented,
        "a route without rows, or rows without a route"
    );

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("web"), "pk_tests").unwrap();
    let mut config = RecommenderConfig::default();
    config.auth.publishable_keys = vec![PublishableKeyConfig {
        name: "web".into(),
        key_file: "web".into(),
        origins: Vec::new(),
    }];
    let service = Running::start(embedded(dir.path(), config)).await.ready().await;
    let program = token(
        "shop",
        &[
            "events:write",
            "catalog:write",
            "recommendations:read",
            "insights:read",
            "customers:admin",
        ],
    );
    for path in ["/v1/products/cup", "/v1/products/mug"] {
        let written = service
            .call(Method::PUT, path, Some(&program), Some(&json!({"title": "Cup"})))
            .await;
        assert_eq!(written.status, 202);
    }
    eventually("the catalogue", || async {
        let cup = service
            .call(Method::GET, "/v1/products/cup", Some(&program), None)
            .await;
        cup.status == 200
    })
    .await;
    let mut wrong = Vec::new();
    let mut asked = 0;
    for row in &table {
        for (who, expected) in row.expected {
            let method: Method = row.method.parse().unwrap();
            let mut request = service
                .client
                .request(method, format!("http://{}{}", service.public, row.path));
            request = match who {
                Nobody => request,
                Key => request.header("x-publishable-key", "pk_tests"),
                WrongKey => request.header("x-publishable-key", "pk_other"),
                Ann => request.bearer_auth(token("ann", &[])),
                Bob => request.bearer_auth(token("bob", &[])),
                Program => request.bearer_auth(&program),
                Forged => request.bearer_auth("a.b.c"),
            };
            if let Some(body) = &row.body {
                request = request.json(body);
            }
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            asked += 1;
            let known = &document["paths"][row.route][row.method.to_lowercase()]["responses"];
            if status != *expected || known[status.to_string()].is_null() {
                wrong.push(format!(
                    "{} {} as {who:?}: {status}, expected {expected}",
                    row.method, row.path
                ));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(asked > 100, "{asked}");
    service.stop().await;
}

#[tokio::test]
async fn a_product_may_be_called_like_a_route() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let program = token("shop", &["catalog:write"]);
    let title = json!({"title": "A batch of cookies"});
    let path = "/v1/products/batch";
    let written = service
        .call(Method::PUT, path, Some(&program), Some(&title))
        .await;
    assert_eq!(written.json()["product_id"], "batch");
    eventually("the product", || async {
        let read = service.get(path).await;
        read.status == 200 && read.json()["title"] == "A batch of cookies"
    })
    .await;
    for related in ["similar", "bought-together"] {
        let answer = service.get(&format!("{path}/{related}")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["product_id"].as_str()),
            (200, Some("batch"))
        );
    }
    service.stop().await;
}

#[tokio::test]
async fn an_answer_that_the_caller_has_already_is_not_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let get = async |tag: Option<&str>| {
        let url = format!("http://{}/v1/recommendations/ann", service.public);
        let mut request = service.client.get(url).bearer_auth(token("ann", &[]));
        if let Some(tag) = tag {
            request = request.header("if-none-match", tag);
        }
        request.send().await.unwrap()
    };
    let first = get(None).await;
    assert_eq!(first.headers()["cache-control"], "private, no-cache");
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    let again = get(Some(&tag)).await;
    assert_eq!(
        (again.status().as_u16(), again.headers()["etag"].to_str().unwrap()),
        (304, tag.as_str())
    );
    assert_eq!(again.text().await.unwrap(), "");
    // What changes the answer changes its validator.
    let program = token("shop", &["events:write"]);
    service
        .call(
            Method::POST,
            "/v1/events",
            Some(&program),
            Some(&event("bob", "cup", "purchase")),
        )
        .await;
    eventually("another answer", || async {
        get(Some(&tag)).await.status() == 200
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_ask() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let get = async |path: &str| {
        let url = format!("http://{}{path}", service.public);
        let request = service.client.get(url).header("accept-encoding", "gzip");
        let answer = request.send().await.unwrap();
        answer
            .headers()
            .get("content-encoding")
            .map(|v| v.to_str().unwrap().to_owned())
    };
    assert_eq!(get("/openapi.json").await.as_deref(), Some("gzip"));
    assert_eq!(get("/v1/trending").await, None, "it fits into one packet");
    service.stop().await;
}
