//! What a server says of itself, and how far it is to be believed: sequence numbers, queries, servers that are away.

use recommendation_operator::apply::record::AppliedRecord;
use recommendation_operator::ksqldb::{KsqlError, Listing};

use crate::double::Double;
use crate::upgrade::planned;

async fn listing(names: &[&str]) -> Listing {
    let double = Double::replay(names).await;
    let listing = double.client(None).listing().await.unwrap();
    double.asked();
    listing
}

#[tokio::test]
async fn a_listing_waits_for_what_was_sent_before_and_a_server_that_began_anew_is_not_waited_for() {
    // SEQ_S has number 56: the recorded server had executed it.
    let double = Double::replay(&["581-with-known-seq", "122-list-tables", "125-list-queries"]).await;
    let mut record = AppliedRecord::default();
    record.statements.entry("SEQ_S".to_owned()).or_default().sequence = Some(56);
    let listing = double.client(None).listing_for(&record.statements).await.unwrap();
    assert!(listing.sources.contains_key("SEQ_S"));
    double.asked();

    let names = [
        "582-with-future-seq",
        "603-show-streams",
        "122-list-tables",
        "125-list-queries",
    ];
    let double = Double::replay(&names).await;
    record.statements.entry("SEQ_S".to_owned()).or_default().sequence = Some(1056);
    let error = double
        .client(None)
        .listing_for(&record.statements)
        .await
        .unwrap_err();
    assert!(matches!(error, KsqlError::Behind { .. }), "{error:?}");
    double.asked();
    let double = Double::replay(&names).await;
    let mut anew = AppliedRecord::default();
    anew.statements.entry("LOST".to_owned()).or_default().sequence = Some(1056);
    let listing = double.client(None).listing_for(&anew.statements).await.unwrap();
    assert!(!listing.sources.contains_key("LOST"));
    double.asked();
}

#[tokio::test]
async fn two_servers_behind_one_address_are_one_and_an_unresponsive_one_is_seen() {
    let both = listing(&[
        "120-show-streams",
        "122-list-tables",
        "735-cluster-list-queries-a",
    ])
    .await;
    assert_eq!(
        both.writer("TWO_NODES_COPY").unwrap().effective_state(),
        "RUNNING"
    );
    let dead = listing(&[
        "120-show-streams",
        "122-list-tables",
        "739-after-b-killed-list-queries",
    ])
    .await;
    assert_eq!(
        dead.writer("TWO_NODES_COPY").unwrap().effective_state(),
        "UNRESPONSIVE"
    );
}

#[tokio::test]
async fn with_kafka_away_what_is_applied_is_still_seen() {
    let listed = listing(&[
        "711-show-streams-kafka-down",
        "122-list-tables",
        "712-list-queries-kafka-down",
    ])
    .await;
    assert!(listed.sources.contains_key("CUSTOMER_BEHAVIOR"));
    assert!(listed.writer("PURCHASES_PER_CUSTOMER").is_some());
}

#[tokio::test]
async fn a_running_query_proves_nothing_about_its_source_topic() {
    // Its topic was deleted 40 s before: the server says RUNNING all the same.
    let listed = listing(&[
        "120-show-streams",
        "122-list-tables",
        "762-source-topic-deleted-list-queries",
    ])
    .await;
    assert_eq!(listed.writer("DOOMED_COPY").unwrap().effective_state(), "RUNNING");
}

#[tokio::test]
async fn synthetic_an_answer_without_end_is_not_read_to_its_end() {
    let endless = |_: &str, text: String| format!("{}{}", text, " ".repeat(17 * 1024 * 1024));
    let double = Double::replay_changed(&["120-show-streams"], endless).await;
    let error = double.client(None).listing().await.unwrap_err();
    assert!(matches!(error, KsqlError::Protocol { .. }), "{error:?}");
    double.asked();
}

#[tokio::test]
async fn a_quoted_name_keeps_its_case_and_a_lost_command_is_told() {
    let text =
        "CREATE STREAM `lower_case` (`a` INT) WITH (kafka_topic='lc', value_format='JSON', partitions=1);";
    let double = Double::replay(&["595-case-quoted"]).await;
    let plan = planned(&[text], &AppliedRecord::default(), &Listing::default());
    assert_eq!(plan[0].source, "lower_case");
    double.client(None).execute(text, false).await.unwrap();
    double.asked();
    let double = Double::replay(&["592-status-one-unknown"]).await;
    let error = double
        .client(None)
        .outcome("stream/`NOPE`/create", 7)
        .await
        .unwrap_err();
    assert!(
        matches!(error, KsqlError::Rejected { code: 40400, .. }),
        "{error:?}"
    );
    double.asked();
}
