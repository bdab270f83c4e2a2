//! How far answers are off when the caps on memory and time bind: those of an engine with a cap beside those of one
//! without, over the same log.

use recommender_engine::{Algorithm, EngineConfig, EventKind, Interaction, Query, Reader, engine};

const NOW: i64 = 1_700_000_000_000;
const MINUTE: i64 = 60_000;
const CUSTOMERS: usize = 600;
const VISITS: u64 = 4;
const EACH: u64 = 4;
/// Length of the answers.
const TOP: usize = 10;

/// Customers with tastes: products of a group go together, with noise; visits of a few minutes, a day apart.
fn log() -> Vec<(String, String, i64)> {
    let mut state = 7u64;
    let mut draw = move |n: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let mut events = Vec::new();
    for customer in 0..CUSTOMERS {
        let group = draw(10);
        for visit in 0..VISITS {
            for at in 0..EACH {
                let product = match draw(4) {
                    0 => draw(300),
                    _ => group * 30 + draw(30),
                };
                let time_ms = NOW - ((VISITS - visit) * 24 * 60 + EACH - at) as i64 * MINUTE;
                events.push((format!("c{customer}"), format!("p{product}"), time_ms));
            }
        }
    }
    // As they came, not customer by customer.
    events.sort_by_key(|(_, _, time_ms)| *time_ms);
    events
}

fn learned(log: &[(String, String, i64)], config: &EngineConfig) -> Reader {
    let (mut writer, reader) = engine(config.clone()).expect("the configuration is valid");
    for (customer, product, time_ms) in log {
        writer.apply(
            &Interaction::new(customer, product, EventKind::View, *time_ms),
            NOW,
        );
    }
    writer.flush(NOW);
    reader
}

fn answers(reader: &Reader, algorithm: Algorithm) -> Vec<Vec<String>> {
    let answer = |customer: usize| {
        let query = Query {
            customer: Some(&format!("c{customer}")),
            algorithm: Some(algorithm),
            limit: TOP,
            diversity: Some(0.0),
            exploration: Some(0.0),
            now_ms: NOW,
            ..Query::default()
        };
        let items = reader.recommend(&query).items;
        items.iter().map(|item| item.product.to_string()).collect()
    };
    (0..CUSTOMERS).map(answer).collect()
}

/// Checks the share of what is recommended without a cap that still is with it: at least `least`, and not all of it,
/// for else the cap would not bind.
fn stays(cap: &str, algorithm: Algorithm, least: f64, set: impl FnOnce(&mut EngineConfig)) {
    let log = log();
    let exact = EngineConfig::default();
    let mut capped = exact.clone();
    set(&mut capped);
    let exact = answers(&learned(&log, &exact), algorithm);
    let capped = answers(&learned(&log, &capped), algorithm);
    let (mut kept, mut all) = (0, 0);
    for (exact, capped) in exact.iter().zip(&capped) {
        all += exact.len();
        kept += exact.iter().filter(|product| capped.contains(product)).count();
    }
    let share = kept as f64 / all as f64;
    println!(
        "{}, {cap}: {:.1} % of the first ten stay",
        algorithm.name(),
        share * 100.0
    );
    assert_eq!(all, CUSTOMERS * TOP);
    assert!(share < 1.0, "{cap} does not bind");
    assert!(share >= least, "{cap}: {share}");
}

#[test]
fn with_a_third_of_the_neighbours_most_recommendations_stay() {
    for (algorithm, least) in [(Algorithm::ItemKnn, 0.85), (Algorithm::Rp3Beta, 0.85)] {
        stays("30 of about 100 neighbours", algorithm, least, |config| {
            config.neighbors = 30
        });
    }
}

#[test]
fn with_half_of_the_postings_most_recommendations_of_the_session_model_stay() {
    stays("20 of about 30 postings", Algorithm::SessionKnn, 0.85, |config| {
        config.limits.postings = 20;
    });
}

#[test]
fn with_half_of_the_visits_most_recommendations_of_the_session_model_stay() {
    stays("1,200 of 2,400 visits", Algorithm::SessionKnn, 0.8, |config| {
        config.limits.max_sessions = 1_200;
    });
}

#[test]
fn with_half_of_each_history_in_pairs_most_recommendations_stay() {
    for algorithm in [Algorithm::ItemKnn, Algorithm::Rp3Beta] {
        stays("8 of 16 products counted in pairs", algorithm, 0.55, |config| {
            config.limits.pair_history = 8;
        });
    }
}

#[test]
fn with_half_of_each_history_kept_most_recommendations_stay() {
    for algorithm in [Algorithm::ItemKnn, Algorithm::Rp3Beta] {
        stays("8 of 16 products kept", algorithm, 0.5, |config| {
            (config.limits.learn_history, config.limits.pair_history) = (8, 8);
        });
    }
}

#[test]
fn answers_from_half_of_each_history_are_mostly_the_same() {
    stays(
        "8 of 16 products answered from",
        Algorithm::ItemKnn,
        0.7,
        |config| {
            config.tuning.history_length = 8;
        },
    );
}

#[test]
fn with_half_of_the_counts_of_each_product_most_recommendations_stay() {
    for algorithm in [Algorithm::ItemKnn, Algorithm::Rp3Beta] {
        stays("at most 100 counts of a product", algorithm, 0.85, |config| {
            config.limits.row_capacity = 100;
        });
    }
}

#[test]
fn without_pairs_visits_and_popularity_answer_as_they_would_with_them() {
    let log = log();
    let exact = EngineConfig::default();
    let mut capped = exact.clone();
    capped.limits.row_capacity = 0;
    let (exact, without) = (learned(&log, &exact), learned(&log, &capped));
    for algorithm in [Algorithm::SessionKnn, Algorithm::Popularity] {
        assert_eq!(
            answers(&without, algorithm),
            answers(&exact, algorithm),
            "{algorithm:?}"
        );
    }
    // Who asks for the rest gets what there is.
    let similar = |reader: &Reader| reader.similar("p1", TOP).len();
    assert_eq!(
        (without.stats().pairs, similar(&without), similar(&exact)),
        (0, 0, TOP)
    );
    assert!(
        answers(&without, Algorithm::Hybrid)
            .iter()
            .all(|items| items.len() == TOP)
    );
    let (mut writer, in_bulk) = engine(capped).expect("the configuration is valid");
    let events = log
        .iter()
        .map(|(customer, product, time_ms)| Interaction::new(customer, product, EventKind::View, *time_ms));
    writer.bulk(events, NOW);
    let algorithm = Algorithm::SessionKnn;
    assert_eq!(answers(&in_bulk, algorithm), answers(&without, algorithm));
    assert_eq!(in_bulk.stats().pairs, 0);
    assert!(writer.erase("c1"));
    writer.flush(NOW);
    assert_eq!(in_bulk.stats().pairs, 0);
}
