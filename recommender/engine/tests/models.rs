//! Models beyond the counted ones: content, rules, sessions, fitted artefacts, the choice of `Auto`; and
//! readers beside a busy writer.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use recommender_engine::{
    Algorithm, Applied, Artifact, Attributes, Bm25, Effect, EngineConfig, EventKind, Fallback, Gathered,
    Interaction, KnowledgeRule, ProductMeta, Query, Reader, Reason, Similarity, Tuning, Writer, engine,
    eval::{AlsParams, EaseParams},
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
fn a_new_product_is_recommended_for_its_words_before_its_first_event() {
    let (mut writer, reader) = plain();
    for (id, title) in [
        ("a", "Blue ceramic mug"),
        ("b", "Green ceramic mug"),
        ("c", "Garden hose"),
    ] {
        writer.set_product(id, Some(ProductMeta::titled(title)));
    }
    view(&mut writer, "ann", "a", NOW - MINUTE);
    writer.flush(NOW);
    let query = Query {
        customer: Some("ann"),
        limit: 5,
        now_ms: NOW,
        ..Query::default()
    };
    let content = Query {
        algorithm: Some(Algorithm::Content),
        ..query.clone()
    };
    assert!(names(&reader, &content).contains(&"b".to_owned()));
    assert!(!names(&reader, &content).contains(&"c".to_owned()));
    assert!(
        names(&reader, &query).contains(&"b".to_owned()),
        "the blend has it too"
    );
}

/// Two hundred products known by events, in ten categories, and as many customers.
fn established() -> (Writer, Reader) {
    let (mut writer, reader) = plain();
    for product in 0..200 {
        let meta = ProductMeta {
            category: Some(format!("category {}", product % 10)),
            embedding: Some(direction(product % 10, 0.01 * (product / 10) as f32)),
            ..ProductMeta::titled(format!("thing number {product}"))
        };
        writer.set_product(&format!("p{product}"), Some(meta));
    }
    for customer in 0..200 {
        for step in 0..6 {
            let product = (customer * 7 + step * 10) % 200;
            view(
                &mut writer,
                &format!("c{customer}"),
                &format!("p{product}"),
                NOW - MINUTE,
            );
        }
    }
    writer.flush(NOW);
    (writer, reader)
}

/// Mostly along one of ten axes, a little along the last.
fn direction(axis: usize, last: f32) -> Vec<f32> {
    let mut vector = vec![0.0; 11];
    (vector[axis], vector[10]) = (1.0, last);
    vector
}

#[test]
fn a_product_catalogued_a_moment_ago_is_shown_to_customers_of_similar_ones_and_as_similar() {
    let (mut writer, reader) = established();
    // Nothing but its embedding says what it is.
    let new = ProductMeta {
        embedding: Some(direction(3, 0.1)),
        available: true,
        ..ProductMeta::default()
    };
    writer.set_product("brand-new", Some(new));
    let later = NOW + 1_000;
    writer.publish(later, 100);
    let query = |customer| Query {
        customer: Some(customer),
        limit: 10,
        now_ms: later,
        ..Query::default()
    };
    let content = |customer| Query {
        algorithm: Some(Algorithm::Content),
        limit: 25,
        ..query(customer)
    };
    // c9 looked at p63, p73 and so on, all of category 3; c0 at products of category 0.
    let shown = reader.recommend(&content("c9"));
    let item = shown.items.iter().find(|item| &*item.product == "brand-new");
    let item = item.expect("the embedding is close to what c9 looked at");
    assert!(matches!(&item.reason, Reason::BecauseOf { products, .. } if products[0].ends_with('3')));
    assert!(!names(&reader, &content("c0")).contains(&"brand-new".to_owned()));
    let similar: Vec<Arc<str>> = reader
        .similar("p63", 10)
        .into_iter()
        .map(|item| item.product)
        .collect();
    assert!(similar.contains(&"brand-new".into()), "{similar:?}");
    assert!(
        !reader
            .similar("p60", 10)
            .iter()
            .any(|item| &*item.product == "brand-new")
    );
    // The blend tries it out where it explores: about half of its draws are of new products.
    let tried = (0..50).any(|hour| {
        let query = Query {
            exploration: Some(0.2),
            now_ms: later + hour * 3_600_000,
            ..query("c9")
        };
        let items = reader.recommend(&query).items;
        items
            .iter()
            .any(|item| &*item.product == "brand-new" && item.explored && item.probability < 0.2)
    });
    assert!(tried);
}

#[test]
fn embeddings_of_another_length_are_reported() {
    let (mut writer, reader) = plain();
    for (id, vector) in [("a", vec![1.0, 0.0]), ("b", vec![0.0, 1.0]), ("c", vec![1.0])] {
        let meta = ProductMeta {
            embedding: Some(vector),
            ..ProductMeta::titled(id)
        };
        writer.set_product(id, Some(meta));
    }
    writer.publish(NOW, 10);
    assert_eq!(reader.stats().ignored_embeddings, 1);
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
fn what_the_catalogue_labels_as_no_product_is_neither_learned_nor_shown_nor_a_reason() {
    let (mut writer, reader) = plain();
    for n in 0..5 {
        for product in ["postage", "mug"] {
            view(&mut writer, &format!("c{n}"), product, NOW - MINUTE);
        }
    }
    let postage = ProductMeta {
        tags: vec!["Not-a-Product".into()],
        ..ProductMeta::titled("Postage")
    };
    writer.set_product("postage", Some(postage));
    let event = Interaction::new("ann", "postage", EventKind::Purchase, NOW);
    assert_eq!(writer.apply(&event, NOW), Applied::NonProduct);
    writer.flush(NOW);
    assert_eq!(
        (reader.stats().labelled_non_products, reader.stats().non_products),
        (1, 1)
    );
    let trending: Vec<_> = reader
        .trending(5, None, NOW)
        .into_iter()
        .map(|item| item.product)
        .collect();
    assert_eq!(trending, ["mug".into()]);
    assert!(reader.similar("mug", 5).is_empty());
    writer.set_product("postage", Some(ProductMeta::titled("A stamp after all")));
    assert_eq!(reader.stats().labelled_non_products, 0);
    assert_eq!(reader.similar("mug", 5).len(), 1);
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

fn two_tastes() -> (Writer, Reader) {
    let (mut writer, reader) = plain();
    for n in 0..40 {
        let from = if n % 2 == 0 { 0 } else { 4 };
        for product in (from..from + 4).filter(|product| product % 4 != n / 2 % 4) {
            let (customer, product) = (format!("c{n:02}"), format!("p{product}"));
            writer.apply(
                &Interaction::new(&customer, &product, EventKind::Purchase, NOW - MINUTE),
                NOW,
            );
        }
    }
    writer.flush(NOW);
    (writer, reader)
}

#[test]
fn fitted_models_survive_writing_and_reading_and_answer_once_installed() {
    let (mut writer, reader) = two_tastes();
    let data = reader.training_data(NOW, i64::MAX / 4);
    assert_eq!((data.products.len(), data.interactions.rows()), (8, 40));
    let ease = Artifact::ease(
        &data,
        &EaseParams {
            regularization: 1.0,
            ..EaseParams::default()
        },
        "e1",
        NOW,
    );
    let params = AlsParams {
        factors: 2,
        regularization: 0.05,
        ..AlsParams::default()
    };
    let artifacts = [
        ease.expect("eight products are few"),
        Artifact::implicit_als(&data, &params, 2, "a1", NOW),
    ];
    for artifact in artifacts {
        let algorithm = artifact.algorithm();
        let query = Query {
            customer: Some("c00"),
            algorithm: Some(algorithm),
            limit: 1,
            now_ms: NOW,
            ..Query::default()
        };
        assert_eq!(
            reader.recommend(&query).algorithm,
            Algorithm::Hybrid,
            "not fitted yet"
        );
        let bytes = artifact.to_bytes().expect("it can be written");
        let read = Artifact::from_bytes(&bytes).expect("it can be read back");
        assert_eq!(read, artifact);
        writer.install(&read);
        let answer = reader.recommend(&query);
        assert_eq!((&*answer.items[0].product, answer.algorithm), ("p0", algorithm));
        assert_eq!(
            answer.fallback,
            Fallback::Personal,
            "it says which product speaks for it"
        );
        let mut damaged = bytes.clone();
        damaged[40] ^= 1;
        let refused = Artifact::from_bytes(&damaged).expect_err("a flipped bit is found");
        assert_eq!(
            refused.to_string(),
            "the model artefact is damaged: its checksum differs"
        );
    }
    assert_eq!(reader.fitted().len(), 2);
    writer.uninstall(Algorithm::Ease);
    assert_eq!(reader.fitted(), [(Algorithm::ImplicitAls, "a1".to_owned())]);
}

#[test]
fn replicas_that_learned_in_another_order_fit_the_same_model() {
    let (_one, reader) = two_tastes();
    let (mut other, second) = plain();
    for n in (0..40).rev() {
        for item in reader.customer_history(&format!("c{n:02}")).unwrap() {
            let customer = format!("c{n:02}");
            other.apply(
                &Interaction::new(&customer, &item.product, EventKind::Purchase, item.last_ms),
                NOW,
            );
        }
    }
    assert_eq!(
        reader.training_data(NOW, 1_000_000),
        second.training_data(NOW, 1_000_000)
    );
}

#[test]
fn auto_measures_the_models_on_the_events_that_it_learns() {
    let tuning = Tuning {
        algorithm: Algorithm::Auto,
        ..Tuning::default()
    };
    let (mut writer, reader) = engine(EngineConfig {
        tuning,
        ..EngineConfig::default()
    })
    .unwrap();
    for n in 0..4_000i64 {
        let customer = format!("c{n}");
        // Forty pairs of products: whoever takes the first takes the second.
        for product in [format!("first{}", n % 40), format!("second{}", n % 40)] {
            view(&mut writer, &customer, &product, NOW - 4_000_000 + n * 1_000);
        }
        if n % 100 == 0 {
            writer.publish(NOW + n, 10_000);
        }
    }
    let rates = reader.hit_rates();
    let rate = |algorithm| rates.iter().find(|rate| rate.algorithm == algorithm).unwrap();
    assert!(rate(Algorithm::ItemKnn).predictions > 10);
    assert!(rate(Algorithm::ItemKnn).hit_rate_at_10 > 0.9, "{rates:?}");
    assert!(rate(Algorithm::ItemKnn).hit_rate_at_10 > rate(Algorithm::Popularity).hit_rate_at_10);
    let answer = reader.recommend(&Query {
        customer: Some("c7"),
        now_ms: NOW,
        ..Query::default()
    });
    assert_ne!(answer.algorithm, Algorithm::Auto);
}

#[test]
fn auto_chooses_the_same_whenever_readers_were_shown_what_was_learned() {
    let run = |batch: i64, rows: usize| {
        let tuning = Tuning {
            algorithm: Algorithm::Auto,
            ..Tuning::default()
        };
        let (mut writer, reader) = engine(EngineConfig {
            tuning,
            ..EngineConfig::default()
        })
        .expect("the tuning is valid");
        let mut chosen = Vec::new();
        for n in 0..8_000i64 {
            let customer = format!("c{}", n * 7_919 % 900);
            // Thirty tastes of twenty products each, a customer's taste one after the other.
            let product = format!("p{}", (n * 7_919 % 900 % 30) * 20 + (n * 31 + n / 900 * 3) % 20);
            view(&mut writer, &customer, &product, NOW - 8_000_000 + n * 1_000);
            if n % batch == 0 {
                writer.publish(NOW + n, rows);
            }
            if n % 1_000 == 999 {
                let query = Query {
                    customer: Some("c7"),
                    now_ms: NOW,
                    ..Query::default()
                };
                chosen.push(reader.recommend(&query).algorithm);
            }
        }
        (chosen, reader.hit_rates())
    };
    let (often, seldom) = (run(1, 10_000), run(700, 3));
    assert!(often.1.iter().any(|rate| rate.predictions > 20), "{:?}", often.1);
    assert_eq!(often, seldom);
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
