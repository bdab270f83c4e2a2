use super::super::Event;
use super::*;

/// Both ways of reading a record must say the same.
fn both(text: &str) -> Result<EventRef<'_>, EventError> {
    let event = EventRef::parse(text.as_bytes(), None);
    let owned = Event::parse(text.as_bytes(), None);
    let same = match (&event, &owned) {
        (Ok(event), Ok(owned)) => {
            (
                &*event.customer_id,
                event.product_id.as_deref(),
                &event.event_type,
            ) == (
                &*owned.customer_id,
                owned.product_id.as_deref(),
                &owned.event_type,
            ) && event.timestamp_ms == owned.timestamp_ms
        }
        (Err(error), Err(same)) => error == same,
        _ => false,
    };
    assert!(same, "{text}: {event:?} and {owned:?}");
    event
}

#[test]
fn plain_text_is_borrowed_and_escaped_text_is_not() {
    let event = both(r#"{"customer_id":" c1 ","product_id":"p\u00e9","event_type":"click"}"#).unwrap();
    assert_eq!(event.customer_id, Cow::Borrowed("c1"));
    assert!(matches!(event.customer_id, Cow::Borrowed(_)));
    assert_eq!(event.product_id.as_deref(), Some("p\u{e9}"));
}

#[test]
fn what_nobody_looks_at_is_checked_all_the_same() {
    let with = |more: &str| format!(r#"{{"customer_id":"c","event_type":"email",{more}}}"#);
    assert!(both(&with(r#""x":[1,{"y":null}],"properties":{"a":{}}"#)).is_ok());
    let deep = format!(r#""x":{}{}"#, "[".repeat(200), "]".repeat(200));
    for bad in [
        r#""x":1e999"#,
        r#""x":"\ud800""#,
        r#""x":[1"#,
        r#""x":{"a"}"#,
        &deep,
        r#""properties":[1]"#,
    ] {
        assert!(both(&with(bad)).is_err(), "{bad}");
    }
}

#[test]
fn of_fields_that_stand_twice_the_last_counts_and_null_is_absent() {
    let twice = r#"{"customer_id":"a","customer_id":"b","product_id":1,"event_type":"view"}"#;
    assert_eq!(both(twice).unwrap().customer_id, "b");
    let upper =
        r#"{"customer_id":"a","customer_id":null,"CUSTOMER_ID":"c","product_id":1.5,"event_type":"VIEW"}"#;
    let event = both(upper).unwrap();
    assert_eq!(
        (&*event.customer_id, event.product_id.as_deref()),
        ("c", Some("1.5"))
    );
    assert!(both(r#"{"CUSTOMER_ID":null,"product_id":"p","event_type":"view"}"#).is_err());
}

#[test]
fn what_is_no_object_is_named() {
    for text in ["null", "true", "1", "\"a\"", "[1,[2]]", "[1", "{}x", ""] {
        assert!(matches!(
            both(text),
            Err(EventError::NotJson(_)) | Err(EventError::MissingField(_))
        ));
    }
}
