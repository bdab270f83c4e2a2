//! Models that the configuration chooses: declared rules, one that the user brings, and the choice itself.

use std::path::{Path, PathBuf};

use recommendation_api::config::{OnnxConfig, RecommenderConfig};
use recommendation_api::model::Algorithm;
use recommendation_api::pipeline::recommender::{KnowledgeRule, RuleEffect};
use reqwest::Method;
use serde_json::{Value, json};

use crate::embedded;
use crate::support::{Running, event, eventually, recommended, token};

/// Without chance, and with no more variety than the models give.
fn config(algorithm: Algorithm) -> RecommenderConfig {
    let mut config = RecommenderConfig::default();
    config.model.algorithm = algorithm;
    config.model.exploration = 0.0;
    config.model.diversity = 0.0;
    config
}

/// A service that watches its file, and the file.
async fn start(dir: &Path, config: &RecommenderConfig) -> (Running, PathBuf) {
    let file = dir.join("config.json");
    write(&file, config);
    let mut options = embedded(dir, config.clone());
    options.config_file = Some(file.clone());
    (Running::start(options).await.ready().await, file)
}

fn write(file: &Path, config: &RecommenderConfig) {
    let mut config = config.clone();
    config.auth.jwt_secret_file = Some("jwt".into());
    config.privacy.key_file = Some("privacy".into());
    std::fs::write(file, serde_json::to_vec(&config).unwrap()).unwrap();
}

async fn put(service: &Running, path: &str, body: Value) {
    // Ann herself, where it is about her; the scope is the shop's.
    let caller = token("ann", &["catalog:write"]);
    let answer = service.call(Method::PUT, path, Some(&caller), Some(&body)).await;
    assert!(answer.status.is_success(), "{}", answer.text);
}

async fn post(service: &Running, events: &[Value]) {
    let writer = token("shop", &["events:write"]);
    let body = json!(events);
    let answer = service.call(Method::POST, "/v1/events/batch", Some(&writer), Some(&body));
    assert_eq!(answer.await.status, 202);
}

/// The model part of an answer to a customer.
async fn answered_by(service: &Running, customer: &str) -> Value {
    let path = format!("/v1/recommendations/{customer}");
    let answer = service
        .call(Method::GET, &path, Some(&token(customer, &[])), None)
        .await;
    answer.json()["model"].clone()
}

async fn note(service: &Running, part: &str) -> bool {
    let notes = service.status().await["notes"].clone();
    notes
        .as_array()
        .unwrap()
        .iter()
        .any(|note| note.as_str().unwrap().contains(part))
}

#[tokio::test]
async fn declared_rules_decide_what_a_customer_sees_and_are_taken_up_while_running() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(Algorithm::Knowledge);
    config.model.knowledge = vec![KnowledgeRule {
        customer_attribute: "skin_type".into(),
        product_attribute: "for_skin".into(),
        effect: RuleEffect::Must,
        weight: None,
    }];
    let (service, file) = start(dir.path(), &config).await;
    for (product, skin) in [("cream", "dry"), ("oil", "dry"), ("soap", "oily")] {
        let body = json!({"title": product, "attributes": {"for_skin": [skin]}});
        put(&service, &format!("/v1/products/{product}"), body).await;
    }
    put(
        &service,
        "/v1/customers/ann/profile",
        json!({"attributes": {"skin_type": "Dry"}}),
    )
    .await;
    // Everybody else wants soap.
    let events: Vec<Value> = (0..6)
        .map(|n| event(&format!("c{n}"), "soap", "purchase"))
        .collect();
    post(&service, &events).await;
    service.learned(6).await;
    eventually("what suits dry skin, and nothing else", || async {
        let mut products = recommended(&service, "ann").await;
        products.sort();
        products == ["cream", "oil"]
    })
    .await;
    assert_eq!(answered_by(&service, "ann").await["algorithm"], "Knowledge");
    config.model.knowledge[0].effect = RuleEffect::Never;
    write(&file, &config);
    eventually("the changed rule", || async {
        recommended(&service, "ann").await == ["soap"]
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn auto_answers_with_a_model_that_learns_online_and_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let (service, _) = start(dir.path(), &config(Algorithm::Auto)).await;
    let events: Vec<Value> = (0..8)
        .flat_map(|n| ["cup", "mug"].map(|product| event(&format!("c{n}"), product, "view")))
        .chain([event("ann", "cup", "view")])
        .collect();
    post(&service, &events).await;
    service.learned(17).await;
    eventually("the mug", || async {
        recommended(&service, "ann").await.contains(&"mug".to_owned())
    })
    .await;
    assert_eq!(service.status().await["model"]["algorithm"], "Auto");
    assert_eq!(
        answered_by(&service, "ann").await["algorithm"],
        "Hybrid",
        "before there is evidence"
    );
    service.stop().await;
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("engine/tests/onnx/{name}.onnx"))
}

fn onnx(path: &Path) -> Option<OnnxConfig> {
    Some(OnnxConfig {
        url: url::Url::from_file_path(path).unwrap().to_string(),
        credentials_dir: None,
    })
}

#[tokio::test]
async fn a_model_that_the_user_brings_answers_once_it_is_there_and_hybrid_until_then() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my ranker.onnx");
    let mut config = config(Algorithm::Onnx);
    config.model.onnx = onnx(&path);
    let (service, file) = start(dir.path(), &config).await;
    for (product, price) in [("cup", 1.0), ("mug", 2.0), ("plate", 4.0), ("fork", 8.0)] {
        let body = json!({"title": product, "price": price});
        put(&service, &format!("/v1/products/{product}"), body).await;
    }
    // Everyone who sees the cup sees the mug, few the fork.
    let mut events = Vec::new();
    for n in 0..12 {
        for (product, every) in [("cup", 1), ("mug", 1), ("plate", 2), ("fork", 4)] {
            if n % every == 0 {
                events.push(event(&format!("c{n}"), product, "view"));
            }
        }
    }
    // Bought, and so not shown again.
    events.extend([event("ann", "plate", "purchase"), event("ann", "cup", "purchase")]);
    post(&service, &events).await;
    service.learned(35).await;
    eventually("the blend's order", || async {
        recommended(&service, "ann").await == ["mug", "fork"]
    })
    .await;
    assert_eq!(answered_by(&service, "ann").await["algorithm"], "Hybrid");
    eventually("a note", || note(&service, "model.onnx: there is no file://")).await;
    assert!(
        service
            .internal("/metrics")
            .await
            .text
            .contains("recommender_onnx_loads_total{outcome=\"failed\"}")
    );

    // 2 × the price − 0.5 × the rank: the dear fork comes first.
    std::fs::copy(fixture("ranker"), &path).unwrap();
    eventually("the ranker's order", || async {
        recommended(&service, "ann").await == ["fork", "mug"]
    })
    .await;
    let model = answered_by(&service, "ann").await;
    assert_eq!(model["algorithm"], "Onnx");
    assert!(model["version"].as_str().unwrap().contains("+onnx-"), "{model}");
    assert!(!note(&service, "model.onnx").await);

    // One that is no model leaves the one before in place, and is told with what is wrong.
    config.model.onnx = onnx(&fixture("unknown-input"));
    write(&file, &config);
    eventually("what is wrong", || note(&service, "it must have exactly one")).await;
    assert!(note(&service, "the model before it, answers").await);
    assert_eq!(recommended(&service, "ann").await, ["fork", "mug"]);

    // And another one is taken up without a restart, whose numbers are none: Hybrid answers, and it is counted.
    config.model.onnx = onnx(&fixture("ranker-not-finite"));
    write(&file, &config);
    eventually("Hybrid", || async {
        answered_by(&service, "ann").await["algorithm"] == "Hybrid"
    })
    .await;
    assert_eq!(recommended(&service, "ann").await, ["mug", "fork"]);
    let metrics = service.internal("/metrics").await.text;
    let failures = metrics
        .lines()
        .find_map(|line| line.strip_prefix("recommender_onnx_failures_total "));
    assert!(failures.unwrap().parse::<f64>().unwrap() >= 2.0, "{metrics}");
    service.stop().await;
}
