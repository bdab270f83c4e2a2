//! Each recorded refusal and what the operator makes of it: the code alone does not tell.

use recommendation_api::conditions::reasons;
use recommendation_operator::apply::record::AppliedRecord;
use recommendation_operator::apply::statements::{self, StatementsOutcome};
use recommendation_operator::ksqldb::{KsqlError, Listing};
use serde_json::Value;

use crate::double::Double;
use crate::upgrade::{POLICY, planned, recorded};

/// The request of a recording: its text, and whether it reads from the beginning.
pub fn request(name: &str) -> (String, bool) {
    let path = format!(
        "{}/tests/ksqldb/recordings/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let recording: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let body = &recording["request"]["body"];
    let earliest = body["streamsProperties"]["auto.offset.reset"] == "earliest";
    (body["ksql"].as_str().unwrap().to_owned(), earliest)
}

/// Sends what a recording sent.
async fn error(name: &str) -> KsqlError {
    let double = Double::replay(&[name]).await;
    let (sql, earliest) = request(name);
    let error = double.client(None).execute(&sql, earliest).await.unwrap_err();
    double.asked();
    error
}

#[tokio::test]
async fn what_a_user_wrote_wrongly_is_rejected_whether_it_is_40001_50000_or_42801() {
    for name in [
        "301-syntax-error-second-of-two",
        "302-semantic-error-second-of-two",
        "309-unknown-column",
        "310-unknown-function",
        "311-type-mismatch",
        "316-avro-without-sr",
        "317-partitions-differ",
        "318-replicas-too-many",
        "766-source-topic-deleted-csas",
        "962-sink-on-existing-topic-other-partitions",
        "542-insert-into-again",
        "403-drop-absent",
        "404-drop-wrong-kind",
        "405-drop-if-exists-wrong-kind",
        "406-terminate-unknown",
        "412-terminate-again",
    ] {
        let error = error(name).await;
        assert!(matches!(error, KsqlError::Rejected { .. }), "{name}: {error:?}");
        assert!(!error.is_passing(), "{name}");
    }
}

#[tokio::test]
async fn what_passes_by_itself_is_never_a_refusal() {
    for name in [
        "725-create-after-recovery",
        "903-ddl-while-blocked",
        "782-after-cluster-terminate-ksql",
    ] {
        let error = error(name).await;
        assert!(error.is_passing(), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_upgraded_is_told_from_what_is_wrong() {
    for name in [
        "503-or-replace-change-type",
        "504-or-replace-change-topic",
        "505-or-replace-change-format",
        "506-or-replace-change-kind",
        "514-or-replace-csas-drop-column",
        "515-or-replace-csas-reorder",
        "517-or-replace-csas-partitions",
        "518-or-replace-ctas-aggregate",
        "521-or-replace-ctas-window",
        "601-replace-source",
        "622-or-replace-csas-source",
        "625-or-replace-ctas-group-by",
        "626-or-replace-ctas-having",
    ] {
        let error = error(name).await;
        assert!(error.is_not_upgradeable(), "{name}: {error:?}");
    }
    assert!(!error("309-unknown-column").await.is_not_upgradeable());
}

#[tokio::test]
async fn what_is_still_used_is_told_as_such_when_it_is_dropped() {
    for name in [
        "400-drop-source-still-read",
        "401-drop-sink-still-read",
        "546-drop-sink-of-inserts",
        "770-drop-cascade-wrong-order",
    ] {
        assert!(error(name).await.is_still_used(), "{name}");
    }
    assert!(
        error("602-two-streams-one-topic-drop-delete")
            .await
            .is_shared_topic()
    );
}

async fn outcome(name: &str, known: &AppliedRecord, listing: &Listing) -> StatementsOutcome {
    let double = Double::replay(&[name]).await;
    let (sql, earliest) = request(name);
    let plan = planned(&[&sql], known, listing);
    let policy = statements::Policy { earliest, ..POLICY };
    let outcome = statements::apply(&double.client(None), &plan, &[], policy, known, listing).await;
    double.asked();
    outcome
}

#[tokio::test]
async fn each_refusal_has_its_reason() {
    let (none, empty) = (AppliedRecord::default(), Listing::default());
    let rejected = outcome("310-unknown-function", &none, &empty)
        .await
        .refusal
        .unwrap();
    assert_eq!(rejected.reason, reasons::STATEMENT_REJECTED);
    assert!(rejected.message.contains("NOPE"), "{}", rejected.message);

    let taken = outcome("112-create-stream-as-select-if-not-exists", &none, &empty).await;
    assert_eq!(taken.refusal.unwrap().reason, reasons::STATEMENT_CONFLICT);
    assert_eq!(taken.withdrawn, ["CUSTOMER_PURCHASES"]);
    let other_kind = outcome("105-create-table-same-name-if-not-exists", &none, &empty).await;
    assert_eq!(other_kind.refusal.unwrap().reason, reasons::STATEMENT_CONFLICT);

    let blocked = outcome("903-ddl-while-blocked", &none, &empty).await;
    assert!(blocked.refusal.is_none() && blocked.unreachable.is_some());

    // The text was another one before.
    let mut known = recorded(&[&request("518-or-replace-ctas-aggregate").0]);
    known
        .statements
        .values_mut()
        .for_each(|record| record.hash = "before".to_owned());
    let double = Double::replay(&["120-show-streams", "122-list-tables", "125-list-queries"]).await;
    let listing = double.client(None).listing().await.unwrap();
    double.asked();
    let refused = outcome("518-or-replace-ctas-aggregate", &known, &listing).await;
    assert_eq!(refused.refusal.unwrap().reason, reasons::UPGRADE_NOT_SUPPORTED);
}

#[tokio::test]
async fn refused_credentials_are_an_authorization_failure_and_say_what_to_check() {
    let double = Double::replay(&["807-auth-no-role-ksql"]).await;
    let client = double.client(Some(("viewer", "view-pass")));
    let error = client.listing().await.unwrap_err();
    double.asked();
    let refusal = StatementsOutcome::unusable(&error).refusal.unwrap();
    assert_eq!(refusal.reason, reasons::AUTHORIZATION_FAILED);
    assert!(
        refusal.message.contains("spec.ksqldb.authentication"),
        "{}",
        refusal.message
    );
}
