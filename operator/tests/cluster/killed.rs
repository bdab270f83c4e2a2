//! An operator killed in the middle of each of its steps; the next one finishes what was begun, and nothing is done twice.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use recommendation_api::pipeline::RecommendationPipeline;
use recommendation_api::pipeline::status::TopicOrigin;
use recommendation_operator::kafka::{Admin, Connection};
use serde_json::json;

use crate::double::Double;
use crate::harness::Harness;
use crate::process::Process;

/// Starts an operator and kills it as soon as something has happened.
async fn killed_once<F: Future<Output = bool>>(
    harness: &Harness,
    what: &str,
    mut happened: impl FnMut() -> F,
) {
    let mut operator = Process::start(harness, "victim", false);
    let begun = Instant::now();
    while !happened().await {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "waited in vain for {what}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    operator.child.kill().await.unwrap();
}

#[tokio::test]
async fn an_operator_killed_in_any_step_leaves_nothing_half_done_for_the_next() {
    let harness = Harness::new().await;
    let double = Double::replay(&[
        "120-show-streams",
        "603-show-streams",
        "122-list-tables",
        "125-list-queries",
        "580-create-for-seq",
    ])
    .await;
    let sql = "CREATE STREAM seq_s (a INT) WITH (kafka_topic='seq_s', value_format='JSON', partitions=1);";
    let ksqldb = json!({"endpoint": double.address(), "statements": [{"name": "seq", "sql": sql}]});
    let prefix = |name: &str| format!("{}{name}-", harness.prefix);
    let admin = Admin::new(&Connection::plain(std::slice::from_ref(&harness.kafka))).unwrap();
    let steps = ["topics", "statements", "children", "record", "status"];
    for step in steps {
        let mut spec =
            json!({"namePrefix": prefix(step), "topics": [{"name": "customer_behavior", "partitions": 2}]});
        if step == "statements" {
            spec["ksqldb"] = ksqldb.clone();
        }
        harness.apply(step, spec).await.unwrap();
        let topic = format!("{}customer_behavior", prefix(step));
        match step {
            // Made in Kafka, and in no status yet.
            "topics" => {
                killed_once(&harness, "a topic", || async {
                    let view = admin.observe(&BTreeSet::from([topic.clone()])).await;
                    view.is_ok_and(|view| view.topics.contains_key(&topic))
                })
                .await;
            }
            "statements" => {
                killed_once(&harness, "a statement", || {
                    let seen = double.seen();
                    std::future::ready(seen.iter().any(|asked| asked.starts_with("CREATE")))
                })
                .await;
            }
            "children" => {
                killed_once(&harness, "a child", || async {
                    harness.api::<Service>().get_opt(step).await.unwrap().is_some()
                })
                .await;
            }
            "record" => {
                let record = format!("{step}-applied");
                killed_once(&harness, "the record", || async {
                    harness
                        .api::<ConfigMap>()
                        .get_opt(&record)
                        .await
                        .unwrap()
                        .is_some()
                })
                .await;
            }
            _ => {
                killed_once(&harness, "a status", || async {
                    harness.get::<RecommendationPipeline>(step).await.status.is_some()
                })
                .await;
            }
        }
    }
    let _operator = Process::start(&harness, "heir", false);
    for step in steps {
        harness.condition(step, "TopicsReady", "True", "AsDeclared").await;
        harness
            .until("every child", || async {
                harness.api::<Deployment>().get_opt(step).await.unwrap().is_some()
                    && harness.api::<Service>().get_opt(step).await.unwrap().is_some()
            })
            .await;
        let pipeline: RecommendationPipeline = harness.get(step).await;
        for topic in pipeline.status.unwrap().topics.unwrap() {
            assert_eq!(topic.origin, TopicOrigin::Created, "{} of {step}", topic.name);
        }
    }
    harness
        .condition("statements", "StatementsReady", "True", "Applied")
        .await;
    let sent = double
        .asked()
        .into_iter()
        .filter(|asked| asked.starts_with("CREATE"));
    assert_eq!(sent.count(), 1, "no statement is sent twice");
    harness.remove().await;
}
