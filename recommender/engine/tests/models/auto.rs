//! How `Auto` chooses.

use recommender_engine::{Algorithm, EngineConfig, Query, Reader, Tuning, Writer, engine};

use super::{NOW, view};

fn auto() -> (Writer, Reader) {
    let tuning = Tuning {
        algorithm: Algorithm::Auto,
        ..Tuning::default()
    };
    engine(EngineConfig {
        tuning,
        ..EngineConfig::default()
    })
    .expect("the tuning is valid")
}

#[test]
fn auto_measures_the_models_on_the_events_that_it_learns() {
    let (mut writer, reader) = auto();
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
        let (mut writer, reader) = auto();
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
