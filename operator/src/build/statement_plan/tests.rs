use super::*;
use crate::fixtures::validated;
use crate::ksqldb::{Query, Source, SourceKind};
use crate::validate::ValidatedPipeline;

const DEFAULTS: &str =
    "{kafka: {bootstrapServers: ['k:1']}, namePrefix: a., ksqldb: {endpoint: 'http://q:1'}}";
const SIMPLEST: &str = "
kafka: {bootstrapServers: ['k:1']}
ksqldb:
  endpoint: http://q:1
  statements:
  - name: customer-behavior
    sql: CREATE STREAM customer_behavior (customer_id VARCHAR, product_id VARCHAR, event_type VARCHAR) WITH (kafka_topic='customer_behavior', value_format='json');
  - name: customer-purchases
    sql: CREATE STREAM customer_purchases AS SELECT customer_id, product_id FROM customer_behavior WHERE event_type = 'purchase';
";

fn live(valid: &ValidatedPipeline) -> BTreeMap<String, LiveTopic> {
    let topic = |name: &String| {
        let config = BTreeMap::from([("retention.ms".to_owned(), "7776000000".to_owned())]);
        (
            name.clone(),
            LiveTopic {
                partitions: 12,
                replication_factor: 3,
                config: config.into(),
                ..LiveTopic::default()
            },
        )
    };
    valid.topics.iter().map(|t| topic(&t.name)).collect()
}

fn planned(spec: &str, record: &AppliedRecord, listing: &Listing) -> Vec<StatementStep> {
    let valid = validated(spec);
    plan(
        valid.ksqldb.as_ref().unwrap(),
        &valid.topics,
        &live(&valid),
        record,
        listing,
    )
}

/// Everything of the simplest form applied, its query in this state; `None`: no query.
fn applied(state: Option<&str>) -> (AppliedRecord, Listing) {
    let steps = planned(SIMPLEST, &AppliedRecord::default(), &Listing::default());
    let record = AppliedRecord {
        statements: steps
            .iter()
            .map(|step| (step.source.clone(), pending(step, 0)))
            .collect(),
        ..AppliedRecord::default()
    };
    let source = |name: &str| {
        let source = Source {
            kind: SourceKind::Stream,
            name: name.to_owned(),
            topic: name.to_owned(),
        };
        (name.to_owned(), source)
    };
    let query = state.map(|state| Query {
        id: "CSAS_CUSTOMER_PURCHASES_1".into(),
        sinks: vec!["CUSTOMER_PURCHASES".into()],
        query_type: "PERSISTENT".into(),
        state: Some("RUNNING".into()),
        status_count: [(state.to_owned(), 1)].into(),
    });
    let sources = [source("CUSTOMER_BEHAVIOR"), source("CUSTOMER_PURCHASES")].into();
    (
        record,
        Listing {
            sources,
            queries: query.into_iter().collect(),
        },
    )
}

#[test]
fn the_default_statements_name_their_topics_shapes_and_prefix() {
    let steps = planned(DEFAULTS, &AppliedRecord::default(), &Listing::default());
    let texts: Vec<String> = steps
        .iter()
        .map(|step| match &step.action {
            StatementAction::Create(sql) => sql.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    insta::assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn the_simplest_form_is_sent_verbatim() {
    let steps = planned(SIMPLEST, &AppliedRecord::default(), &Listing::default());
    assert_eq!(
        steps[1].action,
        StatementAction::Create(
            "CREATE STREAM customer_purchases AS SELECT customer_id, product_id FROM customer_behavior WHERE \
             event_type = 'purchase';"
                .into()
        )
    );
    assert_eq!((steps[0].query, steps[1].query), (false, true));
}

#[test]
fn what_was_applied_is_left_with_its_query() {
    let (record, listing) = applied(Some("RUNNING"));
    let steps = planned(SIMPLEST, &record, &listing);
    assert_eq!(steps[0].action, StatementAction::Leave(None));
    let query = ("CSAS_CUSTOMER_PURCHASES_1".to_owned(), "RUNNING".to_owned());
    assert_eq!(steps[1].action, StatementAction::Leave(Some(query)));
}

#[test]
fn a_changed_statement_is_replaced() {
    let (record, listing) = applied(Some("RUNNING"));
    let steps = planned(&SIMPLEST.replace("'purchase'", "'order'"), &record, &listing);
    assert_eq!(steps[0].action, StatementAction::Leave(None));
    assert!(
        matches!(&steps[1].action, StatementAction::Replace(sql) if sql.starts_with("CREATE OR REPLACE STREAM"))
    );
}

#[test]
fn a_stream_that_the_pipeline_did_not_make_is_a_conflict() {
    let (_, listing) = applied(Some("RUNNING"));
    let steps = planned(SIMPLEST, &AppliedRecord::default(), &listing);
    assert!(
        matches!(&steps[0].action, StatementAction::Refuse(r) if r.reason == reasons::STATEMENT_CONFLICT),
        "{steps:?}"
    );
}

#[test]
fn a_dead_or_missing_query_is_told_and_a_paused_one_shown() {
    let (record, listing) = applied(Some("ERROR"));
    let steps = planned(SIMPLEST, &record, &listing);
    assert!(matches!(&steps[1].action, StatementAction::Refuse(r) if r.reason == reasons::QUERY_FAILED));
    let (record, listing) = applied(None);
    let steps = planned(SIMPLEST, &record, &listing);
    assert!(matches!(&steps[1].action, StatementAction::Refuse(r) if r.message.contains("is gone")));
    let (record, listing) = applied(Some("PAUSED"));
    let steps = planned(SIMPLEST, &record, &listing);
    assert!(matches!(&steps[1].action, StatementAction::Leave(Some((_, state))) if state == "PAUSED"));
}

#[test]
fn a_topic_that_grows_does_not_change_the_hash() {
    let valid = validated(DEFAULTS);
    let ksqldb = valid.ksqldb.as_ref().unwrap();
    let mut grown = live(&valid);
    let (record, listing) = (AppliedRecord::default(), Listing::default());
    let before = plan(ksqldb, &valid.topics, &grown, &record, &listing);
    for topic in grown.values_mut() {
        topic.partitions = 24;
    }
    let after = plan(ksqldb, &valid.topics, &grown, &record, &listing);
    assert_ne!(before[1].action, after[1].action);
    assert_eq!(before[1].hash, after[1].hash);
}

#[test]
fn an_unknown_variable_and_an_undeclarative_statement_are_rejected_by_name() {
    let spec = SIMPLEST
        .replace("kafka_topic='customer_behavior'", "kafka_topic='${nope}'")
        .replace(
            "CREATE STREAM customer_purchases AS",
            "INSERT INTO customer_purchases",
        );
    let messages: Vec<String> = planned(&spec, &AppliedRecord::default(), &Listing::default())
        .into_iter()
        .map(|step| match step.action {
            StatementAction::Refuse(refusal) => refusal.message,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        messages[0],
        "statement customer-behavior: variable ${nope} is not defined"
    );
    assert!(messages[1].contains("name its query"), "{messages:?}");
}

#[test]
fn with_kafka_away_what_is_applied_goes_on_and_what_is_new_waits() {
    let valid = validated(DEFAULTS);
    let ksqldb = valid.ksqldb.as_ref().unwrap();
    let away = BTreeMap::new();
    let (nothing, empty) = (AppliedRecord::default(), Listing::default());
    let new = plan(ksqldb, &valid.topics, &away, &nothing, &empty);
    assert!(
        matches!(&new[0].action, StatementAction::Refuse(r) if r.reason == reasons::WAITING_FOR_TOPICS),
        "{new:?}"
    );
    let record = AppliedRecord {
        statements: new
            .iter()
            .map(|step| (step.source.clone(), pending(step, 0)))
            .collect(),
        ..AppliedRecord::default()
    };
    let source = |name: &String| Source {
        kind: SourceKind::Stream,
        name: name.clone(),
        topic: String::new(),
    };
    let query = |name: &String| Query {
        id: format!("Q_{name}"),
        sinks: vec![name.clone()],
        query_type: "PERSISTENT".into(),
        state: Some("RUNNING".into()),
        status_count: BTreeMap::new(),
    };
    let listing = Listing {
        sources: record
            .statements
            .keys()
            .map(|name| (name.clone(), source(name)))
            .collect(),
        queries: record.statements.keys().map(query).collect(),
    };
    let again = plan(ksqldb, &valid.topics, &away, &record, &listing);
    assert!(
        again
            .iter()
            .all(|step| matches!(step.action, StatementAction::Leave(_))),
        "{again:?}"
    );
}
