//! What is refused, what makes room, and how far the cap on pairs moves answers.

use std::collections::BTreeMap;

use proptest::prelude::*;
use recommender_engine::{
    Applied, EngineConfig, EventKind, Interaction, Limits, PastEvent, Rate, Reader, Writer, engine, owner,
};

use super::{Event, HOUR, NOW, empty};

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

/// Two engines and what is kept elsewhere of the customers that the first lets go of: all but the last.
struct Both<'a> {
    writer: Writer,
    reader: Reader,
    held: Writer,
    expected: Reader,
    kept: BTreeMap<&'a str, Vec<PastEvent<'a>>>,
}

impl<'a> Both<'a> {
    fn new(config: &EngineConfig) -> Self {
        let (held, expected) = engine(config.clone()).expect("it is valid");
        let (writer, reader) = engine(EngineConfig {
            recalls: true,
            limits: Limits {
                max_customers: 1,
                ..config.limits
            },
            ..config.clone()
        })
        .expect("it is valid");
        Both {
            writer,
            reader,
            held,
            expected,
            kept: BTreeMap::new(),
        }
    }

    /// Learns events as the service does: those that are learned are kept.
    fn learn(&mut self, events: &[Interaction<'a>]) -> Vec<Applied> {
        let mut rates: BTreeMap<&str, Rate> = BTreeMap::new();
        let mut past = Vec::new();
        for event in events {
            let rate = rates
                .entry(event.customer)
                .or_insert_with(|| self.writer.rate(event.customer));
            past.push(self.writer.past(event, rate, NOW));
        }
        for customer in rates.keys() {
            let kept = self.kept.get(customer).into_iter().flatten();
            self.writer.recall(customer, kept.copied());
        }
        let mut outcomes = Vec::new();
        for (event, past) in events.iter().zip(past) {
            let outcome = self.writer.apply(event, NOW);
            assert_eq!(outcome, self.held.apply(event, NOW));
            assert!(past.is_some() || outcome != Applied::Learned, "{event:?} is lost");
            self.kept.entry(event.customer).or_default().extend(past);
            outcomes.push(outcome);
        }
        self.writer.let_go();
        outcomes
    }

    fn answer_the_same(&mut self, products: &[&str]) {
        self.writer.flush(NOW);
        self.held.flush(NOW);
        let (reader, expected) = (&self.reader, &self.expected);
        for product in products {
            assert_eq!(reader.similar(product, 9), expected.similar(product, 9));
        }
        assert_eq!(reader.trending(9, None, NOW), expected.trending(9, None, NOW));
    }
}

#[test]
fn of_a_robot_let_go_of_little_more_is_kept_than_was_learned_and_it_is_excluded_as_if_held() {
    let mut both = Both::new(&EngineConfig {
        max_events_per_minute: 3,
        exclude_after_damped: 40,
        ..EngineConfig::default()
    });
    let products = ["mug", "cup", "pot", "jug"];
    let event = |n: i64, customer| {
        let product = products[n as usize % 4];
        Interaction::new(customer, product, EventKind::Purchase, NOW - HOUR + n * 1_000)
    };
    // Forty seconds of a minute and sixty of the next, by sevens; before every second seven the robot is let go of.
    for batch in (0..100).collect::<Vec<i64>>().chunks(7) {
        let calm = (batch[0] % 2 == 0).then(|| event(batch[0], "ann"));
        let events: Vec<Interaction<'_>> = batch.iter().map(|n| event(*n, "robot")).chain(calm).collect();
        both.learn(&events);
    }
    assert!(both.writer.excludes(owner("robot")));
    both.answer_the_same(&products);
    assert_eq!(both.kept["robot"].len(), 15);
}

proptest! {
    /// Minutes in any order, returns, and histories so short that much is too old for them.
    #[test]
    fn whatever_is_learned_is_kept_and_recalled_as_if_held(
        events in prop::collection::vec((0..3usize, 0..8usize, 0..4i64, any::<bool>()), 1..120),
        at_once in 1..20usize,
    ) {
        let products = ["mug", "cup", "pot", "jug", "lid", "jar", "pan", "tin"];
        let mut both = Both::new(&EngineConfig {
            max_events_per_minute: 3,
            limits: Limits {
                learn_history: 4,
                ..Limits::default()
            },
            ..EngineConfig::default()
        });
        let events: Vec<Interaction<'_>> = events.iter().zip(0..).map(|((who, what, minute, is_return), n)| {
            let kind = if *is_return { EventKind::Return } else { EventKind::Purchase };
            Interaction::new(["ann", "bob", "eve"][*who], products[*what], kind, NOW - HOUR + minute * 60_000 + n)
        }).collect();
        for events in events.chunks(at_once) {
            both.learn(events);
        }
        both.answer_the_same(&products);
    }
}
