//! An engine that counts no pairs: what it answers from visits and popularity, it answers as any other does, whatever
//! became of its log; the rest it leaves to the blend.

use proptest::prelude::*;
use recommender_engine::{
    Algorithm, EngineConfig, HistoryItem, Limits, Query, Reader, Scored, engine, snapshot,
};

use super::visits::{in_visit, visits};
use super::{Event, NOW};

fn config(row_capacity: usize) -> EngineConfig {
    let limits = Limits {
        row_capacity,
        ..Limits::default()
    };
    EngineConfig {
        limits,
        ..EngineConfig::default()
    }
}

/// Learns half, is written down and read back, has a customer take in another, learns the rest and forgets one.
fn lived(config: EngineConfig, events: &[(Event, bool)], victim: &str) -> Reader {
    let (mut writer, _) = engine(config.clone()).expect("the configuration is valid");
    let (before, after) = events.split_at(events.len() / 2);
    for event in before {
        writer.apply(&in_visit(event), NOW);
    }
    let mut bytes = Vec::new();
    writer.write_snapshot(&mut bytes).expect("memory takes all");
    let (mut writer, reader) = snapshot::read(config, &mut &bytes[..]).expect("it was written just now");
    writer.merge("c1", "c2");
    for event in after {
        writer.apply(&in_visit(event), NOW);
    }
    writer.erase(victim);
    writer.flush(NOW);
    reader
}

fn query<'a>(customer: &'a str, algorithm: Algorithm) -> Query<'a> {
    Query {
        customer: Some(customer),
        algorithm: Some(algorithm),
        limit: 20,
        diversity: Some(0.0),
        exploration: Some(0.0),
        now_ms: NOW,
        ..Query::default()
    }
}

fn told(reader: &Reader) -> Vec<(Option<Vec<HistoryItem>>, Vec<Scored>)> {
    let customers = (0..6).map(|n| format!("c{n}"));
    let answers = customers.map(|customer| {
        let items = [Algorithm::SessionKnn, Algorithm::Popularity]
            .into_iter()
            .flat_map(|algorithm| reader.recommend(&query(&customer, algorithm)).items);
        (
            reader.customer_history(&customer),
            items.map(unexplained).collect(),
        )
    });
    answers.collect()
}

/// Further products that speak for an answer are found by pairs.
fn unexplained(item: Scored) -> Scored {
    Scored {
        reason: recommender_engine::Reason::Untold,
        ..item
    }
}

proptest! {
    // A failure prints its input; nothing is written beside the tests.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn without_pairs_visits_and_popularity_answer_as_with_them(events in visits(), victim in 0u32..6) {
        let victim = format!("c{victim}");
        let with = lived(config(Limits::default().row_capacity), &events, &victim);
        let without = lived(config(0), &events, &victim);
        prop_assert_eq!(told(&with), told(&without));
        prop_assert_eq!(without.stats().pairs, 0);
        prop_assert!(without.similar("p1", 20).is_empty());
    }
}

#[test]
fn without_pairs_the_blend_answers_for_lists_and_nobody_says_that_products_are_unlike() {
    let events: Vec<(Event, bool)> = (0..60)
        .map(|n| {
            let event = Event {
                customer: format!("c{}", n % 6),
                product: format!("p{}", n % 10),
                kind: recommender_engine::EventKind::View,
                time_ms: NOW - (60 - n) * 60_000,
            };
            (event, false)
        })
        .collect();
    let with = lived(config(Limits::default().row_capacity), &events, "nobody");
    let without = lived(config(0), &events, "nobody");
    for algorithm in [Algorithm::ItemKnn, Algorithm::Rp3Beta] {
        let asked = query("c3", algorithm);
        assert_eq!(with.recommend(&asked).algorithm, algorithm);
        let answer = without.recommend(&asked);
        assert_eq!(answer.algorithm, Algorithm::Hybrid, "{algorithm:?}");
        assert_eq!(
            answer.items,
            without.recommend(&query("c3", Algorithm::Hybrid)).items
        );
    }
    let list = ["p1", "p2", "p3"];
    assert!(with.variety(&list).is_some());
    assert_eq!(without.variety(&list), None);
}
