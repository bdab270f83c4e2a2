//! Plans carried out against the double.

use std::collections::BTreeMap;

use recommendation_api::conditions::reasons;
use recommendation_operator::apply::record::{AppliedRecord, StatementRecord};
use recommendation_operator::apply::statements::{self, Policy, StatementsOutcome};
use recommendation_operator::build::statement_plan::{StatementAction, StatementStep, plan};
use recommendation_operator::ksqldb::{KsqlClient, Listing};
use recommendation_operator::validate::{DesiredKsqldb, DesiredStatement};

use crate::double::Double;

const BEHAVIOR: &str = "CREATE STREAM customer_behavior (customer_id VARCHAR KEY, event_type VARCHAR, product_id \
                        VARCHAR, amount DOUBLE, ts BIGINT) WITH (kafka_topic='customer_behavior', \
                        value_format='JSON', partitions=3);";
const PURCHASES: &str = "CREATE STREAM customer_purchases AS SELECT customer_id, product_id, amount, ts FROM \
                         customer_behavior WHERE event_type='purchase' EMIT CHANGES;";

pub const POLICY: Policy = Policy {
    earliest: true,
    recreate: false,
    delete_topics: false,
};

/// Carries a plan out that removes nothing.
async fn run(client: &KsqlClient, plan: &[StatementStep], known: &AppliedRecord) -> StatementsOutcome {
    statements::apply(client, plan, &[], POLICY, known, &Listing::default()).await
}

pub fn desired(texts: &[&str]) -> DesiredKsqldb {
    let statement = |(i, text): (usize, &&str)| DesiredStatement {
        name: format!("s{i}"),
        path: format!("spec.ksqldb.statements[{i}].sql"),
        template: (*text).to_owned(),
    };
    DesiredKsqldb {
        earliest: true,
        statements: texts.iter().enumerate().map(statement).collect(),
        ..DesiredKsqldb::default()
    }
}

pub fn planned(texts: &[&str], record: &AppliedRecord, listing: &Listing) -> Vec<StatementStep> {
    plan(&desired(texts), &[], &BTreeMap::new(), record, listing)
}

/// A record that says that these were applied.
pub fn recorded(texts: &[&str]) -> AppliedRecord {
    let steps = planned(texts, &AppliedRecord::default(), &Listing::default());
    let record = |step: &StatementStep| StatementRecord {
        statement: step.name.clone(),
        hash: step.hash.clone(),
        applied: true,
        sequence: Some(2),
        ..StatementRecord::default()
    };
    AppliedRecord {
        statements: steps
            .iter()
            .map(|step| (step.source.clone(), record(step)))
            .collect(),
        ..AppliedRecord::default()
    }
}

#[tokio::test]
async fn statements_are_applied_in_order_and_then_left_alone() {
    let double = Double::replay(&[
        "101-create-stream",
        "110-create-stream-as-select",
        "120-show-streams",
        "122-list-tables",
        "125-list-queries",
    ])
    .await;
    let client = double.client(None);
    let texts = [BEHAVIOR, PURCHASES];
    let first = planned(&texts, &AppliedRecord::default(), &Listing::default());
    let outcome = run(&client, &first, &AppliedRecord::default()).await;
    assert!(
        outcome.refusal.is_none() && outcome.unreachable.is_none(),
        "{outcome:?}"
    );
    let record = AppliedRecord {
        statements: outcome.records.iter().cloned().collect(),
        ..AppliedRecord::default()
    };

    let listing = client.listing().await.unwrap();
    let second = planned(&texts, &record, &listing);
    assert!(
        second
            .iter()
            .all(|step| matches!(step.action, StatementAction::Leave(_))),
        "{second:?}"
    );
    let again = run(&client, &second, &record).await;
    assert_eq!(
        again.statements, outcome.statements,
        "status is the same, so nothing is written"
    );
    let topics: Vec<Option<&str>> = again
        .records
        .iter()
        .map(|(_, record)| record.topic.as_deref())
        .collect();
    assert_eq!(
        topics,
        [Some("customer_behavior"), Some("CUSTOMER_PURCHASES")],
        "where the server put them"
    );
    assert_eq!(
        double.asked(),
        [
            BEHAVIOR,
            PURCHASES,
            "SHOW STREAMS;",
            "LIST TABLES;",
            "LIST QUERIES;"
        ]
    );
}

#[tokio::test]
async fn the_first_refusal_stops_what_comes_after_it() {
    let double = Double::replay(&["308-unknown-source"]).await;
    let texts = [
        "CREATE STREAM u AS SELECT * FROM unknown_src EMIT CHANGES;",
        PURCHASES,
    ];
    let steps = planned(&texts, &AppliedRecord::default(), &Listing::default());
    let mut known = AppliedRecord::default();
    known.statements.insert("U".into(), StatementRecord::default());
    let outcome = statements::apply(
        &double.client(None),
        &steps,
        &[],
        Policy {
            earliest: false,
            ..POLICY
        },
        &known,
        &Listing::default(),
    )
    .await;
    let refusal = outcome.refusal.unwrap();
    assert_eq!(refusal.reason, reasons::STATEMENT_REJECTED);
    assert!(
        refusal.message.contains("UNKNOWN_SRC does not exist"),
        "{}",
        refusal.message
    );
    let states: Vec<&str> = outcome.statements.iter().map(|s| s.state.as_str()).collect();
    assert_eq!(states, ["Refused", "Waiting"]);
    assert_eq!(
        outcome.withdrawn,
        ["U"],
        "what was announced and refused is not this pipeline's"
    );
    assert_eq!(double.asked().len(), 1);
}

#[tokio::test]
async fn an_appended_column_is_replaced_in_place_and_a_lost_one_is_not_supported() {
    let listed = ["120-show-streams", "122-list-tables", "125-list-queries"];
    let record = recorded(&[BEHAVIOR]);

    let double = Double::replay(
        &[
            &listed[..],
            &["501-or-replace-add-column", "502-or-replace-drop-column"],
        ]
        .concat(),
    )
    .await;
    let client = double.client(None);
    let listing = client.listing().await.unwrap();
    let more = BEHAVIOR.replace("ts BIGINT)", "ts BIGINT, channel VARCHAR)");
    let outcome = run(&client, &planned(&[&more], &record, &listing), &record).await;
    assert!(outcome.refusal.is_none(), "{outcome:?}");
    assert_eq!(outcome.records[0].1.sequence, Some(30));

    let less = BEHAVIOR.replace(", product_id VARCHAR, amount DOUBLE, ts BIGINT)", ")");
    let outcome = run(&client, &planned(&[&less], &record, &listing), &record).await;
    let refusal = outcome.refusal.unwrap();
    assert_eq!(refusal.reason, reasons::UPGRADE_NOT_SUPPORTED);
    assert!(
        refusal.message.contains("missing or reordered"),
        "{}",
        refusal.message
    );
    assert!(
        outcome.records.is_empty() && outcome.withdrawn.is_empty(),
        "the record keeps what is applied"
    );
    double.asked();
}

#[tokio::test]
async fn a_statement_that_is_accepted_and_not_executed_in_time_is_asked_about_and_not_sent_again() {
    const PASS: &str =
        "CREATE OR REPLACE STREAM cp AS SELECT * FROM cb WHERE event_type='purchase' EMIT CHANGES;";
    let texts = [PASS];
    // The answer is that it is being executed; then the server is gone.
    let double = Double::replay(&["901-or-replace-identical-second"]).await;
    let steps = planned(&texts, &AppliedRecord::default(), &Listing::default());
    let sent = run(&double.client(None), &steps, &AppliedRecord::default()).await;
    assert!(sent.unreachable.is_some() && sent.refusal.is_none(), "{sent:?}");
    let record = AppliedRecord {
        statements: sent.records.iter().cloned().collect(),
        ..AppliedRecord::default()
    };
    assert_eq!(
        record.statements["CP"].command.as_deref(),
        Some("stream/`CP`/create")
    );

    let double = Double::replay(&["906-status-of-second"]).await;
    let steps = planned(&texts, &record, &Listing::default());
    let later = run(&double.client(None), &steps, &record).await;
    assert!(
        later.unreachable.is_none() && later.refusal.is_none(),
        "{later:?}"
    );
    assert_eq!(later.statements[0].query_id.as_deref(), Some("CSAS_CP_1"));
    let (_, done) = &later.records[0];
    assert!(done.applied && done.command.is_none());
    assert_eq!(double.asked(), ["/status/stream/%60CP%60/create"]);
}

#[tokio::test]
async fn what_the_server_allows_is_replaced_in_place_under_the_same_query() {
    let listed = ["120-show-streams", "122-list-tables", "125-list-queries"];
    let counts = "CREATE TABLE purchases_per_customer AS SELECT customer_id, COUNT(*) AS purchase_count, SUM(amount) AS \
                  total FROM customer_purchases GROUP BY customer_id EMIT CHANGES;";
    // A column at the end, another expression of the same type, a WHERE before an aggregate.
    for (recording, before) in [
        ("620-or-replace-csas-add-column", PURCHASES),
        ("621-or-replace-csas-expr", PURCHASES),
        ("624-or-replace-ctas-where", counts),
    ] {
        let double = Double::replay(&[&listed[..], &[recording]].concat()).await;
        let client = double.client(None);
        let listing = client.listing().await.unwrap();
        let record = recorded(&[before]);
        let sql = crate::refusals::request(recording).0;
        let wanted = sql.replace("CREATE OR REPLACE", "CREATE");
        let steps = planned(&[&wanted], &record, &listing);
        assert_eq!(steps[0].action, StatementAction::Replace(sql), "{recording}");
        let outcome = run(&client, &steps, &record).await;
        assert!(outcome.refusal.is_none(), "{recording}: {outcome:?}");
        let query = outcome.statements[0].query_id.as_deref().unwrap();
        let kept = listing.writer(&steps[0].source).unwrap();
        assert_eq!(query, kept.id, "{recording}: offsets stay with the query");
        double.asked();
    }
}

#[tokio::test]
async fn nothing_but_statements_and_their_status_is_ever_asked_for() {
    // From the first look over a statement that takes its time to the last drop.
    let double = Double::replay(&[
        "120-show-streams",
        "122-list-tables",
        "125-list-queries",
        "101-create-stream",
        "901-or-replace-identical-second",
        "416-drop-with-own-query",
    ])
    .await;
    let client = double.client(None);
    let listing = client.listing().await.unwrap();
    let none = AppliedRecord::default();
    let slow = "CREATE OR REPLACE STREAM cp AS SELECT * FROM cb WHERE event_type='purchase' EMIT CHANGES;";
    for text in [BEHAVIOR, slow] {
        run(&client, &planned(&[text], &none, &Listing::default()), &none).await;
    }
    let hopping = "CREATE TABLE purchases_hopping AS SELECT product_id, COUNT(*) AS n FROM customer_purchases GROUP BY product_id;";
    let record = recorded(&[hopping]);
    let drops = recommendation_operator::build::statement_plan::removed(&record, &[], false);
    let gone = statements::apply(&client, &[], &drops, POLICY, &record, &listing).await;
    assert_eq!(gone.removed, ["PURCHASES_HOPPING"]);
    // Neither a health check, which says 200 of a sick server and blocks for a minute, nor a query's own routes, nor what
    // tears down the whole cluster.
    let seen = double.seen();
    assert!(seen.iter().any(|asked| asked.starts_with("/status/")), "{seen:?}");
    for asked in seen.iter().filter(|asked| asked.starts_with('/')) {
        assert!(asked.starts_with("/status/"), "{asked}");
    }
}
