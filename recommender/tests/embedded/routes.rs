//! Every route with every kind of caller. The table is held against the OpenAPI document: a route without rows, and
//! a row without a route, fail.

use std::collections::BTreeSet;

use recommendation_api::config::{PublishableKeyConfig, RecommenderConfig};
use recommender::http::openapi;
use reqwest::Method;
use serde_json::{Value, json};

use self::table::As::{Ann, Bob, Forged, Key, Nobody, Program, WrongKey};
use crate::embedded;
use crate::support::{Running, event, eventually, send, token};

mod table;

#[tokio::test]
async fn every_route_answers_every_kind_of_caller_as_documented() {
    let document: Value = serde_json::from_str(openapi::text()).unwrap();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    let table = table::table();
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
async fn a_head_is_answered_like_a_get_and_shows_nobody_anything() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let ask =
        async |method: Method, path: &str| service.call(method, path, Some(&token("ann", &[])), None).await;
    let events = ["cup", "mug", "pot"].map(|product| event("bob", product, "purchase"));
    send(&service, &events).await;
    eventually("what is popular", async || {
        service.get("/v1/trending").await.json()["items"][0].is_object()
    })
    .await;
    for _ in 0..3 {
        let head = ask(Method::HEAD, "/v1/recommendations/ann").await;
        assert_eq!(head.status, 200);
    }
    assert_eq!(ask(Method::GET, "/v1/recommendations/ann").await.status, 200);
    let shown = async || {
        let export = ask(Method::GET, "/v1/customers/ann").await;
        export.json()["shown"].as_array().map_or(0, Vec::len)
    };
    eventually("what was shown", async || shown().await > 0).await;
    assert_eq!(shown().await, 1);
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
