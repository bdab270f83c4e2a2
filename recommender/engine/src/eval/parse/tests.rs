use super::*;

#[test]
fn only_new_products_that_someone_bought_before_are_tested() {
    let event = |customer, product, kind, day| {
        format!(
            r#"{{"customer_id":"{customer}","product_id":"{product}","event_type":"{kind}","timestamp":"2011-01-{day:02}T00:00:00Z"}}"#
        )
    };
    let text = [
        event("ann", "mug", "purchase", 1),
        event("bob", "cup", "purchase", 2),
        event("eve", "jar", "view", 2),
        event("ann", "cup", "purchase", 9),
        event("ann", "cup", "purchase", 10),
        event("ann", "mug", "purchase", 9),
        event("ann", "jar", "purchase", 9),
        event("eve", "mug", "purchase", 9),
        event("bob", "mug", "return", 9),
    ]
    .join("\n");
    let data = parse_events(&text, instant("2011-01-05T00:00:00Z").unwrap()).unwrap();
    assert_eq!(data.catalogue, 2);
    let cup = data.products.iter().position(|name| &**name == "cup").unwrap() as u32;
    assert_eq!(data.task, Task::Customers(vec![(0, vec![cup])]));
}

#[test]
fn sessions_and_interactions_keep_their_order_and_bad_lines_say_where() {
    let data = parse_sessions("1 2 3\n2 2\n", "1 2\t3\n").unwrap();
    assert_eq!((data.customers.len(), data.catalogue), (2, 3));
    assert_eq!(
        data.task,
        Task::Sessions(vec![Pair {
            prefix: vec![0, 1],
            next: 2
        }])
    );
    let refused = parse_sessions("1 2", "1 2 3").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "line 1: expected a prefix, a tab and the next item"
    );
    let data = parse_interactions("a 1 2\nb 2", "a 3 1\nb\nc 1").unwrap();
    assert_eq!(data.task, Task::Customers(vec![(0, vec![0, 2])]));
}

#[test]
fn odd_but_harmless_lines_change_nothing() {
    let plain = parse_interactions("ann 1 2\nbob 2\nno-items", "ann 3\nbob 1").unwrap();
    let odd = "\u{feff}ann  1\r\n\r\n   \nann\t2 \r\nbob 2\nno-items\n";
    let odd = parse_interactions(odd, "\nann 3 3\nstranger 1\r\nbob\nbob 1 \nno-items\n").unwrap();
    assert_eq!((&odd.customers, &odd.task), (&plain.customers, &plain.task));
    assert_eq!((odd.catalogue, odd.customers.len()), (2, 3));
    let huge = "18446744073709551616123 ünï-0042 0042 42";
    let data = parse_interactions(huge, "18446744073709551616123 42").unwrap();
    assert_eq!(data.catalogue, 3, "ids are names, not numbers");
    let data = parse_sessions("7\r\n7 8 \r\n\r\n", "7 \t8 \r\n\t7\n").unwrap();
    assert_eq!((data.customers.len(), data.task.len()), (2, 2));
    assert!(matches!(
        parse_sessions("1 2", "1\t").unwrap_err(),
        DataError::NoTab { line: 1 }
    ));
    assert!(matches!(
        parse_sessions("\n", "1\t2").unwrap_err(),
        DataError::Empty("training")
    ));
    assert!(matches!(
        parse_interactions("a 1", "b 1").unwrap_err(),
        DataError::Empty("test")
    ));
}

#[test]
fn data_without_purchases_is_about_what_was_looked_at() {
    let event = |customer: &str, product: &str, kind: &str, day: u32| {
        format!(
            r#"{{"customer_id":"{customer}","product_id":"{product}","event_type":"{kind}","timestamp":"2011-01-{day:02}T00:00:00Z"}}"#
        )
    };
    let text = [
        event("ann", "mug", "view", 1),
        event("bob", "cup", "click", 2),
        event("ann", "cup", "view", 9),
        event("ann", "mug", "view", 9),
    ]
    .join("\n");
    let data = parse_events(&text, instant("2011-01-05T00:00:00Z").unwrap()).unwrap();
    assert_eq!((data.catalogue, data.purchases_only), (2, false));
    assert_eq!(data.task, Task::Customers(vec![(0, vec![1])]));
}

#[test]
fn records_are_taken_as_the_service_takes_them() {
    let log = |fields: &str| parse_log(&format!(r#"{{"customer_id":"ann",{fields}}}"#));
    for (timestamp, millis) in [
        (r#""2011-01-05T00:00:00Z""#, 1_294_185_600_000),
        ("1294185600000", 1_294_185_600_000),
        (r#"" 1294185600000""#, 1_294_185_600_000),
        ("-1", -1),
        ("1294185600000.5", 1_294_185_600_000),
    ] {
        let fields = format!(r#""product_id":"cup","event_type":"view","timestamp":{timestamp}"#);
        assert_eq!(log(&fields).unwrap()[0].time_ms, millis, "{timestamp}");
    }
    let numbers = r#"{"customer_id":17,"product_id":18446744073709551615,"event_type":"view","timestamp":1}"#;
    let numbered = &parse_log(numbers).unwrap()[0];
    assert_eq!(
        (&*numbered.customer, &*numbered.product),
        ("17", "18446744073709551615")
    );
    let mail = r#"{"customer_id":"ann","event_type":"email","timestamp":1}"#;
    let view = r#"{"customer_id":"ann","product_id":"cup","event_type":"view","timestamp":1}"#;
    assert_eq!(parse_log(&format!("{mail}\n{view}")).unwrap().len(), 1);
    for (fields, told) in [
        (
            r#""event_type":"view","timestamp":1"#,
            "line 1: no product_id; only an event of type `email` goes without",
        ),
        (
            r#""product_id":"cup","event_type":"view","timestamp":1294185600000000000"#,
            "line 1: timestamp \"1294185600000000000\" is neither like 2011-12-09T12:50:00Z nor milliseconds since 1970",
        ),
        (
            r#""product_id":"cup","event_type":"view","timestamp":"soon""#,
            "line 1: timestamp \"soon\" is neither like 2011-12-09T12:50:00Z nor milliseconds since 1970",
        ),
        (
            r#""product_id":"cup","event_type":"view","timestamp":true"#,
            "line 1: not an event record: timestamp must be like 2011-12-09T12:50:00Z, or milliseconds since 1970",
        ),
        (
            r#""product_id":"cup","event_type":"view""#,
            "line 1: not an event record: missing field `timestamp`",
        ),
    ] {
        let refused = log(fields).unwrap_err().to_string();
        assert!(refused.starts_with(told), "{refused}");
    }
}
