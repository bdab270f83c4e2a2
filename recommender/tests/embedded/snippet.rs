//! The browser snippet, run by Node against a service with a publishable key.

use recommendation_api::config::{PublishableKeyConfig, RecommenderConfig};
use reqwest::Method;
use serde_json::{Value, json};

use crate::embedded;
use crate::support::{Running, event, eventually, token};

#[tokio::test]
async fn the_snippet_sends_events_of_its_visit_and_names_the_recommendation_that_led_to_them() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("web"), "pk_tests").unwrap();
    let mut config = RecommenderConfig::default();
    config.auth.publishable_keys = vec![PublishableKeyConfig {
        name: "web".into(),
        key_file: "web".into(),
        origins: Vec::new(),
    }];
    let service = Running::start(embedded(dir.path(), config)).await.ready().await;
    let program = token("shop", &["events:write", "recommendations:read"]);
    for customer in ["a", "b", "c"] {
        for product in ["cup", "saucer", "spoon"] {
            let body = event(customer, product, "click");
            service
                .call(Method::POST, "/v1/events", Some(&program), Some(&body))
                .await;
        }
    }
    service.learned(9).await;
    eventually("what is popular", || async {
        let answer = service
            .call(Method::GET, "/v1/trending", Some(&program), None)
            .await;
        answer.json()["items"]
            .as_array()
            .is_some_and(|items| items.len() == 3)
    })
    .await;

    let address = format!("http://{}/v1/snippet.js", service.public);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/embedded/snippet.mjs");
    let ran = tokio::process::Command::new("node")
        .args([script, &address, "pk_tests"])
        .output()
        .await
        .expect("Node.js is needed (`node`)");
    let (out, err) = (
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr),
    );
    assert!(ran.status.success(), "{err}");
    let saw: Value = serde_json::from_str(&out).unwrap();

    let asked = saw["asked"].as_array().unwrap();
    let of = |method: &str, path: &str| -> Vec<&Value> {
        let matches =
            |call: &&Value| call["method"] == method && call["url"].as_str().unwrap().starts_with(path);
        asked.iter().filter(matches).collect()
    };
    assert!(
        asked
            .iter()
            .all(|call| call["url"].as_str().unwrap().contains("key=pk_tests")),
        "{out}"
    );
    let (answer, id) = (&saw["answer"], &saw["stored"]["rec-id"]);
    let events = of("POST", "/v1/events");
    let [refused, again, view, unkept @ ..] = &events[..] else {
        panic!("{out}")
    };
    // The one that was refused was sent again as it was, and so counts once.
    assert_eq!(refused["body"], again["body"]);
    assert_eq!(again["body"]["session_id"], *id);
    assert_eq!(again["body"]["recommendation_id"], answer["recommendation_id"]);
    assert_eq!(again["body"]["properties"], json!({"from": "test"}));
    // On the next page too.
    assert_eq!(view["body"]["recommendation_id"], answer["recommendation_id"]);
    let [one, other] = unkept else { panic!("{out}") };
    assert_eq!(one["body"]["session_id"], other["body"]["session_id"]);
    assert_ne!(one["body"]["session_id"], *id);
    assert_eq!(of("POST", "/v1/recommendations")[0]["body"]["session_id"], *id);
    assert_eq!(saw["similar"], "products/a%2Fb%20c/similar: 404");
    assert_eq!(saw["trending"], 2);

    // What it sent is learned, under the visit's name, and the click is its recommendation's.
    service.learned(13).await;
    let visit = format!("session:{}", id.as_str().unwrap());
    let asked = service
        .call(
            Method::GET,
            &format!("/v1/recommendations/{visit}?explain=true"),
            Some(&program),
            None,
        )
        .await;
    let clicked = asked.json()["explanation"]["history"][0]["product_id"].clone();
    assert_eq!(clicked, answer["items"][0]["product_id"]);
    let analyst = token("analyst", &["insights:read"]);
    eventually("the click's recommendation", || async {
        let told = service
            .call(Method::GET, "/v1/insights", Some(&analyst), None)
            .await
            .json();
        told["experiments"][0]["arms"][0]["clicked_answers"] == 1
    })
    .await;
    service.stop().await;
}
