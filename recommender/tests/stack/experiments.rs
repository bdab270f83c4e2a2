//! Experiments over several replicas: what was shown by one and what followed at another is told by all.

use recommendation_api::model::Algorithm;
use recommendation_api::pipeline::recommender::{ExperimentArm, ExperimentSpec};
use reqwest::Method;
use serde_json::{Value, json};

use crate::shop::Shop;
use crate::support::{Running, event, eventually, token};

async fn insights(service: &Running) -> Value {
    let analyst = token("analyst", &["insights:read"]);
    let path = "/v1/insights?limit=5";
    service.call(Method::GET, path, Some(&analyst), None).await.json()
}

#[tokio::test]
async fn every_replica_tells_the_same_figures_whoever_showed_what_and_whenever_it_started() {
    let mut shop = Shop::new(3).await;
    let arm = |algorithm| ExperimentArm {
        algorithm,
        percent: 50,
    };
    shop.config.experiments = vec![ExperimentSpec {
        name: "ranking".into(),
        arms: vec![arm(Algorithm::ItemKnn), arm(Algorithm::Popularity)],
    }];
    let start = async || Running::start(shop.replica()).await.ready().await;
    let replicas = [start().await, start().await];
    let program = token("shop", &["events:write", "recommendations:read"]);
    let post = async |replica: &Running, body: &Value| {
        let written = replica
            .call(Method::POST, "/v1/events", Some(&program), Some(body))
            .await;
        assert_eq!(written.status, 202, "{}", written.text);
    };
    for n in 0..12 {
        post(
            &replicas[0],
            &event(&format!("c{}", n % 4), &format!("p{}", n % 3), "click"),
        )
        .await;
    }
    for replica in &replicas {
        eventually("what is popular", || async {
            replica.get("/v1/trending").await.json()["items"]
                .as_array()
                .is_some_and(|items| items.len() == 3)
        })
        .await;
    }
    let mut revenue = 0.0;
    for n in 0..16_usize {
        let customer = format!("k{n}");
        let path = format!("/v1/recommendations/{customer}?placement=home");
        let answer = replicas[n % 2]
            .call(Method::GET, &path, Some(&program), None)
            .await
            .json();
        if n % 4 < 2 {
            let mut bought = event(
                &customer,
                answer["items"][1]["product_id"].as_str().unwrap(),
                "purchase",
            );
            bought["price"] = json!(n + 1);
            // Of half of them by the other replica.
            post(&replicas[(n / 2 + 1) % 2], &bought).await;
            revenue += (n + 1) as f64;
        }
    }
    let told = |report: &Value| -> (u64, f64) {
        let arms = report["experiments"][0]["arms"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let whole = arms.iter().filter(|arm| arm["placement"].is_null());
        whole.fold((0, 0.0), |sum, arm| {
            (
                sum.0 + arm["customers"].as_u64().unwrap(),
                sum.1 + arm["revenue"].as_f64().unwrap(),
            )
        })
    };
    for replica in &replicas {
        eventually("all that was shown and bought", || async {
            told(&insights(replica).await) == (16, revenue)
        })
        .await;
    }
    let late = start().await;
    eventually("the same from the log", || async {
        let (first, other, late) = (
            insights(&replicas[0]).await,
            insights(&replicas[1]).await,
            insights(&late).await,
        );
        ["experiments", "funnel", "top_products", "activity", "until"]
            .iter()
            .all(|part| first[part] == other[part] && first[part] == late[part])
    })
    .await;
    late.stop().await;
    for replica in replicas {
        replica.stop().await;
    }
}
