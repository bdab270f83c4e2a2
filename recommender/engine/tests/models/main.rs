//! Models beyond the counted ones: content, rules, sessions, fitted artefacts, the choice of `Auto`; and
//! readers beside a busy writer.

mod auto;
mod catalogue;
mod fitted;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use recommender_engine::{
    Algorithm, Applied, Attributes, Bm25, Effect, EngineConfig, EventKind, Fallback, Gathered, Interaction,
    KnowledgeRule, ProductMeta, Query, Reader, Reason, Similarity, Tuning, Writer, engine,
};

const NOW: i64 = 1_700_000_000_000;
const MINUTE: i64 = 60_000;

fn plain() -> (Writer, Reader) {
    let tuning = Tuning {
        diversity: 0.0,
        exploration: 0.0,
        ..Tuning::default()
    };
    engine(EngineConfig {
        tuning,
        ..EngineConfig::default()
    })
    .expect("the tuning is valid")
}

fn view(writer: &mut Writer, customer: &str, product: &str, time_ms: i64) {
    writer.apply(
        &Interaction::new(customer, product, EventKind::View, time_ms),
        NOW,
    );
}

fn names(reader: &Reader, query: &Query<'_>) -> Vec<String> {
    reader
        .recommend(query)
        .items
        .iter()
        .map(|item| item.product.to_string())
        .collect()
}

fn attributes(name: &str, value: &str) -> Attributes {
    BTreeMap::from([(name.to_owned(), vec![value.to_owned()])])
}

#[test]
fn a_reason_names_up_to_three_products_with_which_the_customer_did_the_same() {
    let (mut writer, reader) = plain();
    for n in 0..20 {
        for product in ["a", "b", "c", "d", "wanted"] {
            view(&mut writer, &format!("c{n}"), product, NOW - MINUTE);
        }
        view(&mut writer, &format!("other{n}"), &format!("p{n}"), NOW - MINUTE);
    }
    for product in ["a", "b", "c", "d"] {
        view(&mut writer, "ann", product, NOW);
    }
    writer.apply(&Interaction::new("ann", "b", EventKind::Purchase, NOW), NOW);
    writer.flush(NOW);
    let query = Query {
        customer: Some("ann"),
        algorithm: Some(Algorithm::ItemKnn),
        limit: 1,
        now_ms: NOW,
        ..Query::default()
    };
    let answer = reader.recommend(&query);
    assert_eq!(&*answer.items[0].product, "wanted");
    let because = |recent: &[&str], kind, count| {
        let items = reader
            .recommend(&Query {
                recent,
                ..query.clone()
            })
            .items;
        let Reason::BecauseOf { products, kind: done } = &items[0].reason else {
            panic!("{:?}", items[0].reason);
        };
        assert_eq!((*done, products.len()), (kind, count), "{products:?}");
        assert!(kind == EventKind::Purchase || !products.contains(&"b".into()));
    };
    because(&[], EventKind::Purchase, 1);
    because(&["a"], EventKind::View, 3);
}

#[test]
fn bm25_and_shrinkage_are_chosen_by_configuration() {
    let similar = |config: EngineConfig| {
        let (mut writer, reader) = engine(config).expect("it is valid");
        for n in 0..30 {
            let customer = format!("c{n}");
            // The bestseller shares six customers with the niche; the twin shares five and has no others.
            view(&mut writer, &customer, "bestseller", NOW);
            if n < 6 {
                view(&mut writer, &customer, "niche", NOW);
            }
            if (1..6).contains(&n) {
                view(&mut writer, &customer, "twin", NOW);
            }
        }
        writer.flush(NOW);
        reader.similar("niche", 2)
    };
    let bm25 = |b| EngineConfig {
        similarity: Similarity::Bm25,
        bm25: Bm25 { k1: 10.0, b },
        damping: false,
        shrinkage: 0.0,
        ..EngineConfig::default()
    };
    assert_eq!(&*similar(EngineConfig::default())[0].product, "twin");
    // Without normalisation of length, BM25 counts common customers.
    let plain = similar(bm25(0.0));
    assert_eq!((&*plain[0].product, plain[0].score), ("bestseller", 6.0));
    assert_eq!(&*similar(bm25(1.0))[0].product, "twin");
}

#[test]
fn who_acts_faster_than_people_is_excluded_as_if_never_seen_online_and_in_bulk() {
    let config = EngineConfig {
        max_events_per_minute: 10,
        exclude_after_damped: 20,
        ..EngineConfig::default()
    };
    let products: Vec<String> = (0..100).map(|n| format!("p{n}")).collect();
    let mut events = Vec::new();
    for (n, product) in products.iter().enumerate() {
        events.push(Interaction::new(
            "robot",
            product,
            EventKind::View,
            NOW + n as i64,
        ));
    }
    for product in &products[..12] {
        events.push(Interaction::new("hasty", product, EventKind::View, NOW));
    }
    let (mut one, reader) = engine(config.clone()).expect("it is valid");
    for event in &events {
        one.apply(event, NOW);
    }
    one.flush(NOW);
    let (mut other, bulk) = engine(config.clone()).expect("it is valid");
    other.bulk(events.iter().copied(), NOW);
    let (mut third, on_threads) = engine(config).expect("it is valid");
    let mut gathered = Gathered::default();
    for event in &events {
        third.gather(&mut gathered, event, NOW);
    }
    assert_eq!(third.learn_gathered(gathered, NOW, 3).learned, 20);
    for stats in [reader.stats(), bulk.stats(), on_threads.stats()] {
        assert_eq!((stats.damped, stats.damped_customers), (22, 2));
        assert_eq!((stats.excluded, stats.excluded_customers), (70, 1));
        assert_eq!((stats.customers, stats.pairs), (1, 10 * 9));
    }
    assert_eq!(reader.customer_history("robot"), None);
    assert_eq!(reader.trending(20, None, NOW), bulk.trending(20, None, NOW));
    // Erased, they may come back.
    one.erase("robot");
    let event = Interaction::new("robot", "p1", EventKind::View, NOW);
    assert_eq!(one.apply(&event, NOW), Applied::Learned);
}

#[test]
fn rules_leave_out_and_prefer_by_profile_and_erasing_forgets_the_profile() {
    let (mut writer, reader) = plain();
    for (id, skin) in [("rich-cream", "dry"), ("light-gel", "oily")] {
        let meta = ProductMeta {
            attributes: attributes("for_skin", skin),
            ..ProductMeta::titled(id)
        };
        writer.set_product(id, Some(meta));
    }
    for customer in ["x", "y", "z"] {
        view(&mut writer, customer, "light-gel", NOW - MINUTE);
    }
    view(&mut writer, "x", "rich-cream", NOW - MINUTE);
    writer.set_knowledge(vec![KnowledgeRule {
        customer_attribute: "skin".into(),
        product_attribute: "for_skin".into(),
        effect: Effect::Must,
        weight: 1.0,
    }]);
    writer.set_profile("ann", Some(attributes("skin", "Dry")));
    writer.flush(NOW);
    let query = Query {
        customer: Some("ann"),
        limit: 5,
        now_ms: NOW,
        ..Query::default()
    };
    assert_eq!(names(&reader, &query), ["rich-cream"]);
    let knowledge = Query {
        algorithm: Some(Algorithm::Knowledge),
        ..query.clone()
    };
    let answer = reader.recommend(&knowledge);
    assert_eq!((&*answer.items[0].product, answer.items.len()), ("rich-cream", 1));
    assert_eq!(answer.fallback, Fallback::Personal);
    assert_eq!(
        answer.items[0].reason,
        Reason::SuitsProfile {
            customer_attribute: "skin".into(),
            product_attribute: "for_skin".into(),
            value: "dry".into(),
        }
    );
    assert!(writer.erase("ann"));
    assert_eq!(names(&reader, &query), ["light-gel", "rich-cream"]);
}

#[test]
fn finished_visits_answer_for_those_who_are_on_the_same_way() {
    let (mut writer, reader) = plain();
    for n in 0..5 {
        for (step, product) in ["tent", "stove", "lamp"].into_iter().enumerate() {
            view(
                &mut writer,
                &format!("camper{n}"),
                product,
                NOW - 90 * MINUTE + step as i64 * 1_000,
            );
        }
    }
    // A later event tells that the visits above have ended.
    view(&mut writer, "ann", "tent", NOW);
    writer.publish(NOW, 1_000);
    let visit = Query {
        recent: &["tent", "stove"],
        algorithm: Some(Algorithm::SessionKnn),
        limit: 1,
        now_ms: NOW,
        ..Query::default()
    };
    let answer = reader.recommend(&visit);
    assert_eq!(
        (&*answer.items[0].product, answer.fallback),
        ("lamp", Fallback::Session)
    );
    for n in 0..5 {
        writer.erase(&format!("camper{n}"));
    }
    writer.publish(NOW + 2_000, 1_000);
    assert!(
        names(&reader, &visit).iter().all(|name| name != "lamp"),
        "erased visits no longer answer"
    );
}

#[test]
fn what_was_seen_comes_first_only_where_visits_go_back_to_it() {
    for goes_back in [false, true] {
        let (mut writer, reader) = plain();
        for visit in 0..1_000 {
            let way = if goes_back {
                [0, 1, 2, 0, 1]
            } else {
                [0, 1, 2, 3, 4]
            };
            for (step, at) in way.into_iter().enumerate() {
                let (customer, product) = (format!("c{visit}"), format!("p{}", (visit + at) % 20));
                view(&mut writer, &customer, &product, visit * 1_000 + step as i64);
            }
        }
        view(&mut writer, "ann", "p0", NOW);
        writer.publish(NOW, 1_000);
        let seen = ["p5", "p6", "p7"];
        let visit = Query {
            recent: &seen,
            exclude_recent: false,
            algorithm: Some(Algorithm::SessionKnn),
            limit: 1,
            now_ms: NOW,
            ..Query::default()
        };
        let first = names(&reader, &visit).remove(0);
        assert_eq!(seen.contains(&&*first), goes_back, "{first}");
    }
}

#[test]
fn readers_answer_while_the_writer_learns_erases_and_swaps() {
    let (mut writer, reader) = plain();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (reader, done) = (reader.clone(), &done);
            scope.spawn(move || {
                let mut asked = 0u64;
                while !done.load(Ordering::Relaxed) || asked == 0 {
                    let customer = format!("c{}", (asked + thread) % 50);
                    let query = Query {
                        customer: Some(&customer),
                        limit: 10,
                        now_ms: NOW,
                        ..Query::default()
                    };
                    for item in reader.recommend(&query).items {
                        assert!(item.score.is_finite());
                    }
                    reader.similar("p1", 5);
                    asked += 1;
                }
            });
        }
        for n in 0..5_000u64 {
            let (customer, product) = (format!("c{}", n * 31 % 50), format!("p{}", n * n % 500));
            view(&mut writer, &customer, &product, NOW - 1_000_000 + n as i64);
            if n % 50 == 0 {
                writer.publish(NOW + n as i64, 100);
            }
            if n % 500 == 0 {
                writer.erase(&customer);
                writer
                    .tune(Tuning {
                        history_length: 10 + n as usize / 500,
                        ..Tuning::default()
                    })
                    .unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    writer.flush(NOW);
    assert_eq!(reader.stats().learned, 5_000);
}
