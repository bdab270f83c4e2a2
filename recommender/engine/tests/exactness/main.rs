//! The engine's promises about order and erasure, on random logs.

mod limits;
mod unpaired;
mod visits;

use std::collections::BTreeMap;

use proptest::prelude::*;
use recommender_engine::{
    Algorithm, EngineConfig, EventKind, Gathered, HistoryItem, Interaction, Limits, PastEvent, Query, Rate,
    Reader, Scored, Writer, engine, snapshot,
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
            let past = writer.past(&event.interaction(), &mut Rate::default(), NOW);
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
