use super::*;
const BEHAVIOR: &str = "CREATE STREAM customer_behavior (customer_id VARCHAR, product_id VARCHAR, event_type \
                        VARCHAR) WITH (kafka_topic='customer_behavior', value_format='json');";
const PURCHASES: &str = "CREATE STREAM customer_purchases AS SELECT customer_id, product_id FROM \
                         customer_behavior WHERE event_type = 'purchase';";

#[test]
fn the_simplest_form_is_read_verbatim() {
    let statements = split(&format!("{BEHAVIOR}\n{PURCHASES}\n")).unwrap();
    assert_eq!(statements, [BEHAVIOR, PURCHASES]);
    let behavior = parse(BEHAVIOR).unwrap();
    assert_eq!(
        (behavior.kind, behavior.source.as_str(), behavior.query),
        (Kind::Source(SourceKind::Stream), "CUSTOMER_BEHAVIOR", false)
    );
    let purchases = parse(PURCHASES).unwrap();
    assert_eq!(
        (purchases.source.as_str(), purchases.query),
        ("CUSTOMER_PURCHASES", true)
    );
}

#[test]
fn semicolons_in_strings_names_and_comments_do_not_split() {
    let text = "-- one; two\nCREATE STREAM a (x INT) WITH (kafka_topic='a;b'); /* ; */ CREATE TABLE `b;c` AS SELECT 1";
    let statements = split(text).unwrap();
    assert_eq!(statements.len(), 2, "{statements:?}");
    assert!(statements[0].ends_with("'a;b');"));
    assert_eq!(statements[1], "CREATE TABLE `b;c` AS SELECT 1;");
    assert_eq!(split(";;  -- nothing\n;").unwrap(), Vec::<String>::new());
}

#[test]
fn quoted_names_keep_their_case_and_others_become_upper_case() {
    assert_eq!(
        parse("create table `lower` AS SELECT 1;").unwrap().source,
        "lower"
    );
    assert_eq!(
        parse("create source stream Mixed_1 (a INT) WITH ();")
            .unwrap()
            .source,
        "MIXED_1"
    );
    assert_eq!(
        parse("CREATE STREAM IF NOT EXISTS x (a INT);").unwrap().source,
        "X"
    );
}

#[test]
fn a_replacement_drops_if_not_exists_and_keeps_the_rest() {
    assert_eq!(
        parse("CREATE STREAM IF NOT EXISTS x (a INT) WITH (k='v');")
            .unwrap()
            .replacing,
        "CREATE OR REPLACE STREAM x (a INT) WITH (k='v');"
    );
    assert_eq!(
        parse("CREATE OR REPLACE TABLE x AS SELECT 1;").unwrap().replacing,
        "CREATE OR REPLACE TABLE x AS SELECT 1;"
    );
}

#[test]
fn what_is_not_declarative_is_refused_by_its_first_words() {
    assert_eq!(
        parse("DROP STREAM x;"),
        Err(ParseError::Unsupported("DROP STREAM".into()))
    );
    assert_eq!(
        parse("INSERT INTO x (a) VALUES (1);"),
        Err(ParseError::Unsupported("INSERT INTO".into()))
    );
    assert_eq!(parse("INSERT INTO x SELECT 1;"), Err(ParseError::NoQueryId));
    assert_eq!(
        parse("CREATE STREAM (a INT);"),
        Err(ParseError::NoName("CREATE STREAM".into()))
    );
    assert_eq!(split("CREATE STREAM 'x"), Err(ParseError::Unterminated));
}

#[test]
fn hostile_texts_never_panic() {
    for text in [
        "",
        "`",
        "ü;'ß'",
        "CREATE",
        "CREATE OR",
        "CREATE STREAM `",
        "/*",
        "--",
        "CREATE STREAM ``;",
        "💥;💥",
    ] {
        for statement in split(text).unwrap_or_default() {
            let _ = parse(&statement);
        }
    }
}

#[test]
fn what_a_statement_reads_and_where_it_writes_is_known() {
    let joined = parse(
        "CREATE STREAM `out` WITH (kafka_topic='o') AS SELECT a.*, b.x FROM left_s a LEFT JOIN `right` b WITHIN 1 \
         HOUR ON a.k = b.k WHERE EXTRACT(x FROM y) EMIT CHANGES;",
    )
    .unwrap();
    assert_eq!(
        joined.needs,
        ["LEFT_S", "right", "Y"],
        "too many are harmless, too few are not"
    );
    assert!(joined.star);
    assert_eq!(joined.topic(), "o");
    assert_eq!(parse(PURCHASES).unwrap().topic(), "CUSTOMER_PURCHASES");
    for (sql, star) in [
        ("CREATE STREAM a AS SELECT * FROM b;", true),
        ("CREATE STREAM a AS SELECT x, b.* FROM b;", true),
        (
            "CREATE TABLE a AS SELECT k, COUNT(*) AS n FROM b GROUP BY k;",
            false,
        ),
        ("CREATE STREAM a AS SELECT x * y FROM b;", false),
    ] {
        assert_eq!(parse(sql).unwrap().star, star, "{sql}");
    }
}

#[test]
fn an_insert_is_known_by_the_id_of_its_query() {
    let sql =
        "INSERT INTO all_events WITH (QUERY_ID='my_insert') SELECT customer_id FROM customer_purchases;";
    let insert = parse(sql).unwrap();
    assert_eq!((insert.kind, insert.source.as_str()), (Kind::Insert, "MY_INSERT"));
    assert_eq!(insert.needs, ["ALL_EVENTS", "CUSTOMER_PURCHASES"]);
}
