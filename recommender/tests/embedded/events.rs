//! Events in, recommendations out.

use recommendation_api::config::RecommenderConfig;
use reqwest::Method;
use serde_json::{Value, json};

use crate::embedded;
use crate::support::{Running, event, eventually, recommended, token};

/// Ten customers who bought cup and mug, one of whom we ask about who has only the cup.
fn purchases() -> Value {
    let mut events = vec![event("eve", "cup", "purchase")];
    for i in 0..10 {
        events.push(event(&format!("c{i}"), "cup", "purchase"));
        events.push(event(&format!("c{i}"), "mug", "purchase"));
    }
    json!({ "events": events })
}

#[tokio::test]
async fn a_click_changes_the_recommendations_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let writer = token("shop", &["events:write"]);
    let answer = service
        .call(
            Method::POST,
            "/v1/events/batch",
            Some(&writer),
            Some(&purchases()),
        )
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["accepted"].as_u64()),
        (202, Some(21)),
        "{}",
        answer.text
    );
    service.learned(21).await;
    eventually("eve's mug", || async {
        recommended(&service, "eve")
            .await
            .first()
            .is_some_and(|id| id == "mug")
    })
    .await;

    let one = service
        .call(
            Method::POST,
            "/v1/events",
            Some(&writer),
            Some(&event("eve", "mug", "purchase")),
        )
        .await;
    assert_eq!(one.status, 202);
    assert_eq!(one.json()["event_id"].as_str().unwrap().len(), 36);
    service.learned(22).await;
    eventually("the mug to be gone, as it was bought", || async {
        !recommended(&service, "eve").await.contains(&"mug".to_owned())
    })
    .await;
    // Measured of live events alone, and of those that chance picks.
    let model = async |service: &Running| {
        let mut model = service.status().await["model"].clone();
        model.as_object_mut().unwrap().remove("hitRateAt10");
        model
    };
    let before = (recommended(&service, "c1").await, model(&service).await);
    service.stop().await;

    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    assert_eq!(service.status().await["events"], 22);
    assert_eq!((recommended(&service, "c1").await, model(&service).await), before);
    service.stop().await;
}

#[tokio::test]
async fn an_event_that_is_sent_twice_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let writer = token("shop", &["events:write"]);
    let mut same = event("c", "p", "click");
    same["event_id"] = "e-1".into();
    for _ in 0..3 {
        let answer = service
            .call(Method::POST, "/v1/events", Some(&writer), Some(&same))
            .await;
        assert_eq!(answer.json()["event_id"], "e-1");
    }
    service
        .call(
            Method::POST,
            "/v1/events",
            Some(&writer),
            Some(&event("c", "q", "click")),
        )
        .await;
    service.learned(2).await;
    let metrics = service.internal("/metrics").await.text;
    assert!(
        metrics.contains("recommender_events_duplicate_total 2"),
        "{metrics}"
    );
    service.stop().await;
}

#[tokio::test]
async fn bad_events_are_refused_with_the_field_at_fault() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let writer = token("shop", &["events:write"]);
    for (body, field) in [
        (
            json!({"customer_id": "c", "event_type": "click"}),
            json!("product_id"),
        ),
        (
            json!({"customer_id": "", "product_id": "p", "event_type": "click"}),
            json!("customer_id"),
        ),
        (
            json!({"customer_id": "c", "product_id": "p", "event_type": "click", "timestamp": "soon"}),
            json!("timestamp"),
        ),
        (json!([1]), Value::Null),
    ] {
        let answer = service
            .call(Method::POST, "/v1/events", Some(&writer), Some(&body))
            .await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.json()["field"], field, "{body}");
        assert!(answer.json()["request_id"].is_string());
    }
    let batch = json!([event("c", "p", "click"), {"customer_id": "c"}, 7]);
    let answer = service
        .call(Method::POST, "/v1/events/batch", Some(&writer), Some(&batch))
        .await
        .json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(1), &json!(2)));
    assert_eq!(answer["results"][1]["error"]["field"], "event_type");
    let huge = json!({"customer_id": "c", "x": "x".repeat(2_000_000)});
    assert_eq!(
        service
            .call(Method::POST, "/v1/events", Some(&writer), Some(&huge))
            .await
            .status,
        413
    );
    service.learned(1).await;
    service.stop().await;
}

#[tokio::test]
async fn webhooks_answer_exactly_as_documented_and_count_as_events() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let body = json!({"event": "product_view", "customer_id": "c", "product_id": "p"});
    let answer = service.call(Method::POST, "/webhook", None, Some(&body)).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text.as_str()),
        (200, "Event received")
    );
    service.learned(1).await;
    let bad = service
        .call(
            Method::POST,
            "/webhook",
            None,
            Some(&json!({"customer_id": "c", "product_id": "p"})),
        )
        .await;
    assert_eq!(
        (bad.status.as_u16(), &bad.json()["field"]),
        (400, &json!("event"))
    );

    let mail = json!({"email": "ann@example.com", "subject": "Order", "message": "Where is it?"});
    let answer = service
        .call(Method::POST, "/gmail-webhook", None, Some(&mail))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.text.as_str()),
        (200, "Email processed")
    );
    let bad = service
        .call(
            Method::POST,
            "/gmail-webhook",
            None,
            Some(&json!({"email": "nobody"})),
        )
        .await;
    assert_eq!(
        (bad.status.as_u16(), &bad.json()["field"]),
        (400, &json!("email"))
    );
    let metrics = service.internal("/metrics").await.text;
    assert!(metrics.contains("recommender_emails_unmatched_total 1"));
    service.stop().await;
}

#[tokio::test]
async fn a_configured_webhook_key_refuses_unsigned_bodies() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hmac"), "key").unwrap();
    let mut config = RecommenderConfig::default();
    config.webhooks.hmac_secret_file = Some("hmac".into());
    let service = Running::start(embedded(dir.path(), config)).await.ready().await;
    let body = json!({"event": "click", "customer_id": "c", "product_id": "p"});
    assert_eq!(
        service
            .call(Method::POST, "/webhook", None, Some(&body))
            .await
            .status,
        401
    );
    service.stop().await;
}

#[tokio::test]
async fn an_anonymous_basket_is_answered_from_its_products() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let writer = token("shop", &["events:write"]);
    service
        .call(
            Method::POST,
            "/v1/events/batch",
            Some(&writer),
            Some(&purchases()),
        )
        .await;
    service.learned(21).await;
    eventually("a basket's answer", || async {
        let answer = service
            .call(
                Method::POST,
                "/v1/recommendations",
                None,
                Some(&json!({"recent": ["cup"]})),
            )
            .await
            .json();
        answer["fallback"] == "session" && answer["items"][0]["product_id"] == "mug"
    })
    .await;
    let empty = service
        .call(Method::POST, "/v1/recommendations", None, Some(&json!({})))
        .await
        .json();
    assert_eq!(empty["fallback"], "popular");
    let bad = service
        .call(
            Method::POST,
            "/v1/recommendations",
            None,
            Some(&json!({"recnt": ["cup"]})),
        )
        .await;
    assert_eq!(bad.status, 400);
    service.stop().await;
}
