//! Experiments through the whole service: arms, impressions, attribution, figures, metrics.

use std::collections::BTreeMap;

use recommendation_api::HumanDuration;
use recommendation_api::config::{RecommenderConfig, SnapshotsConfig};
use recommendation_api::model::Algorithm;
use recommendation_api::pipeline::recommender::{ExperimentArm, ExperimentSpec};
use reqwest::Method;
use serde_json::{Value, json};

use crate::embedded;
use crate::support::{Running, event, eventually, token};

fn config() -> RecommenderConfig {
    let arm = |algorithm| ExperimentArm {
        algorithm,
        percent: 50,
    };
    RecommenderConfig {
        experiments: vec![ExperimentSpec {
            name: "ranking".into(),
            arms: vec![arm(Algorithm::ItemKnn), arm(Algorithm::Popularity)],
        }],
        ..RecommenderConfig::default()
    }
}

async fn insights(service: &Running) -> Value {
    let analyst = token("analyst", &["insights:read"]);
    service
        .call(Method::GET, "/v1/insights", Some(&analyst), None)
        .await
        .json()
}

#[tokio::test]
async fn each_customer_is_answered_by_their_arm_and_what_follows_is_told_by_arm_and_placement() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), config())).await.ready().await;
    let program = token("shop", &["events:write", "recommendations:read"]);
    for customer in ["a", "b", "c"] {
        for product in ["cup", "saucer", "spoon", "plate"] {
            let body = event(customer, product, "click");
            service
                .call(Method::POST, "/v1/events", Some(&program), Some(&body))
                .await;
        }
    }
    service.learned(12).await;
    eventually("what is popular", || async {
        let answer = service
            .call(Method::GET, "/v1/trending", Some(&program), None)
            .await;
        answer.json()["items"]
            .as_array()
            .is_some_and(|items| items.len() == 4)
    })
    .await;
    let mut truth: BTreeMap<String, (u64, f64)> = BTreeMap::new();
    for n in 0..20 {
        let customer = format!("customer {n}");
        let ask = async |query: &str| {
            let path = format!("/v1/recommendations/customer%20{n}{query}");
            service
                .call(Method::GET, &path, Some(&program), None)
                .await
                .json()
        };
        let answer = ask("?placement=home").await;
        let arm = answer["arm"].as_str().unwrap().to_owned();
        assert_eq!(
            (&answer["experiment"], &answer["model"]["algorithm"]),
            (&json!("ranking"), &json!(arm))
        );
        assert_eq!(ask("?placement=home&explain=true").await["arm"], arm, "it stays");
        // Who names an algorithm is no part of the experiment.
        let named = ask("?algorithm=SessionKnn&explain=true").await;
        assert_eq!(
            (&named["experiment"], &named["arm"]),
            (&Value::Null, &json!("SessionKnn"))
        );
        let sums = truth.entry(arm).or_default();
        sums.0 += 1;
        // Every second buys two of what was shown, half of them without telling the recommendation.
        if n % 2 == 0 {
            let mut bought = event(
                &customer,
                answer["items"][0]["product_id"].as_str().unwrap(),
                "purchase",
            );
            bought["price"] = json!(1.5 + f64::from(n));
            bought["quantity"] = json!(2);
            if n % 4 == 0 {
                bought["recommendation_id"] = answer["recommendation_id"].clone();
            }
            service
                .call(Method::POST, "/v1/events", Some(&program), Some(&bought))
                .await;
            sums.1 += 2.0 * (1.5 + f64::from(n));
        }
    }
    assert_eq!(truth.len(), 2);
    let told = |report: &Value| -> BTreeMap<String, (u64, f64)> {
        let arms = report["experiments"][0]["arms"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        arms.iter()
            .filter(|arm| arm["placement"] == "home")
            .map(|arm| {
                let figures = (
                    arm["customers"].as_u64().unwrap(),
                    arm["revenue"].as_f64().unwrap(),
                );
                (arm["arm"].as_str().unwrap().to_owned(), figures)
            })
            .collect()
    };
    eventually("the truth", || async { told(&insights(&service).await) == truth }).await;
    let before = insights(&service).await;
    assert_eq!(before["experiments"][0]["control"], "ItemKnn");
    assert_eq!(before["experiments"][0]["comparisons"][0]["arm"], "Popularity");
    assert_eq!(before["funnel"]["events"]["purchase"], 10);
    let metrics = service.internal("/metrics").await.text;
    let line = metrics
        .lines()
        .find(|line| {
            line.starts_with("recommender_experiment_revenue{")
                && line.contains("arm=\"ItemKnn\"")
                && line.contains("placement=\"home\"")
        })
        .unwrap();
    assert!(line.ends_with(&truth["ItemKnn"].1.to_string()), "{line}");
    assert!(metrics.contains("recommender_impressions_total{outcome=\"written\"} 20"));
    service.stop().await;

    // The same from the log, and then from a snapshot.
    let mut config = config();
    config.snapshots = Some(SnapshotsConfig {
        url: url::Url::from_directory_path(dir.path().join("state"))
            .unwrap()
            .to_string(),
        interval: HumanDuration::from_secs(1),
        ..SnapshotsConfig::default()
    });
    for metric in [
        r#"recommender_snapshots_total{outcome="written"} 1"#,
        "recommender_snapshot_created_seconds 1",
    ] {
        let again = Running::start(embedded(dir.path(), config.clone()))
            .await
            .ready()
            .await;
        eventually("the same figures", || async {
            let after = insights(&again).await;
            ["experiments", "funnel", "top_products", "activity"]
                .iter()
                .all(|part| after[part] == before[part])
        })
        .await;
        eventually(metric, || async {
            again.internal("/metrics").await.text.contains(metric)
        })
        .await;
        again.stop().await;
    }
}

#[tokio::test]
async fn the_figures_parameters_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let analyst = token("analyst", &["insights:read"]);
    for (query, status, field) in [
        ("?days=0", 400, "days"),
        ("?days=8", 400, "days"),
        ("?limit=0", 400, "limit"),
        ("?day=1", 400, "day"),
    ] {
        let answer = service
            .call(Method::GET, &format!("/v1/insights{query}"), Some(&analyst), None)
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["field"].as_str()),
            (status, Some(field)),
            "{query}"
        );
    }
    let empty = service
        .call(Method::GET, "/v1/insights?days=1", Some(&analyst), None)
        .await
        .json();
    assert_eq!(
        (empty["days"].as_u64(), empty["activity"]["customers"].as_u64()),
        (Some(1), Some(0))
    );
    service.stop().await;
}
