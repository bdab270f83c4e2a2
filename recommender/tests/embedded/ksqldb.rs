//! Figures with the totals of ksqlDB's tables, and without them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use recommendation_api::config::{KsqldbConfig, RecommenderConfig};
use reqwest::Method;
use serde_json::{Value, json};

use crate::embedded;
use crate::support::ksqldb::{Double, FUNNEL, funnel, popularity, serve};
use crate::support::{Running, event, eventually, token};

async fn shop(url: &str, funnel: &str) -> (tempfile::TempDir, Running) {
    let dir = tempfile::tempdir().unwrap();
    let config = RecommenderConfig {
        ksqldb: Some(KsqldbConfig {
            url: url.to_owned(),
            funnel: funnel.into(),
            popularity: "product_popularity_hourly".into(),
        }),
        ..RecommenderConfig::default()
    };
    let service = Running::start(embedded(dir.path(), config)).await.ready().await;
    let writer = token("shop", &["events:write"]);
    for customer in ["ann", "bob"] {
        let mut bought = event(customer, "o'cup", "purchase");
        bought["price"] = json!(2.5);
        service
            .call(Method::POST, "/v1/events", Some(&writer), Some(&bought))
            .await;
    }
    service.learned(2).await;
    (dir, service)
}

async fn figures(service: &Running) -> Value {
    let analyst = token("analyst", &["insights:read"]);
    let answer = service
        .call(Method::GET, "/v1/insights", Some(&analyst), None)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[tokio::test]
async fn figures_have_the_totals_of_ksqldbs_tables_as_long_as_it_answers_and_their_own_either_way() {
    let keyed = "SELECT product_id, WINDOWSTART, WINDOWEND, events, purchases FROM product_popularity_hourly \
                 WHERE product_id='o''cup';";
    let double = Arc::new(Double {
        tables: HashMap::from([
            (
                FUNNEL.to_owned(),
                funnel(&[json!(["purchase", 70]), json!(["view", 900])]),
            ),
            (
                keyed.to_owned(),
                popularity(&[
                    json!(["o'cup", 1_795_356_000_000_i64, 1_795_359_600_000_i64, 40, 3]),
                    json!(["o'cup", 1_795_359_600_000_i64, 1_795_363_200_000_i64, 2, 1]),
                ]),
            ),
        ]),
        ..Double::default()
    });
    let url = serve(Arc::clone(&double)).await;
    let (_dir, service) = shop(&url, "event_funnel").await;
    eventually("figures about both", async || {
        let told = figures(&service).await;
        told["top_products"][0]["product_id"] == "o'cup" && !told["ksqldb"]["products"][0].is_null()
    })
    .await;
    let told = figures(&service).await;
    assert_eq!(
        told["ksqldb"],
        json!({
            "funnel": [{"event_type": "view", "events": 900}, {"event_type": "purchase", "events": 70}],
            "products": [{"product_id": "o'cup", "events": 42, "purchases": 4}],
        })
    );
    assert_eq!(
        told["funnel"]["events"]["purchase"], 2,
        "the service's own, of a week"
    );
    // Once for all who ask within seconds.
    let before = double.asked.lock().unwrap().len();
    figures(&service).await;
    assert_eq!(double.asked.lock().unwrap().len(), before);
    // Gone: the figures stay, without the totals.
    double.gone.store(true, Ordering::SeqCst);
    eventually("figures without it", async || {
        let told = figures(&service).await;
        assert_eq!(told["funnel"]["events"]["purchase"], 2);
        told.get("ksqldb").is_none()
    })
    .await;
    double.gone.store(false, Ordering::SeqCst);
    eventually("its return", async || {
        figures(&service).await["ksqldb"]["funnel"][0]["events"] == 900
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn a_table_that_is_not_there_and_a_server_that_is_not_leave_the_figures_as_they_are() {
    let url = serve(Arc::default()).await;
    for url in [url.as_str(), "http://127.0.0.1:9"] {
        let (_dir, service) = shop(url, "nope").await;
        let told = figures(&service).await;
        assert!(told.get("ksqldb").is_none(), "{told}");
        assert_eq!(told["funnel"]["events"]["purchase"], 2);
        service.stop().await;
    }
}
