//! Visits: however they were learned, they are the same.

use proptest::prelude::*;
use recommender_engine::{
    Algorithm, EngineConfig, EventKind, Gathered, Interaction, ProductMeta, Query, Reader, Scored, Writer,
    engine,
};

use super::{Event, HOUR, NOW, empty};

/// Events in the order of the minutes in which they arrive.
fn as_they_arrive(mut events: Vec<(i64, Event, bool)>) -> Vec<(Event, bool)> {
    events.sort_by_key(|(minute, _, _)| *minute);
    events.into_iter().map(|(_, event, tab)| (event, tab)).collect()
}

/// A few hours of visits, tab by tab, some of whose events come late.
pub fn visits() -> impl Strategy<Value = Vec<(Event, bool)>> {
    let event = (0u32..6, 0u32..10, 0i64..300, 0i64..40, any::<bool>()).prop_map(
        |(customer, product, minute, late, tab)| {
            let event = Event {
                customer: format!("c{customer}"),
                product: format!("p{product}"),
                kind: EventKind::View,
                time_ms: NOW - (300 - minute + late) * 60_000,
            };
            (minute, event, tab)
        },
    );
    prop::collection::vec(event, 0..150).prop_map(as_they_arrive)
}

pub fn in_visit((event, tab): &(Event, bool)) -> Interaction<'_> {
    Interaction {
        session: tab.then_some("tab"),
        ..event.interaction()
    }
}

/// Two days in the order of time, when most come for one product and come again; and the hour after them, some of whose
/// events come late.
fn days() -> impl Strategy<Value = Vec<(Event, bool)>> {
    let kind = prop_oneof![4 => Just(EventKind::View), 1 => Just(EventKind::Return)];
    let event = (0u32..6, 0u32..10, kind, 0i64..2_940, 0i64..90, any::<bool>()).prop_map(
        |(customer, product, kind, minute, late, tab)| {
            let late = if minute < 2_880 { 0 } else { late };
            let event = Event {
                customer: format!("c{customer}"),
                product: format!("p{product}"),
                kind,
                time_ms: NOW - (2_940 - minute + late) * 60_000,
            };
            (minute, event, tab)
        },
    );
    prop::collection::vec(event, 0..150).prop_map(as_they_arrive)
}

/// What the models that look at visits answer.
fn by_visits(reader: &Reader) -> Vec<Vec<Scored>> {
    let mut answers = Vec::new();
    for algorithm in [Algorithm::SessionKnn, Algorithm::Hybrid] {
        for at in 0..10 {
            let (customer, product) = (format!("c{at}"), format!("p{at}"));
            for (customer, recent) in [
                (Some(customer.as_str()), vec![]),
                (None, vec!["p1", product.as_str()]),
            ] {
                let query = Query {
                    customer,
                    recent: &recent,
                    algorithm: Some(algorithm),
                    limit: 20,
                    now_ms: NOW,
                    ..Query::default()
                };
                answers.push(reader.recommend(&query).items);
            }
        }
    }
    answers
}

proptest! {
    // A failure prints its input; nothing is written beside the tests.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn visits_learned_online_equal_those_learned_in_bulk(events in visits()) {
        let (mut one_by_one, online) = empty();
        for (at, event) in events.iter().enumerate() {
            one_by_one.apply(&in_visit(event), NOW);
            if at % 7 == 0 {
                // Whatever the clock says.
                one_by_one.publish(NOW + at as i64 * 10_000, 3);
            }
        }
        one_by_one.flush(NOW);
        let (mut at_once, bulk) = empty();
        at_once.bulk(events.iter().map(in_visit), NOW);
        prop_assert_eq!(by_visits(&online), by_visits(&bulk));
        let (mut on_threads, bulk) = empty();
        let mut gathered = Gathered::default();
        for event in &events {
            on_threads.gather(&mut gathered, &in_visit(event), NOW);
        }
        on_threads.learn_gathered(gathered, NOW, 2);
        prop_assert_eq!(by_visits(&online), by_visits(&bulk));
    }

    #[test]
    fn visits_of_one_event_that_bulk_passes_over_are_missed_by_nobody(events in days(), threads in 1usize..3) {
        let (mut one_by_one, online) = empty();
        for event in &events {
            one_by_one.apply(&in_visit(event), NOW);
        }
        one_by_one.flush(NOW);
        // All but the last hour at once: what comes late then may belong to visits of before.
        let before = events.partition_point(|(event, _)| event.time_ms < NOW - 150 * 60_000);
        let (mut writer, reader) = empty();
        let mut gathered = Gathered::default();
        for event in &events[..before] {
            writer.gather(&mut gathered, &in_visit(event), NOW);
        }
        writer.learn_gathered(gathered, NOW, threads);
        for event in &events[before..] {
            writer.apply(&in_visit(event), NOW);
        }
        writer.flush(NOW);
        prop_assert_eq!(by_visits(&online), by_visits(&reader));
    }

    #[test]
    fn visits_do_not_depend_on_the_order_between_customers(events in visits()) {
        let learned = |order: &[(Event, bool)]| {
            let (mut writer, reader) = empty();
            for event in order {
                writer.apply(&in_visit(event), NOW);
            }
            writer.flush(NOW);
            by_visits(&reader)
        };
        // Customer after customer, as when partitions are read one after the other; and their reverse.
        let mut grouped = events.clone();
        grouped.sort_by(|a, b| a.0.customer.cmp(&b.0.customer));
        prop_assert_eq!(learned(&events), learned(&grouped));
        grouped.sort_by(|a, b| b.0.customer.cmp(&a.0.customer));
        prop_assert_eq!(learned(&events), learned(&grouped));
    }

    #[test]
    fn visits_of_an_erased_customer_answer_for_nobody(events in visits(), victim in 0u32..6) {
        let victim = format!("c{victim}");
        // Someone else's event ends all visits: how far time has come is no secret.
        let last = Event { customer: "late".into(), product: "p0".into(), kind: EventKind::View, time_ms: NOW + 60_000 };
        // That a product exists is not forgotten.
        let stocked = || {
            let (mut writer, reader) = empty();
            (0..10).for_each(|n| assert!(writer.set_product(&format!("p{n}"), Some(ProductMeta::titled("")))));
            (writer, reader)
        };
        let (mut writer, reader) = stocked();
        for event in &events {
            writer.apply(&in_visit(event), NOW);
        }
        writer.apply(&last.interaction(), NOW);
        writer.erase(&victim);
        writer.flush(NOW);
        let (mut others, expected) = stocked();
        for event in events.iter().filter(|(event, _)| event.customer != victim) {
            others.apply(&in_visit(event), NOW);
        }
        others.apply(&last.interaction(), NOW);
        others.flush(NOW);
        prop_assert_eq!(by_visits(&reader), by_visits(&expected));
    }
}

#[test]
fn visits_of_one_event_stand_in_line_as_they_end_however_they_were_learned() {
    let mut config = EngineConfig::default();
    config.limits.max_sessions = 2;
    let start = NOW - 10 * HOUR;
    let event = |customer: &str, product: &str, time_ms| Event {
        customer: customer.into(),
        product: product.into(),
        kind: EventKind::View,
        time_ms: start + time_ms,
    };
    let minute = 60_000;
    // The first two are of one customer, whose second visit begins before the first is seen to have ended.
    let before = [
        event("c", "p2", 0),
        event("d", "p3", 10 * minute),
        event("c", "p4", 30 * minute + 1),
        event("z", "p5", 100 * minute),
    ];
    // The third to end makes the first of the line go; whom the late one joins tells who that was.
    let after = [event("w", "p6", 200 * minute), event("c", "p1", 31 * minute)];
    let joined = |writer: &mut Writer, reader: &Reader| {
        for event in &after {
            writer.apply(&event.interaction(), NOW);
        }
        writer.apply(&event("v", "p7", 400 * minute).interaction(), NOW);
        writer.flush(NOW);
        let query = Query {
            recent: &["p1"],
            algorithm: Some(Algorithm::SessionKnn),
            limit: 1,
            now_ms: NOW,
            ..Query::default()
        };
        reader
            .recommend(&query)
            .items
            .first()
            .map(|item| item.product.to_string())
    };
    let (mut writer, reader) = engine(config.clone()).unwrap();
    for event in &before {
        writer.apply(&event.interaction(), NOW);
    }
    assert_eq!(joined(&mut writer, &reader).as_deref(), Some("p4"));
    let (mut writer, reader) = engine(config).unwrap();
    writer.bulk(before.iter().map(Event::interaction), NOW);
    assert_eq!(joined(&mut writer, &reader).as_deref(), Some("p4"));
}
