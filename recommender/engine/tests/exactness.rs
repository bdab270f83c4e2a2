//! The engine's promises about order and erasure, on random logs.

use std::collections::BTreeMap;

use proptest::prelude::*;
use recommender_engine::{
    Algorithm, Applied, EngineConfig, EventKind, Gathered, HistoryItem, Interaction, Limits, PastEvent,
    ProductMeta, Query, Reader, Scored, Writer, engine, snapshot,
};

const NOW: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;

#[derive(Clone, Debug)]
struct Event {
    customer: String,
    product: String,
    kind: EventKind,
    time_ms: i64,
}

impl Event {
    fn interaction(&self) -> Interaction<'_> {
        Interaction::new(&self.customer, &self.product, self.kind, self.time_ms)
    }
}

fn log() -> impl Strategy<Value = Vec<Event>> {
    let kind = prop_oneof![
        4 => Just(EventKind::View),
        2 => Just(EventKind::Click),
        2 => Just(EventKind::Cart),
        4 => Just(EventKind::Purchase),
        2 => Just(EventKind::Return),
        1 => Just(EventKind::Email),
        1 => Just(EventKind::Other),
    ];
    let event = (0u32..8, 0u32..12, kind, 0i64..2_000).prop_map(|(customer, product, kind, hour)| Event {
        customer: format!("c{customer}"),
        product: format!("p{product}"),
        kind,
        time_ms: NOW - hour * HOUR,
    });
    prop::collection::vec(event, 0..120)
}

fn empty() -> (Writer, Reader) {
    engine(EngineConfig::default()).expect("the defaults are valid")
}

fn online(events: &[Event]) -> Reader {
    let (mut writer, reader) = empty();
    for (at, event) in events.iter().enumerate() {
        writer.apply(&event.interaction(), NOW);
        if at % 7 == 0 {
            writer.publish(NOW, 3);
        }
    }
    writer.flush(NOW);
    reader
}

/// Everything that a reader can tell about the model.
type Visible = (
    BTreeMap<String, Vec<Scored>>,
    Vec<Scored>,
    BTreeMap<String, Option<Vec<HistoryItem>>>,
    BTreeMap<String, Vec<Scored>>,
);

fn visible(reader: &Reader) -> Visible {
    let products = || (0..12).map(|n| format!("p{n}"));
    let customers = || (0..8).map(|n| format!("c{n}"));
    let sorted = |mut history: Vec<HistoryItem>| {
        history.sort_by(|a, b| a.product.cmp(&b.product));
        history
    };
    let answer = |customer: &str| {
        // Visits depend on the order of a customer's events: they are looked at apart.
        let query = |algorithm| Query {
            customer: Some(customer),
            algorithm: Some(algorithm),
            limit: 20,
            now_ms: NOW,
            ..Query::default()
        };
        let answers = [Algorithm::ItemKnn, Algorithm::Rp3Beta, Algorithm::Popularity];
        answers
            .into_iter()
            .flat_map(|algorithm| reader.recommend(&query(algorithm)).items)
            .collect()
    };
    (
        products()
            .map(|id| (id.clone(), reader.similar(&id, 50)))
            .collect(),
        reader.trending(50, None, NOW),
        customers()
            .map(|id| (id.clone(), reader.customer_history(&id).map(sorted)))
            .collect(),
        customers().map(|id| (id.clone(), answer(&id))).collect(),
    )
}

/// Events in the order of the minutes in which they arrive.
fn as_they_arrive(mut events: Vec<(i64, Event, bool)>) -> Vec<(Event, bool)> {
    events.sort_by_key(|(minute, _, _)| *minute);
    events.into_iter().map(|(_, event, tab)| (event, tab)).collect()
}

/// A few hours of visits, tab by tab, some of whose events come late.
fn visits() -> impl Strategy<Value = Vec<(Event, bool)>> {
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

fn in_visit((event, tab): &(Event, bool)) -> Interaction<'_> {
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
    fn online_equals_bulk_on_one_thread_and_on_several(events in log(), threads in 1usize..5) {
        let (mut writer, reader) = empty();
        let mut gathered = Gathered::default();
        for event in &events {
            writer.gather(&mut gathered, &event.interaction(), NOW);
        }
        let report = writer.learn_gathered(gathered, NOW, threads);
        let other = online(&events);
        prop_assert_eq!(visible(&reader), visible(&other));
        prop_assert_eq!(report.events, events.len() as u64);
        prop_assert_eq!(reader.stats().learned, other.stats().learned);
        prop_assert_eq!(reader.stats().pairs, other.stats().pairs);
    }

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
    fn a_customer_who_takes_in_another_is_as_if_all_events_had_been_theirs(events in log(), at in 0usize..120) {
        let (from, into) = ("c1", "c2");
        let (mut writer, reader) = empty();
        let at = at.min(events.len());
        for event in &events[..at] {
            writer.apply(&event.interaction(), NOW);
        }
        writer.merge(from, into);
        let renamed = |event: &Event| {
            let customer = if event.customer == from { into.to_owned() } else { event.customer.clone() };
            Event { customer, ..event.clone() }
        };
        for event in &events[at..] {
            writer.apply(&renamed(event).interaction(), NOW);
        }
        writer.flush(NOW);
        let all: Vec<Event> = events.iter().map(renamed).collect();
        prop_assert_eq!(visible(&reader), visible(&online(&all)));
        prop_assert!(reader.customer_history(from).is_none());
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

    #[test]
    fn the_order_of_events_does_not_matter(events in log(), seed in any::<u64>()) {
        let mut shuffled = events.clone();
        let mut state = seed | 1;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(at, (state >> 33) as usize % (at + 1));
        }
        prop_assert_eq!(visible(&online(&events)), visible(&online(&shuffled)));
    }

    #[test]
    fn a_window_of_pairs_depends_on_the_history_alone(events in log(), seed in any::<u64>()) {
        let limits = Limits { pair_history: 3, ..Limits::default() };
        let config = EngineConfig { limits, ..EngineConfig::default() };
        let (mut forward, one) = engine(config.clone()).unwrap();
        let (mut backward, two) = engine(config.clone()).unwrap();
        let (mut grouped, three) = engine(config).unwrap();
        let turn = seed as usize % (events.len() + 1);
        for event in &events {
            forward.apply(&event.interaction(), NOW);
        }
        for event in events[turn..].iter().chain(&events[..turn]).rev() {
            backward.apply(&event.interaction(), NOW);
        }
        grouped.bulk(events.iter().map(Event::interaction), NOW);
        forward.flush(NOW);
        backward.flush(NOW);
        prop_assert_eq!(visible(&one), visible(&two));
        prop_assert_eq!(visible(&one), visible(&three));
    }

    #[test]
    fn erasing_a_customer_equals_never_having_seen_them(events in log(), victim in 0u32..8) {
        let victim = format!("c{victim}");
        let (mut writer, reader) = empty();
        let half = events.len() / 2;
        writer.bulk(events[..half].iter().map(Event::interaction), NOW);
        for event in &events[half..] {
            writer.apply(&event.interaction(), NOW);
        }
        writer.erase(&victim);
        writer.flush(NOW);
        let others: Vec<Event> = events.iter().filter(|event| event.customer != victim).cloned().collect();
        prop_assert_eq!(visible(&reader), visible(&online(&others)));
        prop_assert_eq!(reader.customer_history(&victim), None);
    }

    #[test]
    fn histories_that_are_kept_elsewhere_change_nothing(events in log(), cut in 0usize..120, victim in 0u32..8) {
        let config = EngineConfig {
            recalls: true,
            limits: Limits { max_customers: 2, ..Limits::default() },
            ..EngineConfig::default()
        };
        let (mut writer, mut reader) = engine(config.clone()).unwrap();
        let mut kept: BTreeMap<&str, Vec<PastEvent<'_>>> = BTreeMap::new();
        for (at, event) in events.iter().enumerate() {
            if at == cut {
                // A replica that starts again has nobody's history.
                let mut bytes = Vec::new();
                writer.write_snapshot(&mut bytes).unwrap();
                (writer, reader) = snapshot::read(config.clone(), &mut &bytes[..]).unwrap();
                prop_assert_eq!(reader.stats().customers, 0);
            }
            let past = writer.past(&event.interaction(), NOW);
            let kept = kept.entry(&event.customer).or_default();
            writer.recall(&event.customer, kept.iter().copied());
            writer.apply(&event.interaction(), NOW);
            kept.extend(past);
            writer.let_go();
            prop_assert!(reader.stats().customers <= 2);
        }
        writer.flush(NOW);
        for (customer, events) in &kept {
            if !reader.has_history(customer) {
                reader.recall(customer, events.iter().copied());
            }
        }
        prop_assert_eq!(visible(&reader), visible(&online(&events)));
        let victim = format!("c{victim}");
        if let Some(events) = kept.get(victim.as_str()) {
            writer.recall(&victim, events.iter().copied());
            writer.erase(&victim);
        }
        writer.flush(NOW);
        prop_assert!(!reader.has_history(&victim));
        let others: Vec<Event> = events.iter().filter(|event| event.customer != victim).cloned().collect();
        for customer in (0..8).map(|n| format!("c{n}")) {
            let unknown = !reader.has_history(&customer);
            if let Some(events) = kept.get(customer.as_str()).filter(|_| unknown && customer != victim) {
                reader.recall(&customer, events.iter().copied());
            }
        }
        prop_assert_eq!(visible(&reader), visible(&online(&others)));
    }

    #[test]
    fn answers_are_short_distinct_ordered_and_finite(events in log(), limit in 0usize..30) {
        let reader = online(&events);
        for customer in ["c0", "c3", "nobody"] {
            let query = Query { customer: Some(customer), limit, now_ms: NOW, diversity: Some(0.0), exploration: Some(0.0), ..Query::default() };
            let items = reader.recommend(&query).items;
            prop_assert!(items.len() <= limit);
            prop_assert!(items.iter().all(|item| item.score.is_finite()));
            prop_assert!(items.windows(2).all(|pair| pair[0].score >= pair[1].score));
            let mut names: Vec<_> = items.iter().map(|item| item.product.clone()).collect();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), items.len());
            let bought = |item: &HistoryItem| item.purchases > 0 && names.contains(&item.product);
            prop_assert!(!reader.customer_history(customer).unwrap_or_default().iter().any(bought));
        }
    }

    #[test]
    fn erasing_is_exact_even_when_the_cap_on_histories_binds(events in log()) {
        let limits = Limits { learn_history: 4, pair_history: 3, ..Limits::default() };
        let (mut writer, reader) = engine(EngineConfig { limits, ..EngineConfig::default() }).unwrap();
        for event in &events {
            writer.apply(&event.interaction(), NOW);
        }
        for customer in 0..8 {
            writer.erase(&format!("c{customer}"));
        }
        writer.flush(NOW);
        let stats = reader.stats();
        prop_assert_eq!((stats.pairs, stats.customers), (0, 0));
        prop_assert!(reader.trending(10, None, NOW).is_empty());
    }
}

#[test]
fn the_customer_idle_for_longest_makes_room() {
    let limits = Limits {
        max_customers: 2,
        ..Limits::default()
    };
    let (mut writer, reader) = engine(EngineConfig {
        limits,
        ..EngineConfig::default()
    })
    .unwrap();
    for (customer, time) in [("ann", 1), ("bob", 2), ("ann", 3), ("eve", 4)] {
        let event = Interaction::new(customer, "mug", EventKind::View, time);
        assert_eq!(writer.apply(&event, NOW), Applied::Learned);
    }
    assert!(reader.customer_history("bob").is_none());
    assert!(reader.customer_history("ann").is_some() && reader.customer_history("eve").is_some());
    assert_eq!(
        (reader.stats().customers, reader.stats().evicted_customers),
        (2, 1)
    );
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

/// With no room for more products than these, and postage that is none.
fn choosy(max_products: usize) -> EngineConfig {
    EngineConfig {
        non_products: vec!["POST".into()],
        limits: Limits {
            max_products,
            ..Limits::default()
        },
        ..EngineConfig::default()
    }
}

#[test]
fn an_event_id_counts_once_and_refusals_are_counted() {
    let (mut writer, reader) = engine(choosy(1)).unwrap();
    let event = Interaction {
        event_id: Some("e1"),
        ..Interaction::new("ann", "mug", EventKind::View, 1)
    };
    assert_eq!(writer.apply(&event, NOW), Applied::Learned);
    assert_eq!(writer.apply(&event, NOW), Applied::Duplicate);
    let event = |product| Interaction::new("ann", product, EventKind::View, 1);
    assert_eq!(writer.apply(&event("POST"), NOW), Applied::NonProduct);
    assert_eq!(writer.apply(&event("cup"), NOW), Applied::Refused);
    assert_eq!(writer.apply(&event(""), NOW), Applied::Invalid);
    let email = Interaction::new("ann", "mug", EventKind::Email, 1);
    assert_eq!(writer.apply(&email, NOW), Applied::Weightless);
    let stats = reader.stats();
    assert_eq!(
        (stats.events, stats.learned, stats.duplicates, stats.non_products),
        (6, 1, 1, 1)
    );
    assert_eq!(
        (stats.refused_products, stats.invalid, stats.weightless),
        (1, 1, 1)
    );
}

#[test]
fn refusals_within_one_batch_are_decided_in_turn_as_one_by_one() {
    let of = |customer, product, kind, time_ms| Interaction::new(customer, product, kind, time_ms);
    let with_id = |event_id| Interaction {
        event_id: Some(event_id),
        ..of("ann", "mug", EventKind::View, 1)
    };
    let view = EventKind::View;
    // More than is looked up at once, and all of it twice.
    let once = [
        with_id("e1"),
        with_id("e1"),
        with_id("e2"),
        of("bob", "POST", view, 2),
        of("bob", "cup", view, 3),
        of("bob", "plate", view, 4),
        of("eve", "cup", EventKind::Email, 5),
        of("", "cup", view, 6),
        of("eve", "", view, 7),
        of("eve", "mug", EventKind::Purchase, 8),
        of("eve", "mug", EventKind::Return, 9),
        of("ann", "cup", view, 10),
    ];
    let log: Vec<Interaction<'_>> = once.iter().cycle().take(60).copied().collect();
    let told = |known: &[Interaction<'_>], bulk: bool| {
        let (mut writer, reader) = engine(choosy(2)).unwrap();
        for event in known {
            writer.apply(event, NOW);
        }
        if bulk {
            writer.bulk(log.iter().copied(), NOW);
        } else {
            for event in &log {
                writer.apply(event, NOW);
            }
            writer.publish(NOW, usize::MAX);
        }
        let histories: Vec<_> = ["ann", "bob", "eve"]
            .map(|customer| reader.customer_history(customer))
            .into();
        let similar: Vec<_> = reader
            .similar("mug", 5)
            .into_iter()
            .map(|one| (one.product, one.score))
            .collect();
        (
            format!("{:?}", reader.stats()),
            format!("{histories:?} {similar:?}"),
        )
    };
    let nobody: [Interaction<'_>; 0] = [];
    for known in [&nobody[..], &[of("zoe", "mug", view, 0)]] {
        let (stats, model) = told(known, true);
        assert_eq!((stats, model), told(known, false));
    }
}

#[test]
fn a_time_far_ahead_is_clamped_to_five_minutes() {
    let (mut writer, reader) = empty();
    writer.apply(&Interaction::new("ann", "mug", EventKind::View, i64::MAX), NOW);
    assert_eq!(reader.customer_history("ann").unwrap()[0].last_ms, NOW + 300_000);
}

/// Customers with tastes: products of a group go together, with noise.
fn tasteful_log() -> Vec<Event> {
    let mut state = 7u64;
    let mut draw = move |n: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let mut events = Vec::new();
    for customer in 0..600 {
        let group = draw(10);
        for n in 0..12 {
            let product = if draw(4) == 0 {
                draw(300)
            } else {
                group * 30 + draw(30)
            };
            let (customer, product) = (format!("c{customer}"), format!("p{product}"));
            events.push(Event {
                customer,
                product,
                kind: EventKind::View,
                time_ms: NOW - n * HOUR,
            });
        }
    }
    events
}

#[test]
fn when_the_cap_on_pairs_binds_most_of_the_nearest_neighbours_stay() {
    let log = tasteful_log();
    let learn = |row_capacity| {
        let limits = Limits {
            row_capacity,
            ..Limits::default()
        };
        let config = EngineConfig {
            limits,
            neighbors: 10,
            ..EngineConfig::default()
        };
        let (mut writer, reader) = engine(config).expect("the limits are valid");
        for event in &log {
            writer.apply(&event.interaction(), NOW);
        }
        writer.flush(NOW);
        reader
    };
    let (exact, capped) = (learn(4_096), learn(64));
    assert!(capped.stats().pairs * 2 < exact.stats().pairs, "the cap binds");
    let (mut kept, mut all) = (0, 0);
    for n in 0..300 {
        let near = |reader: &Reader| -> Vec<_> {
            reader
                .similar(&format!("p{n}"), 10)
                .into_iter()
                .map(|item| item.product)
                .collect()
        };
        let (exact, capped) = (near(&exact), near(&capped));
        all += exact.len();
        kept += exact.iter().filter(|product| capped.contains(product)).count();
    }
    let share = kept as f64 / all as f64;
    println!(
        "{:.1} % of the nearest ten stay with half the pairs",
        share * 100.0
    );
    assert!(share > 0.85, "{share}");
}
