//! What the catalogue says of products, and does before anybody has met them.

use std::sync::Arc;

use recommender_engine::{
    Algorithm, Applied, EventKind, Interaction, ProductMeta, Query, Reader, Reason, Writer,
};

use super::{MINUTE, NOW, names, plain, view};

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

/// Who has looked at a teapot that nobody else has, or one, where thirty lamps sell well.
fn teapots(others: &[&str]) -> Vec<String> {
    let (mut writer, reader) = plain();
    for customer in 0..100 {
        for product in (0..30).filter(|product| customer >= product * 3) {
            let (customer, product) = (format!("c{customer}"), format!("best{product}"));
            view(&mut writer, &customer, &product, NOW - 90 * MINUTE);
        }
    }
    for product in 0..30 {
        let title = format!("lamp {product}");
        writer.set_product(&format!("best{product}"), Some(ProductMeta::titled(title)));
    }
    for name in ["teapot blue", "teapot green", "teapot red"] {
        let meta = ProductMeta {
            category: Some("teapots".into()),
            ..ProductMeta::titled(name)
        };
        writer.set_product(name, Some(meta));
    }
    for product in others {
        view(&mut writer, "bob", product, NOW - 90 * MINUTE);
    }
    view(&mut writer, "ann", "teapot blue", NOW - MINUTE);
    writer.flush(NOW);
    let query = Query {
        customer: Some("ann"),
        limit: 10,
        now_ms: NOW,
        ..Query::default()
    };
    names(&reader, &query)
}

#[test]
fn what_trends_does_not_drown_what_content_knows_where_others_know_little() {
    // The one she looked at among them, which content names too; then what trends, in its order.
    let shown = teapots(&[]);
    assert_eq!(shown.len(), 10);
    assert!(
        shown[..3].iter().all(|name| name.starts_with("teapot")),
        "{shown:?}"
    );
    assert_eq!(shown[3..5], ["best0", "best1"]);
    // One visit of somebody else says a little.
    let shown = teapots(&["teapot blue", "kettle"]);
    assert_eq!(shown[0], "kettle");
    let green = shown.iter().position(|name| name == "teapot green").unwrap();
    assert!(green < 4, "{shown:?}");
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
