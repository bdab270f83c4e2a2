//! Models that users bring: the small files of `onnx/` (made by `onnx/make.py`), whose answers are worked out by
//! hand.

#![cfg(feature = "onnx")]

use recommender_engine::{
    Algorithm, EngineConfig, EventKind, Fallback, Interaction, OnnxArtifact, OnnxError, OnnxModel,
    ProductMeta, Query, Reader, Tuning, Writer, engine,
};

const NOW: i64 = 1_700_000_000_000;

fn file(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/onnx/{name}.onnx", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).expect("the file is beside the test")
}

fn read(name: &str) -> Result<OnnxArtifact, OnnxError> {
    OnnxModel::read(&file(name), None, name)
}

/// Prices 1, 2, 4 and 8, embeddings as in the models, and a customer who looked at the cup.
fn shop() -> (Writer, Reader) {
    let tuning = Tuning {
        algorithm: Algorithm::Onnx,
        diversity: 0.0,
        exploration: 0.0,
        ..Tuning::default()
    };
    let (mut writer, reader) = engine(EngineConfig {
        tuning,
        ..EngineConfig::default()
    })
    .expect("ONNX models are built in");
    let products = [
        ("cup", 1.0, [1.0, 0.0]),
        ("mug", 2.0, [0.9, 0.1]),
        ("plate", 4.0, [0.0, 1.0]),
        ("fork", 8.0, [-1.0, 0.5]),
    ];
    for (id, price, embedding) in products {
        let meta = ProductMeta {
            price: Some(price),
            embedding: Some(embedding.to_vec()),
            ..ProductMeta::titled(id)
        };
        writer.set_product(id, Some(meta));
    }
    // Everyone who looks at the cup looks at the mug, some at the plate too, few at the fork.
    for n in 0..12 {
        for (product, every) in [("cup", 1), ("mug", 1), ("plate", 2), ("fork", 4)] {
            if n % every == 0 {
                let (customer, time) = (format!("c{n}"), NOW - 90 * 60_000);
                writer.apply(&Interaction::new(&customer, product, EventKind::View, time), NOW);
            }
        }
    }
    for (product, time) in [("plate", NOW - 2_000), ("cup", NOW - 1_000)] {
        writer.apply(&Interaction::new("ann", product, EventKind::View, time), NOW);
    }
    writer.flush(NOW);
    (writer, reader)
}

fn ask<'a>(exclude: &'a [&'a str]) -> Query<'a> {
    Query {
        customer: Some("ann"),
        exclude,
        limit: 3,
        now_ms: NOW,
        ..Query::default()
    }
}

fn names(reader: &Reader, query: &Query<'_>) -> Vec<String> {
    let items = reader.recommend(query).items;
    assert!(items.iter().all(|item| item.score.is_finite()));
    items.iter().map(|item| item.product.to_string()).collect()
}

#[test]
fn a_ranker_orders_what_the_blend_found_by_its_own_scores() {
    let (mut writer, reader) = shop();
    let seen = ["cup", "plate"];
    // Nothing is installed yet: the blend answers, which finds the mug before the fork.
    let answer = reader.recommend(&ask(&seen));
    assert_eq!(answer.algorithm, Algorithm::Hybrid);
    assert_eq!(names(&reader, &ask(&seen)), ["mug", "fork"]);
    writer.install_onnx(read("ranker").expect("it fits"));
    let answer = reader.recommend(&ask(&seen));
    // 2 × 2 − 0.5 × 0 for the mug, which the blend ranks first; 2 × 8 − 0.5 × 1 for the fork.
    assert_eq!(answer.algorithm, Algorithm::Onnx);
    assert_eq!(names(&reader, &ask(&seen)), ["fork", "mug"]);
    assert_eq!(answer.fallback, Fallback::Personal);
    // All but the best are scaled by their distance from it: 0.1 for the lowest, 1 for the highest.
    let scores: Vec<f32> = answer.items.iter().map(|item| item.score).collect();
    assert!(
        (scores[0] - 1.0).abs() < 1e-6 && (scores[1] - 0.1).abs() < 1e-6,
        "{scores:?}"
    );
    assert_eq!(reader.fitted(), [(Algorithm::Onnx, "ranker".to_owned())]);
    writer.uninstall_onnx();
    assert_eq!(reader.recommend(&ask(&seen)).algorithm, Algorithm::Hybrid);
}

#[test]
fn a_two_tower_model_scores_products_by_index() {
    let (mut writer, reader) = shop();
    writer.install_onnx(read("tower").expect("it fits"));
    let answer = reader.recommend(&ask(&[]));
    assert_eq!(
        (answer.algorithm, answer.fallback),
        (Algorithm::Onnx, Fallback::Personal)
    );
    // Ann is (0, 1) + (1, 0) = (1, 1): cup 1, mug 1, plate 1, fork −0.5; the lowest counts as 0.
    let scores: Vec<(&str, f32)> = answer
        .items
        .iter()
        .map(|item| (&*item.product, item.score))
        .collect();
    assert_eq!(scores, [("cup", 1.5), ("mug", 1.5), ("plate", 1.5)]);
    // A visit counts like a history: (0.9, 0.1) + (0, 1) + (1, 0) is (1.9, 1.1), so cup 1.9, mug 1.82.
    let visit = Query {
        recent: &["mug"],
        exclude_recent: false,
        ..ask(&["plate"])
    };
    assert_eq!(names(&reader, &visit), ["cup", "mug", "fork"]);
    assert_eq!(reader.stats().onnx_failures, 0);
}

#[test]
fn a_tower_of_embeddings_finds_products_that_it_was_not_trained_on() {
    let (mut writer, reader) = shop();
    writer.install_onnx(read("embedding-tower").expect("it fits"));
    let new = ProductMeta {
        embedding: Some(vec![3.0, 3.0]),
        ..ProductMeta::titled("bowl")
    };
    writer.set_product("bowl", Some(new));
    writer.publish(NOW + 60_000, 100);
    // Ann is (1, 1) again; (3, 3) is 6.
    assert_eq!(names(&reader, &ask(&[]))[0], "bowl");
}

#[test]
fn products_may_be_listed_beside_the_model_and_become_known_later() {
    let (mut writer, reader) = shop();
    let products = ["cup", "mug", "plate", "spoon"].map(String::from).to_vec();
    let model = OnnxModel::read(&file("tower-without-products"), Some(products), "1").expect("it fits");
    writer.install_onnx(model);
    let answer = reader.recommend(&ask(&["cup"]));
    assert!(
        answer.items.iter().all(|item| &*item.product != "spoon"),
        "the shop does not have it"
    );
    writer.set_product("spoon", Some(ProductMeta::titled("spoon")));
    writer.publish(NOW + 60_000, 100);
    let spoon = |reader: &Reader| names(reader, &ask(&["cup"])).contains(&"spoon".to_owned());
    assert!(spoon(&reader));
}

#[test]
fn numbers_that_are_none_are_counted_and_the_blend_answers() {
    let (mut writer, reader) = shop();
    let blend = names(&reader, &ask(&["cup", "plate"]));
    writer.install_onnx(read("ranker-not-finite").expect("only some inputs make it fail"));
    let answer = reader.recommend(&ask(&["cup", "plate"]));
    assert_eq!(answer.algorithm, Algorithm::Hybrid);
    assert_eq!(names(&reader, &ask(&["cup", "plate"])), blend);
    assert_eq!(reader.stats().onnx_failures, 2);
}

#[test]
fn a_file_that_does_not_fit_is_refused_with_what_is_wrong() {
    for (name, said) in [
        (
            "ranker-wrong-columns",
            "input \"features\" is float [?, 3]; it must be float [n, 2]: one row a candidate, one column for each \
             of the features price, rank",
        ),
        (
            "ranker-unknown-feature",
            "metadata property \"features\" names \"weather\", which is none of: score, rank, popularity",
        ),
        (
            "tower-without-products",
            "the products are missing: give their ids",
        ),
        (
            "tower-wrong-products",
            "output \"scores\" has 5 numbers where 2 (one a product) or 3 (one more in front for index 0) are",
        ),
        (
            "unknown-input",
            "the model's inputs are [\"pixels\"]; it must have exactly one, called \"features\"",
        ),
        (
            "unknown-output",
            "the model's outputs are [\"logits\"]; one must be called \"scores\"",
        ),
    ] {
        let error = read(name).expect_err(name).to_string();
        assert!(error.contains(said), "{name}: {error}");
    }
    let refused = |bytes: &[u8]| {
        OnnxModel::read(bytes, None, "1")
            .expect_err("it is none")
            .to_string()
    };
    assert_eq!(refused(b"PK\x03\x04 something else"), "not an ONNX file");
    assert_eq!(refused(b""), "not an ONNX file");
    let half = file("tower");
    refused(&half[..half.len() / 2]);
    let large = vec![0; (256 << 20) + 1];
    assert!(refused(&large).starts_with("the model has 268435457 bytes, more than the 268435456"));
}
