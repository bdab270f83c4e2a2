//! What the client makes of a real server's answers.

use recommendation_operator::ksqldb::{KsqlClient, KsqlError};

use crate::double::Double;

const BEHAVIOR: &str = "CREATE STREAM customer_behavior (customer_id VARCHAR KEY, event_type VARCHAR, product_id \
                        VARCHAR, amount DOUBLE, ts BIGINT) WITH (kafka_topic='customer_behavior', \
                        value_format='JSON', partitions=3);";
const PURCHASES: &str = "CREATE STREAM customer_purchases AS SELECT customer_id, product_id, amount, ts FROM \
                         customer_behavior WHERE event_type='purchase' EMIT CHANGES;";

async fn rejected(recording: &str, sql: &str, earliest: bool) -> (u32, String) {
    let double = Double::replay(&[recording]).await;
    let error = double.client(None).execute(sql, earliest).await.unwrap_err();
    double.asked();
    match error {
        KsqlError::Rejected { code, message } => (code, message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_listing_holds_streams_tables_and_persistent_queries() {
    let double = Double::replay(&["120-show-streams", "122-list-tables", "125-list-queries"]).await;
    let listing = double.client(None).listing().await.unwrap();
    assert_eq!(double.asked(), ["SHOW STREAMS;", "LIST TABLES;", "LIST QUERIES;"]);
    let names: Vec<&String> = listing.sources.keys().collect();
    assert_eq!(
        names,
        [
            "CUSTOMER_BEHAVIOR",
            "CUSTOMER_PURCHASES",
            "PURCHASES_HOPPING",
            "PURCHASES_HOURLY",
            "PURCHASES_PER_CUSTOMER",
            "SESSIONS"
        ]
    );
    assert_eq!(listing.sources["CUSTOMER_BEHAVIOR"].topic, "customer_behavior");
    let writer = listing.writer("CUSTOMER_PURCHASES").unwrap();
    assert_eq!(
        (writer.id.as_str(), writer.effective_state()),
        ("CSAS_CUSTOMER_PURCHASES_1", "RUNNING")
    );
    assert!(listing.writer("CUSTOMER_BEHAVIOR").is_none());
}

#[tokio::test]
async fn a_paused_query_is_seen_and_a_persons_push_query_is_not_listed() {
    let double = Double::replay(&["120-show-streams", "122-list-tables", "409-list-queries-paused"]).await;
    let listing = double.client(None).listing().await.unwrap();
    assert_eq!(listing.writer("SESSIONS").unwrap().effective_state(), "PAUSED");
    assert!(
        listing
            .queries
            .iter()
            .all(|query| !query.id.starts_with("transient"))
    );
}

#[tokio::test]
async fn a_statement_gives_its_query_and_its_place_in_the_command_topic() {
    let double = Double::replay(&["101-create-stream", "110-create-stream-as-select"]).await;
    let client = double.client(None);
    let behavior = client.execute(BEHAVIOR, false).await.unwrap();
    assert_eq!((behavior.query_id, behavior.sequence), (None, Some(0)));
    let purchases = client.execute(PURCHASES, true).await.unwrap();
    assert_eq!(purchases.query_id.as_deref(), Some("CSAS_CUSTOMER_PURCHASES_1"));
    assert_eq!((purchases.sequence, purchases.already_existed), (Some(2), false));
    double.asked();
}

#[tokio::test]
async fn the_shapes_of_the_default_statements_are_taken_by_a_real_server() {
    let double = Double::replay(&[
        "958-defaults-source-keyed",
        "959-defaults-purchases-from-keyed",
        "953-defaults-popularity",
        "966-sink-on-existing-topic-retention-said",
        "967-table-sink-on-existing-topic",
    ])
    .await;
    let client = double.client(None);
    let keyed = "CREATE STREAM behavior_keyed (customer_key VARCHAR KEY, customer_id VARCHAR, product_id VARCHAR, \
                 event_type VARCHAR) WITH (kafka_topic='customer_behavior', key_format='KAFKA', value_format='JSON');";
    assert_eq!(client.execute(keyed, false).await.unwrap().query_id, None);
    for sql in [
        "CREATE STREAM purchases_keyed WITH (kafka_topic='purchases_keyed', value_format='JSON') AS SELECT \
         customer_key, customer_id AS `customer_id`, product_id AS `product_id` FROM behavior_keyed WHERE event_type \
         = 'purchase' EMIT CHANGES;",
        "CREATE TABLE product_popularity_hourly WITH (kafka_topic='product_popularity_hourly', value_format='JSON') \
         AS SELECT product_id, COUNT(*) AS events, SUM(CASE WHEN event_type='purchase' THEN 1 ELSE 0 END) AS \
         purchases FROM customer_behavior WINDOW TUMBLING (SIZE 1 HOUR) GROUP BY product_id EMIT CHANGES;",
        "CREATE STREAM onto_existing3 WITH (kafka_topic='premade3', value_format='JSON', partitions=3, replicas=1, \
         retention_ms=-1) AS SELECT customer_key, product_id AS `product_id` FROM behavior_keyed EMIT CHANGES;",
        "CREATE TABLE totals_existing WITH (kafka_topic='premade_compact', value_format='JSON', partitions=3, \
         replicas=1) AS SELECT product_id, COUNT(*) AS `events` FROM behavior_keyed GROUP BY product_id EMIT CHANGES;",
    ] {
        assert!(
            client.execute(sql, true).await.unwrap().query_id.is_some(),
            "{sql}"
        );
    }
    double.asked();
}

#[tokio::test]
async fn a_name_that_exists_with_another_definition_is_a_warning_only() {
    let double = Double::replay(&["104-create-stream-if-not-exists-differs"]).await;
    let sql = "CREATE STREAM IF NOT EXISTS customer_behavior (customer_id VARCHAR KEY, other INT) WITH \
               (kafka_topic='customer_behavior', value_format='JSON');";
    let applied = double.client(None).execute(sql, false).await.unwrap();
    assert!(applied.already_existed && applied.sequence.is_none());
}

#[tokio::test]
async fn refusals_carry_the_servers_message_whatever_their_code() {
    let (code, message) = rejected("300-syntax-error", "CREATE STRAEM x (a INT);", false).await;
    assert_eq!(code, 40001);
    assert!(message.contains("Syntax error at or near 'STRAEM'"), "{message}");
    let sql = "CREATE STREAM onto_existing WITH (kafka_topic='premade3', value_format='JSON') AS SELECT \
               customer_key, product_id AS `product_id` FROM behavior_keyed EMIT CHANGES;";
    let (code, message) = rejected("961-sink-on-existing-topic-same-shape", sql, true).await;
    assert_eq!(code, 50000, "a user's error, in spite of its code");
    assert!(
        message.contains("different partition/replica/retention"),
        "{message}"
    );
    assert_eq!(
        rejected("102-create-stream-again", BEHAVIOR, false).await.0,
        40001
    );
}

#[tokio::test]
async fn a_command_topic_that_cannot_be_written_is_retried_and_not_refused() {
    let sql = "CREATE STREAM kd (a INT) WITH (kafka_topic='kd', value_format='JSON', partitions=1);";
    let double = Double::replay(&["721-create-kafka-back"]).await;
    let error = double.client(None).execute(sql, false).await.unwrap_err();
    assert!(matches!(error, KsqlError::Unreachable { .. }), "{error:?}");
    let double = Double::replay(&["715-drop-kafka-down"]).await;
    let error = double
        .client(None)
        .execute("DROP STREAM IF EXISTS kd;", false)
        .await
        .unwrap_err();
    assert!(matches!(error, KsqlError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_starts_is_unreachable_and_so_is_one_that_is_not_there() {
    let double = Double::replay(&["0008-start-ksql-503"]).await;
    let error = double.client(None).listing().await.unwrap_err();
    assert!(
        matches!(&error, KsqlError::Unreachable { message, .. } if message.contains("not yet ready")),
        "{error:?}"
    );
    let nowhere = KsqlClient::new(reqwest::Client::new(), "http://127.0.0.1:1/", None);
    let error = nowhere.listing().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "ksqlDB at http://127.0.0.1:1 cannot be used now: it cannot be connected to"
    );
}

#[tokio::test]
async fn credentials_are_sent_and_their_refusal_is_told_apart() {
    let double = Double::replay(&["806-auth-ok-ksql", "804-auth-none-ksql"]).await;
    let error = double.client(None).listing().await.unwrap_err();
    assert!(matches!(error, KsqlError::Unauthorized { .. }), "{error:?}");
    // The recording has the streams only; the client gets as far as its next question.
    let error = double
        .client(Some(("operator", "op-pass")))
        .listing()
        .await
        .unwrap_err();
    assert!(matches!(error, KsqlError::Unreachable { .. }), "{error:?}");
}
