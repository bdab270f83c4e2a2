use recommendation_api::Event;

use super::*;

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new().unwrap())
}

fn put(connection: &Connection, value: &[u8]) {
    connection
        .execute(
            "INSERT INTO events (time_ms, value) VALUES (1000, ?1)",
            params![value],
        )
        .unwrap();
}

#[test]
fn a_malformed_row_becomes_one_dead_letter_and_nothing_else_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.db");
    let connection = connect(&path).unwrap();
    put(
        &connection,
        br#"{"customer_id":"c","product_id":"p","event_type":"click"}"#,
    );
    put(&connection, b"not json");
    put(
        &connection,
        br#"{"customer_id":"c","product_id":"q","event_type":"click"}"#,
    );
    // Twice, as after a restart: the letter is not written again.
    for _ in 0..2 {
        let mut source = EmbeddedSource::open(&path, Arc::default(), metrics()).unwrap();
        let mut products = Vec::new();
        let mut take = |item: Item<'_>| {
            if let Item::Event(record) = item {
                products.push(
                    Event::parse(record.value.unwrap_or_default(), None)?
                        .product_id
                        .unwrap(),
                );
            }
            Ok(())
        };
        assert!(!source.lag(0).caught_up);
        assert_eq!(source.poll(Duration::ZERO, &mut take).unwrap(), 3);
        assert_eq!(products, ["p", "q"]);
        assert_eq!(
            source.lag(0),
            Lag {
                records: 0,
                seconds: 0.0,
                caught_up: true
            }
        );
    }
    let (n, reason): (i64, String) = connection
        .query_row("SELECT COUNT(*), MAX(reason) FROM dead_letters", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!((n, reason.as_str()), (1, "NotJson"));
}

#[test]
fn a_catalogue_without_events_is_read_to_its_end_before_the_log_counts_as_caught_up_with() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.db");
    let mut connection = connect(&path).unwrap();
    let tx = connection.transaction().unwrap();
    for i in 0..=BATCH {
        let insert = "INSERT INTO products (product_id, seq, value) VALUES (?1, ?2, '{}')";
        tx.execute(insert, params![i.to_string(), i + 1]).unwrap();
    }
    tx.commit().unwrap();
    let mut source = EmbeddedSource::open(&path, Arc::default(), metrics()).unwrap();
    let mut products = 0;
    while !source.lag(0).caught_up {
        let mut take = |_: Item<'_>| {
            products += 1;
            Ok(())
        };
        source.poll(Duration::ZERO, &mut take).unwrap();
    }
    assert_eq!(products, BATCH + 1);
}

#[test]
fn an_empty_log_is_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = EmbeddedSource::open(&dir.path().join("shop.db"), Arc::default(), metrics()).unwrap();
    source.poll(Duration::ZERO, &mut |_| Ok(())).unwrap();
    assert_eq!(
        source.lag(now_ms()),
        Lag {
            records: 0,
            seconds: 0.0,
            caught_up: true
        }
    );
}
