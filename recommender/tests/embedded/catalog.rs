//! The catalogue, and the shape of answers.

use recommendation_api::config::RecommenderConfig;
use reqwest::Method;
use serde_json::json;

use crate::embedded;
use crate::support::{Running, event, eventually, token};

/// Five customers buy a cup and a mug, and eve a cup: what she may want next is the mug.
async fn cups_and_mugs(service: &Running, writer: &str) {
    let mut events = vec![event("eve", "cup", "purchase")];
    for i in 0..5 {
        events.push(event(&format!("c{i}"), "cup", "purchase"));
        events.push(event(&format!("c{i}"), "mug", "purchase"));
    }
    service
        .call(
            Method::POST,
            "/v1/events/batch",
            Some(writer),
            Some(&json!(events)),
        )
        .await;
    service.learned(11).await;
}

#[tokio::test]
async fn a_request_says_what_it_wants_told_of_products_and_gets_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let writer = token("shop", &["events:write"]);
    cups_and_mugs(&service, &writer).await;
    let eve = token("eve", &[]);
    let ask = async |path: &str| service.call(Method::GET, path, Some(&eve), None).await;
    eventually("the mug", async || {
        ask("/v1/recommendations/eve").await.json()["items"][0]["product_id"] == "mug"
    })
    .await;
    // What exploration did is always told: of two known products nothing is explored here.
    let names = |answer: &serde_json::Value| -> Vec<String> {
        let item = answer["items"][0].as_object().unwrap();
        item.keys()
            .filter(|name| !["explored", "probability"].contains(&name.as_str()))
            .cloned()
            .collect()
    };
    for (path, told) in [
        (
            "/v1/recommendations/eve",
            &["product_id", "reason", "score", "title"][..],
        ),
        ("/v1/recommendations/eve?fields=product_id", &["product_id"]),
        (
            "/v1/recommendations/eve?fields=score,product_id",
            &["product_id", "score"],
        ),
        (
            "/v1/recommendations/eve?fields=title&fields=score",
            &["product_id", "score", "title"],
        ),
        (
            "/v1/recommendations/eve?fields=reason&explain=true",
            &["product_id", "reason"],
        ),
        ("/v1/products/cup/similar?fields=score", &["product_id", "score"]),
        (
            "/v1/products/cup/bought-together?fields=title",
            &["product_id", "title"],
        ),
        ("/v1/trending?fields=product_id", &["product_id"]),
    ] {
        eventually(path, async || ask(path).await.json()["items"][0].is_object()).await;
        let answer = ask(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let mut found = names(&answer.json());
        found.sort_unstable();
        assert_eq!(found, told, "{path}");
    }
    let post = async |body: serde_json::Value| {
        service
            .call(Method::POST, "/v1/recommendations", None, Some(&body))
            .await
    };
    let answer = post(json!({"recent": ["cup"], "fields": ["score"]})).await.json();
    assert_eq!(names(&answer), ["product_id", "score"]);
    for refused in [
        ask("/v1/recommendations/eve?fields=product_id,colour").await,
        ask("/v1/products/cup/similar?fields=Score").await,
        ask("/v1/trending?fields=items").await,
        post(json!({"recent": ["cup"], "fields": ["colour"]})).await,
        post(json!({"recent": ["cup"], "fields": []})).await,
    ] {
        assert_eq!(
            (refused.status.as_u16(), &refused.json()["field"]),
            (400, &json!("fields"))
        );
    }
    service.stop().await;
}

#[tokio::test]
async fn products_are_written_read_and_named_in_reasons() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let writer = token("shop", &["events:write", "catalog:write"]);
    let cup = json!({"title": "Blue cup", "category": "kitchen", "price": 2.5, "tags": ["blue"]});
    assert_eq!(
        service
            .call(Method::PUT, "/v1/products/cup", Some(&writer), Some(&cup))
            .await
            .status,
        202
    );
    let batch = json!({"products": [{"product_id": "mug", "title": "Red mug", "category": "kitchen"}, {"title": "?"}]});
    let answer = service
        .call(Method::POST, "/v1/products/batch", Some(&writer), Some(&batch))
        .await
        .json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(1), &json!(1)));
    assert_eq!(answer["results"][1]["error"]["field"], "product_id");
    eventually("the catalogue", || async {
        service.get("/v1/products/mug").await.status == 200
    })
    .await;
    assert_eq!(service.get("/v1/products/cup").await.json()["price"], 2.5);
    assert_eq!(service.get("/v1/products/nothing").await.status, 404);

    cups_and_mugs(&service, &writer).await;
    let eve = token("eve", &[]);
    eventually("a reason with a title", || async {
        let path = "/v1/recommendations/eve?limit=3&explain=true";
        let answer = service.call(Method::GET, path, Some(&eve), None).await.json();
        let item = &answer["items"][0];
        answer["fallback"] == "personal"
            && item["title"] == "Red mug"
            && item["reason"]["text"] == "because you bought Blue cup"
            && item["reason"]["kind"] == "bought"
            && item["reason"]["products"] == json!(["cup"])
            && answer["model"]["algorithm"] == "Hybrid"
            && answer["recommendation_id"].is_string()
            && answer["explanation"]["history"][0]["product_id"] == "cup"
    })
    .await;
    let similar = service.get("/v1/products/cup/similar").await.json();
    assert_eq!(similar["items"][0]["product_id"], "mug");
    assert_eq!(service.get("/v1/products/nothing/similar").await.status, 404);
    eventually("what is trending in the kitchen", || async {
        let answer = service.get("/v1/trending?category=kitchen&limit=1").await.json();
        answer["items"].as_array().is_some_and(|items| items.len() == 1)
    })
    .await;
    assert_eq!(
        service.get("/v1/trending?category=garden").await.json()["items"],
        json!([])
    );

    // Out of stock: no longer recommended, some milliseconds later.
    let gone = json!({"title": "Red mug", "available": false});
    service
        .call(Method::PUT, "/v1/products/mug", Some(&writer), Some(&gone))
        .await;
    eventually("the mug to be gone", || async {
        let answer = service
            .call(Method::GET, "/v1/recommendations/eve", Some(&eve), None)
            .await
            .json();
        answer["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|item| item["product_id"] != "mug")
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn filters_and_limits_are_obeyed_and_bad_parameters_named() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let writer = token("shop", &["events:write"]);
    let events: Vec<_> = (0..20)
        .map(|i| event(&format!("c{}", i % 3), &format!("p{i}"), "view"))
        .collect();
    service
        .call(
            Method::POST,
            "/v1/events/batch",
            Some(&writer),
            Some(&json!(events)),
        )
        .await;
    service.learned(20).await;
    let ann = token("ann", &[]);
    let get = async |query: &str| {
        service
            .call(
                Method::GET,
                &format!("/v1/recommendations/ann?{query}"),
                Some(&ann),
                None,
            )
            .await
    };
    eventually("popular products", || async {
        get("limit=4").await.json()["items"].as_array().unwrap().len() == 4
    })
    .await;
    let first = get("limit=2").await.json()["items"][0]["product_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let without = get(&format!("exclude={first}")).await.json();
    assert!(
        without["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|item| item["product_id"] != first.as_str())
    );
    assert_eq!(
        get("algorithm=Popularity").await.json()["model"]["algorithm"],
        "Popularity"
    );
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1000", "limit"),
        ("algorithm=Magic", "algorithm"),
        ("explain=maybe", "explain"),
        ("diversity=2", "diversity"),
        ("limt=5", "limt"),
        ("category=%00", "category"),
    ] {
        let answer = get(query).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["field"].as_str()),
            (400, Some(field)),
            "{query}"
        );
    }
    service.stop().await;
}
