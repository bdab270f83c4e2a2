//! The console's routes: who may ask, what is answered. The pages themselves are tested in a browser.

use recommendation_api::config::RecommenderConfig;
use reqwest::header::{ETAG, IF_NONE_MATCH};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::embedded;
use crate::support::{Running, event, eventually, recommended, token};

const API: [&str; 7] = [
    "session",
    "customers",
    "customers/ann",
    "customers/ann/recommendations",
    "live",
    "health",
    "shop",
];

async fn service(dir: &std::path::Path) -> Running {
    let service = Running::start(embedded(dir, RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let writer = token("till", &["events:write"]);
    let events: Vec<Value> = [
        ("ann", "cup"),
        ("ann", "mug"),
        ("bob", "cup"),
        ("bob", "mug"),
        ("anna", "cup"),
    ]
    .iter()
    .map(|(customer, product)| event(customer, product, "purchase"))
    .collect();
    let written = service
        .call(
            Method::POST,
            "/v1/events/batch",
            Some(&writer),
            Some(&Value::from(events)),
        )
        .await;
    assert_eq!(written.status, 202, "{}", written.text);
    service.learned(5).await;
    service
}

async fn ask(service: &Running, path: &str, scopes: Option<&[&str]>) -> (StatusCode, Value) {
    let mut request = service
        .client
        .get(format!("http://{}/console/api/{path}", service.internal));
    if let Some(scopes) = scopes {
        request = request.bearer_auth(token("ann", scopes));
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["cache-control"], "no-store", "{path}");
    (response.status(), response.json().await.unwrap_or_default())
}

const SCOPE: Option<&[&str]> = Some(&["customers:read"]);

#[tokio::test]
async fn nothing_is_told_without_the_scope_not_even_of_oneself() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path()).await;
    for path in API {
        assert_eq!(ask(&service, path, None).await.0, 401, "{path}");
        let others: &[&str] = &["recommendations:read", "events:write", "catalog:write"];
        let (status, problem) = ask(&service, path, Some(others)).await;
        assert_eq!(status, 403, "{path}");
        assert!(
            problem["detail"].as_str().unwrap().contains("customers:read"),
            "{problem}"
        );
    }
    assert_eq!(ask(&service, "elsewhere", SCOPE).await.0, 404);
    // And none of it on the public port.
    for path in ["/console/api/customers", "/console/app.js"] {
        assert_eq!(service.get(path).await.status, 404, "{path}");
    }
    service.stop().await;
}

#[tokio::test]
async fn a_customer_is_found_by_prefix_and_told_as_the_customer_would_be() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path()).await;
    let (_, session) = ask(&service, "session", SCOPE).await;
    assert_eq!(
        (&session["user_id"], &session["algorithm"]),
        (&"ann".into(), &"Hybrid".into())
    );
    let (_, found) = ask(&service, "customers?prefix=an&limit=5", SCOPE).await;
    let ids: Vec<&str> = found["customers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|known| known["customer_id"].as_str().unwrap())
        .collect();
    assert_eq!(
        (ids.as_slice(), &found["more"]),
        (["anna", "ann"].as_slice(), &false.into())
    );
    let (_, known) = ask(&service, "customers/ann", SCOPE).await;
    assert_eq!(
        (&known["known"], known["history"].as_array().unwrap().len()),
        (&true.into(), 2)
    );
    let (_, answer) = ask(&service, "customers/anna/recommendations?exploration=0", SCOPE).await;
    assert_eq!(
        answer["items"][0]["product_id"],
        recommended(&service, "anna").await[0]
    );
    assert!(
        answer["items"][0]["reason"]["text"]
            .as_str()
            .unwrap()
            .starts_with("because"),
        "{answer}"
    );
    let (_, other) = ask(
        &service,
        "customers/anna/recommendations?algorithm=Popularity",
        SCOPE,
    )
    .await;
    assert_eq!(other["model"]["algorithm"], "Popularity");
    for (wrong, field) in [
        ("algorithm=Magic", "algorithm"),
        ("diversity=2", "diversity"),
        ("limt=5", "limt"),
    ] {
        let (status, problem) = ask(
            &service,
            &format!("customers/anna/recommendations?{wrong}"),
            SCOPE,
        )
        .await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &field.into()),
            "{wrong}"
        );
    }
    service.stop().await;
}

#[tokio::test]
async fn who_refuses_personalisation_is_shown_as_they_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path()).await;
    let writer = token("till", &["events:write"]);
    let refusal = serde_json::json!({"consent": false});
    let path = "/v1/customers/ann/profile";
    let written = service
        .call(Method::PUT, path, Some(&writer), Some(&refusal))
        .await;
    assert_eq!(written.status, 202, "{}", written.text);
    eventually("the refusal to be known", async || {
        let (_, answer) = ask(&service, "customers/ann/recommendations", SCOPE).await;
        answer["fallback"] == "consent"
    })
    .await;
    let (_, answer) = ask(&service, "customers/anna/recommendations", SCOPE).await;
    assert_eq!(answer["fallback"], "personal");
    service.stop().await;
}

#[tokio::test]
async fn looking_counts_as_no_answer_and_answers_count_in_what_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path()).await;
    let shown = async || ask(&service, "health", SCOPE).await.1["shown"]["answers"].clone();
    ask(&service, "customers/anna/recommendations", SCOPE).await;
    assert_eq!(shown().await, 0);
    recommended(&service, "anna").await;
    assert_eq!(shown().await, 1);
    let metrics = service.internal("/metrics").await.text;
    assert!(metrics.contains("\nrecommender_shown_answers 1\n"), "{metrics}");
    assert!(metrics.contains("\nrecommender_shown_coverage "), "{metrics}");
    service.stop().await;
}

#[tokio::test]
async fn pages_come_guarded_and_with_validators() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path()).await;
    for path in [
        "/",
        "/console/app.js",
        "/console/console.css",
        "/console/icon.svg",
    ] {
        let first = service.internal(path).await;
        assert_eq!(first.status, 200, "{path}");
        let policy = first.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"));
        assert_eq!(first.headers["x-content-type-options"], "nosniff");
        let again = service
            .client
            .get(format!("http://{}{path}", service.internal))
            .header(IF_NONE_MATCH, &first.headers[ETAG])
            .send()
            .await
            .unwrap();
        assert_eq!(again.status(), 304, "{path}");
    }
    assert_eq!(service.internal("/console/none.js").await.status, 404);
    service.stop().await;
}

#[tokio::test]
async fn a_watcher_is_sent_events_as_they_are_learned() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path()).await;
    let mut stream = service
        .client
        .get(format!("http://{}/console/api/live", service.internal))
        .bearer_auth(token("ann", &["customers:read"]))
        .send()
        .await
        .unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let writer = token("till", &["events:write"]);
    let click = event("eve", "mug", "click");
    service
        .call(Method::POST, "/v1/events", Some(&writer), Some(&click))
        .await;
    let mut text = String::new();
    while !text.contains("\"eve\"") {
        text += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
    }
    assert!(
        text.contains("\"event_type\":\"click\"") && text.contains("\"learned\":"),
        "{text}"
    );
    // The stream does not hold up the end.
    service.stop().await;
}
