//! `spec.ksqldb` end to end, with a double that replays a real server's answers.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use recommendation_api::pipeline::RecommendationPipeline;
use serde_json::json;

use crate::double::Double;
use crate::harness::Harness;

#[tokio::test]
async fn statements_are_applied_once_recorded_and_then_left_alone() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    // SEQ_S is in the listing only after its statement.
    let double = Double::replay(&[
        "120-show-streams",
        "603-show-streams",
        "122-list-tables",
        "125-list-queries",
        "580-create-for-seq",
    ])
    .await;
    let sql = "CREATE STREAM seq_s (a INT) WITH (kafka_topic='seq_s', value_format='JSON', partitions=1);";
    let spec = json!({"ksqldb": {"endpoint": double.address(), "statements": [{"name": "seq", "sql": sql}]}});
    harness.apply("shop", spec).await.unwrap();
    harness
        .condition("shop", "StatementsReady", "True", "Applied")
        .await;
    operator.settled().await;
    let status = harness
        .get::<RecommendationPipeline>("shop")
        .await
        .status
        .unwrap();
    let statement = &status.statements.unwrap()[0];
    assert_eq!(
        (statement.name.as_str(), statement.state.as_str()),
        ("seq", "Applied")
    );
    assert_eq!(statement.command_sequence_number, Some(56));
    let record: ConfigMap = harness.get("shop-applied").await;
    assert!(record.data.unwrap()["applied.json"].contains("SEQ_S"));
    operator.reconciles(2).await;
    let sent = double
        .asked()
        .into_iter()
        .filter(|statement| statement.starts_with("CREATE"))
        .count();
    assert_eq!(sent, 1, "an identical statement is never sent again");
    harness.end(operator).await;
}

#[tokio::test]
async fn a_stream_of_somebody_else_is_a_conflict_and_a_dead_server_hides_nothing() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let double = Double::replay(&["120-show-streams", "122-list-tables", "125-list-queries"]).await;
    let simplest = "CREATE STREAM customer_behavior (customer_id VARCHAR, product_id VARCHAR, event_type VARCHAR) \
                    WITH (kafka_topic='customer_behavior', value_format='json');";
    let spec = |endpoint: &str| json!({"ksqldb": {"endpoint": endpoint, "statements": [{"name": "customer-behavior", "sql": simplest}]}});
    harness.apply("shop", spec(double.address())).await.unwrap();
    let message = harness
        .condition("shop", "StatementsReady", "False", "StatementConflict")
        .await;
    assert!(message.contains("CUSTOMER_BEHAVIOR"), "{message}");
    double.asked();
    harness.apply("shop", spec("http://127.0.0.1:1")).await.unwrap();
    harness
        .condition("shop", "StatementsReady", "Unknown", "KsqldbUnreachable")
        .await;
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    harness.end(operator).await;
}

#[tokio::test]
async fn a_statement_that_is_refused_is_told_and_neither_sent_nor_written_about_at_every_look() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let double = Double::replay(&[
        "120-show-streams",
        "122-list-tables",
        "125-list-queries",
        "308-unknown-source",
    ])
    .await;
    let sql = "CREATE STREAM u AS SELECT * FROM unknown_src EMIT CHANGES;";
    let statements = json!([{"name": "u", "sql": sql}]);
    let spec =
        json!({"ksqldb": {"endpoint": double.address(), "startFrom": "Latest", "statements": statements}});
    harness.apply("shop", spec).await.unwrap();
    let message = harness
        .condition("shop", "StatementsReady", "False", "StatementRejected")
        .await;
    assert!(message.contains("UNKNOWN_SRC does not exist"), "{message}");
    operator.settled().await;
    let record: ConfigMap = harness.get("shop-applied").await;
    assert!(
        !record.data.unwrap()["applied.json"].contains("\"U\""),
        "what was refused is not this pipeline's"
    );
    let sent = double
        .asked()
        .into_iter()
        .filter(|statement| statement.starts_with("CREATE"))
        .count();
    assert_eq!(sent, 1);
    harness.end(operator).await;
}

/// What an operator recorded before: a stream or table of the recorded server is this pipeline's.
pub async fn adopted(harness: &Harness, endpoint: &str, source: &str, spec: serde_json::Value) {
    let mut suspended = spec.clone();
    suspended["suspend"] = true.into();
    let pipeline = harness.apply("shop", suspended).await.unwrap();
    let statement = json!({"statement": "hopping", "hash": "before", "applied": true, "position": 0});
    let record = json!({"topics": {}, "statements": {source: statement}, "server": {"endpoint": endpoint}});
    let applied = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": "shop-applied",
            "labels": {"app.kubernetes.io/managed-by": "recommendation-operator"},
            "ownerReferences": [{
                "apiVersion": "recommendation.dev/v1alpha1", "kind": "RecommendationPipeline", "name": "shop",
                "uid": pipeline.metadata.uid, "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "data": {"applied.json": record.to_string()},
    });
    harness
        .api::<ConfigMap>()
        .patch(
            "shop-applied",
            &PatchParams::apply("tests"),
            &Patch::Apply(&applied),
        )
        .await
        .unwrap();
    harness.apply("shop", spec).await.unwrap();
}

#[tokio::test]
async fn when_the_whole_part_is_removed_what_this_pipeline_made_is_dropped_from_the_recorded_server() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let double = Double::replay(&[
        "120-show-streams",
        "122-list-tables",
        "125-list-queries",
        "416-drop-with-own-query",
    ])
    .await;
    let nothing = json!({"suspend": false});
    adopted(&harness, double.address(), "PURCHASES_HOPPING", nothing).await;
    harness
        .condition("shop", "StatementsReady", "True", "NotConfigured")
        .await;
    harness
        .until("the record to be emptied", || async {
            let record: ConfigMap = harness.get("shop-applied").await;
            !record.data.unwrap()["applied.json"].contains("PURCHASES_HOPPING")
        })
        .await;
    operator.settled().await;
    let dropped = double
        .asked()
        .into_iter()
        .filter(|asked| asked.starts_with("DROP"));
    assert_eq!(dropped.collect::<Vec<_>>(), ["DROP TABLE purchases_hopping;"]);
    harness.end(operator).await;
}

#[tokio::test]
async fn deletion_with_delete_drops_what_this_pipeline_made_and_waits_for_a_server_that_is_away() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let double = Double::replay(&[
        "120-show-streams",
        "122-list-tables",
        "125-list-queries",
        "416-drop-with-own-query",
    ])
    .await;
    let spec = |endpoint: &str| {
        json!({"deletionPolicy": "Delete", "suspend": false,
            "ksqldb": {"endpoint": endpoint, "statements": []}})
    };
    // A suspended pipeline gets its finalizer before anything is recorded.
    let mut suspended = spec("http://127.0.0.1:1");
    suspended["suspend"] = true.into();
    adopted(&harness, double.address(), "PURCHASES_HOPPING", suspended).await;
    let api = harness.api::<RecommendationPipeline>();
    harness
        .until("the finalizer of a suspended pipeline", || async {
            !api.get("shop").await.unwrap().finalizers().is_empty()
        })
        .await;
    api.delete("shop", &Default::default()).await.unwrap();
    let message = harness
        .condition("shop", "CleanupBlocked", "True", "KsqldbUnreachable")
        .await;
    assert!(message.contains("PURCHASES_HOPPING"), "{message}");
    let found = json!({"spec": {"ksqldb": {"endpoint": double.address()}}});
    api.patch("shop", &PatchParams::default(), &Patch::Merge(&found))
        .await
        .unwrap();
    harness
        .until("the pipeline to go", || async {
            api.get_opt("shop").await.unwrap().is_none()
        })
        .await;
    let dropped = double
        .asked()
        .into_iter()
        .filter(|asked| asked.starts_with("DROP"));
    assert_eq!(dropped.collect::<Vec<_>>(), ["DROP TABLE purchases_hopping;"]);
    harness.end(operator).await;
}

#[tokio::test]
async fn statements_of_a_config_map_are_taken_up_as_soon_as_it_is_there_with_variables_filled_in() {
    let harness = Harness::new().await;
    // Only a watch can bring the ConfigMap within a test's patience.
    let operator = harness
        .operator_with(|options| options.resync = std::time::Duration::from_secs(600))
        .await;
    let double = Double::replay(&[
        // One look before the ConfigMap is there, one or two after.
        "120-show-streams",
        "120-show-streams",
        "120-show-streams",
        "603-show-streams",
        "122-list-tables",
        "125-list-queries",
        "580-create-for-seq",
    ])
    .await;
    let spec = json!({"ksqldb": {
        "endpoint": double.address(),
        "statementsFrom": [{"configMapRef": {"name": "shop-sql"}}],
        "variables": {"stream": "seq_s", "count": "1"},
    }});
    harness.apply("shop", spec).await.unwrap();
    let message = harness
        .condition("shop", "SpecAccepted", "False", "InvalidSpec")
        .await;
    assert!(
        message.contains("spec.ksqldb.statementsFrom") && message.contains("shop-sql"),
        "{message}"
    );
    let sql = "CREATE STREAM ${stream} (a INT) WITH (kafka_topic='${stream}', value_format='JSON', partitions=${count});";
    let statements = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shop-sql"}, "data": {"01-seq.sql": sql},
    });
    harness
        .api::<ConfigMap>()
        .patch(
            "shop-sql",
            &PatchParams::apply("tests"),
            &Patch::Apply(&statements),
        )
        .await
        .unwrap();
    harness
        .until("the statement to be sent", || {
            let seen = double.seen();
            std::future::ready(seen.iter().any(|asked| asked.starts_with("CREATE STREAM seq_s")))
        })
        .await;
    let api = harness.api::<RecommendationPipeline>();
    harness
        .until("its place in the status", || async {
            let status = api.get("shop").await.unwrap().status.unwrap_or_default();
            status
                .statements
                .is_some_and(|all| all.iter().any(|statement| statement.name == "01-seq"))
        })
        .await;
    double.asked();
    harness.end(operator).await;
}
