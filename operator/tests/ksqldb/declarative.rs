//! What makes a list of statements declarative: removal, recreation, drift, inserts.

use recommendation_api::conditions::reasons;
use recommendation_operator::apply::record::AppliedRecord;
use recommendation_operator::apply::statements::{self, Policy, StatementsOutcome};
use recommendation_operator::build::statement_plan::{StatementAction, StatementStep, plan, removed};
use recommendation_operator::ksqldb::{KsqlClient, Listing, Source, SourceKind};

use crate::double::Double;
use crate::upgrade::{POLICY, desired, planned, recorded};

const RECREATE: Policy = Policy {
    recreate: true,
    ..POLICY
};
const LISTED: [&str; 3] = ["120-show-streams", "122-list-tables", "125-list-queries"];
const HOPPING: &str = "CREATE TABLE purchases_hopping AS SELECT product_id, COUNT(*) AS n FROM customer_purchases WINDOW \
                       HOPPING (SIZE 1 HOUR, ADVANCE BY 10 MINUTES) GROUP BY product_id EMIT CHANGES;";
const SINK: &str = "CREATE STREAM all_events (customer_id VARCHAR KEY, product_id VARCHAR) WITH \
                    (kafka_topic='all_events', value_format='JSON', partitions=3);";
const INSERT: &str = "INSERT INTO all_events WITH (QUERY_ID='my_insert') SELECT customer_id, product_id FROM \
                      customer_purchases EMIT CHANGES;";

async fn listing(names: &[&str]) -> Listing {
    let double = Double::replay(names).await;
    let listing = double.client(None).listing().await.unwrap();
    double.asked();
    listing
}

fn source(kind: SourceKind, name: &str) -> (String, Source) {
    let source = Source {
        kind,
        name: name.to_owned(),
        topic: name.to_owned(),
    };
    (name.to_owned(), source)
}

/// A plan under `upgradePolicy: Recreate`.
fn recreating(texts: &[&str], record: &AppliedRecord, listing: &Listing) -> Vec<StatementStep> {
    let mut wanted = desired(texts);
    wanted.recreate = true;
    plan(&wanted, &[], &Default::default(), record, listing)
}

async fn remove(
    client: &KsqlClient,
    record: &AppliedRecord,
    listing: &Listing,
    delete_topics: bool,
) -> StatementsOutcome {
    let drops = removed(record, &[], delete_topics);
    statements::apply(client, &[], &drops, POLICY, record, listing).await
}

/// The same record of a text that was another one.
fn outdated(texts: &[&str]) -> AppliedRecord {
    let mut record = recorded(texts);
    for statement in record.statements.values_mut() {
        statement.hash = "before".to_owned();
    }
    record
}

#[tokio::test]
async fn what_is_no_longer_declared_is_dropped_and_only_what_this_pipeline_made() {
    let double = Double::replay(&["416-drop-with-own-query"]).await;
    let listing = listing(&LISTED).await;
    let mut record = recorded(&[HOPPING]);
    record
        .statements
        .insert("GONE_ALREADY".to_owned(), Default::default());
    let outcome = remove(&double.client(None), &record, &listing, false).await;
    assert!(outcome.refusal.is_none(), "{outcome:?}");
    let mut gone = outcome.removed;
    gone.sort();
    assert_eq!(gone, ["GONE_ALREADY", "PURCHASES_HOPPING"]);
    assert_eq!(
        double.asked(),
        ["DROP TABLE purchases_hopping;"],
        "nothing else of the server is touched"
    );
}

#[test]
fn removal_goes_in_the_reverse_order_and_waits_for_texts_that_can_be_read() {
    let texts = [
        "CREATE STREAM z (a INT) WITH (kafka_topic='t', value_format='JSON');",
        "CREATE STREAM y AS SELECT a FROM z;",
        "CREATE TABLE x AS SELECT a, COUNT(*) AS n FROM y GROUP BY a;",
    ];
    let mut record = recorded(&texts);
    for (position, key) in (0_u32..).zip(["Z", "Y", "X"]) {
        record.statements.get_mut(key).unwrap().position = position;
    }
    let keys = |plan: &[StatementStep]| -> Vec<String> {
        let drops = removed(&record, plan, false);
        drops.into_iter().map(|drop| drop.key).collect()
    };
    assert_eq!(keys(&[]), ["X", "Y", "Z"]);
    let first = planned(&texts[..1], &record, &Listing::default());
    assert_eq!(keys(&first), ["X", "Y"]);
    let unreadable = planned(&["CREATE STREAM ${nope} (a INT);"], &record, &Listing::default());
    assert_eq!(keys(&unreadable), Vec::<String>::new());
}

#[tokio::test]
async fn what_somebody_elses_query_reads_stays_and_is_reported() {
    let double = Double::replay(&["401-drop-sink-still-read"]).await;
    let listing = listing(&LISTED).await;
    let purchases = "CREATE STREAM customer_purchases AS SELECT customer_id FROM customer_behavior;";
    let outcome = remove(&double.client(None), &recorded(&[purchases]), &listing, false).await;
    let refusal = outcome.refusal.unwrap();
    assert_eq!(refusal.reason, reasons::STATEMENT_REJECTED);
    assert!(
        refusal.message.contains("PURCHASES_PER_CUSTOMER"),
        "{}",
        refusal.message
    );
    assert!(outcome.removed.is_empty(), "the record keeps what is there");
    double.asked();
}

#[tokio::test]
async fn a_topic_that_ksqldb_made_goes_with_deletion_policy_delete_and_is_reported_otherwise() {
    let double = Double::replay(&["548-drop-source-of-insert"]).await;
    let big =
        "CREATE STREAM big_purchases AS SELECT * FROM customer_purchases WHERE amount > 100 EMIT CHANGES;";
    let mut record = recorded(&[big]);
    let entry = record.statements.get_mut("BIG_PURCHASES").unwrap();
    entry.made_topic = true;
    entry.topic = Some("BIG_PURCHASES".to_owned());
    let listed = Listing {
        sources: [source(SourceKind::Stream, "BIG_PURCHASES")].into(),
        ..Listing::default()
    };
    let outcome = remove(&double.client(None), &record, &listed, true).await;
    assert_eq!(outcome.removed, ["BIG_PURCHASES"]);
    assert!(outcome.warnings.is_empty());
    assert_eq!(double.asked(), ["DROP STREAM big_purchases DELETE TOPIC;"]);

    let double = Double::replay(&["416-drop-with-own-query"]).await;
    let mut record = recorded(&[HOPPING]);
    let entry = record.statements.get_mut("PURCHASES_HOPPING").unwrap();
    entry.made_topic = true;
    entry.topic = Some("PURCHASES_HOPPING".to_owned());
    let listing = listing(&LISTED).await;
    let outcome = remove(&double.client(None), &record, &listing, false).await;
    double.asked();
    assert_eq!(outcome.warnings[0].reason, "TopicKept");
    assert!(outcome.warnings[0].message.contains("PURCHASES_HOPPING"));
}

#[tokio::test]
async fn recreation_drops_and_makes_again_on_the_topic_that_is_left() {
    let double = Double::replay(&["416-drop-with-own-query", "419-recreate-table-on-left-over-topic"]).await;
    let listing = listing(&LISTED).await;
    let record = outdated(&[HOPPING]);
    let mut plan = recreating(&[HOPPING], &record, &listing);
    plan[0].action = StatementAction::Recreate;
    let client = double.client(None);
    let outcome = statements::apply(&client, &plan, &[], RECREATE, &record, &listing).await;
    assert!(outcome.refusal.is_none(), "{outcome:?}");
    assert_eq!(outcome.statements[0].state, "RUNNING");
    assert_eq!(outcome.records[0].1.sequence, Some(26));
    let warning = &outcome.warnings[0];
    assert_eq!(warning.reason, "StatementRecreated");
    assert!(
        warning.message.contains("everything once more"),
        "{}",
        warning.message
    );
    assert_eq!(double.asked(), ["DROP TABLE purchases_hopping;", HOPPING]);
}

#[tokio::test]
async fn recreation_of_what_somebody_else_reads_is_refused_with_the_readers_names() {
    let double = Double::replay(&["502-or-replace-drop-column", "400-drop-source-still-read"]).await;
    let text = "CREATE STREAM customer_behavior (customer_id VARCHAR KEY, event_type VARCHAR) WITH \
                (kafka_topic='customer_behavior', value_format='JSON', partitions=3);";
    let listing = listing(&LISTED).await;
    let record = outdated(&[text]);
    let plan = recreating(&[text], &record, &listing);
    let client = double.client(None);
    let outcome = statements::apply(&client, &plan, &[], RECREATE, &record, &listing).await;
    let refusal = outcome.refusal.unwrap();
    assert_eq!(refusal.reason, reasons::UPGRADE_NOT_SUPPORTED);
    assert!(refusal.message.contains("SESSIONS"), "{}", refusal.message);
    assert!(outcome.records.is_empty());
    double.asked();
}

#[tokio::test]
async fn an_insert_is_sent_once_known_by_its_id_and_replaced_by_recreation_only() {
    let double = Double::replay(&["540-create-sink", "541-insert-into-query-id"]).await;
    let texts = [SINK, INSERT];
    let none = AppliedRecord::default();
    let plan = planned(&texts, &none, &Listing::default());
    let client = double.client(None);
    let outcome = statements::apply(&client, &plan, &[], POLICY, &none, &Listing::default()).await;
    assert_eq!(outcome.statements[1].query_id.as_deref(), Some("MY_INSERT"));
    double.asked();

    let listed = listing(&[
        "581-with-known-seq",
        "120-show-streams",
        "122-list-tables",
        "545-list-queries",
    ])
    .await;
    let record = recorded(&[INSERT]);
    let leave = planned(&[INSERT], &record, &listed);
    assert!(
        matches!(&leave[0].action, StatementAction::Leave(Some((id, _))) if id == "MY_INSERT"),
        "{leave:?}"
    );
    let strange = planned(&[INSERT], &none, &listed);
    assert!(
        matches!(&strange[0].action, StatementAction::Refuse(r) if r.reason == reasons::STATEMENT_CONFLICT)
    );

    let before = outdated(&[INSERT]);
    let in_place = planned(&[INSERT], &before, &listed);
    assert!(
        matches!(&in_place[0].action, StatementAction::Refuse(r) if r.reason == reasons::UPGRADE_NOT_SUPPORTED)
    );
    let double = Double::replay(&["547-terminate-insert", "541-insert-into-query-id"]).await;
    let mut before = before;
    before.statements.get_mut("MY_INSERT").unwrap().insert = true;
    let plan = recreating(&[INSERT], &before, &listed);
    let client = double.client(None);
    let outcome = statements::apply(&client, &plan, &[], RECREATE, &before, &listed).await;
    assert!(outcome.refusal.is_none(), "{outcome:?}");
    assert_eq!(double.asked(), ["TERMINATE my_insert;", INSERT]);
}

#[tokio::test]
async fn a_query_that_somebody_ended_is_reported_or_brought_back_where_the_policy_allows_reading_again() {
    let text = "CREATE TABLE purchases_per_customer AS SELECT customer_id, COUNT(*) AS purchase_count, SUM(amount) AS \
                total FROM customer_purchases GROUP BY customer_id EMIT CHANGES;";
    let listed = listing(&["120-show-streams", "122-list-tables", "642-list-queries"]).await;
    assert!(listed.writer("PURCHASES_PER_CUSTOMER").is_none());
    let record = recorded(&[text]);
    let reported = planned(&[text], &record, &listed);
    let StatementAction::Refuse(refusal) = &reported[0].action else {
        panic!("{reported:?}");
    };
    assert_eq!(refusal.reason, reasons::QUERY_FAILED);
    assert!(
        refusal.message.contains("upgradePolicy Recreate"),
        "{}",
        refusal.message
    );

    let double = Double::replay(&["644-or-replace-table-after-terminate"]).await;
    let plan = recreating(&[text], &record, &listed);
    let client = double.client(None);
    let outcome = statements::apply(&client, &plan, &[], RECREATE, &record, &listed).await;
    assert_eq!(
        outcome.statements[0].query_id.as_deref(),
        Some("CTAS_PURCHASES_PER_CUSTOMER_99")
    );
    double.asked();
}

#[tokio::test]
async fn a_stream_that_somebody_dropped_is_made_again() {
    let record = recorded(&[HOPPING]);
    let mut listed = listing(&LISTED).await;
    listed.sources.remove("PURCHASES_HOPPING");
    let plan = planned(&[HOPPING], &record, &listed);
    assert_eq!(plan[0].action, StatementAction::Create(HOPPING.to_owned()));
}

#[tokio::test]
async fn synthetic_a_query_in_state_error_is_reported() {
    let change = |name: &str, text: String| {
        if name == "125-list-queries" {
            text.replace("\"statusCount\":{\"RUNNING\":1}", "\"statusCount\":{\"ERROR\":1}")
                .replace("\"state\":\"RUNNING\"", "\"state\":\"ERROR\"")
        } else {
            text
        }
    };
    let double = Double::replay_changed(&LISTED, change).await;
    let listed = double.client(None).listing().await.unwrap();
    double.asked();
    let plan = planned(&[HOPPING], &recorded(&[HOPPING]), &listed);
    let StatementAction::Refuse(refusal) = &plan[0].action else {
        panic!("{plan:?}");
    };
    assert_eq!(refusal.reason, reasons::QUERY_FAILED);
    assert!(
        refusal.message.contains("is in state ERROR"),
        "{}",
        refusal.message
    );
}

#[tokio::test]
async fn select_star_is_issued_again_after_what_it_reads_was_changed() {
    let star =
        "CREATE STREAM big_purchases AS SELECT * FROM customer_purchases WHERE amount > 100 EMIT CHANGES;";
    let upstream = |columns: &str| {
        format!("CREATE STREAM customer_purchases AS SELECT {columns} FROM customer_behavior EMIT CHANGES;")
    };
    let (before, after) = (upstream("a"), upstream("a, b"));
    let record = recorded(&[&before, star]);
    let listed = Listing {
        sources: [
            source(SourceKind::Stream, "CUSTOMER_PURCHASES"),
            source(SourceKind::Stream, "BIG_PURCHASES"),
        ]
        .into(),
        ..Listing::default()
    };
    let plan = planned(&[&after, star], &record, &listed);
    let StatementAction::Replace(sql) = &plan[1].action else {
        panic!("{plan:?}");
    };
    let double = Double::replay(&["523-or-replace-select-star-after-upstream"]).await;
    double.client(None).execute(sql, true).await.unwrap();
    double.asked();
    let named = star.replace('*', "a");
    let record = recorded(&[&before, &named]);
    let plan = planned(&[&after, &named], &record, &listed);
    assert!(!matches!(plan[1].action, StatementAction::Replace(_)), "{plan:?}");
}

#[test]
fn statements_come_after_what_they_need_whatever_the_order_of_their_names() {
    let texts = [
        "CREATE TABLE c AS SELECT k, COUNT(*) AS n FROM b GROUP BY k;",
        "CREATE STREAM b AS SELECT k FROM a;",
        "CREATE STREAM a (k INT) WITH (kafka_topic='t', value_format='JSON');",
        "INSERT INTO b WITH (QUERY_ID='i') SELECT k FROM a;",
    ];
    let plan = planned(&texts, &AppliedRecord::default(), &Listing::default());
    let order: Vec<&str> = plan.iter().map(|step| step.source.as_str()).collect();
    assert_eq!(order, ["A", "B", "C", "I"]);
    let circle = [
        "CREATE STREAM a AS SELECT k FROM b;",
        "CREATE STREAM b AS SELECT k FROM a;",
    ];
    assert_eq!(
        planned(&circle, &AppliedRecord::default(), &Listing::default()).len(),
        2
    );
}
