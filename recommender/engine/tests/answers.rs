//! What a shop sees: reasons, fallbacks, rules.

use recommender_engine::{
    Algorithm, Blend, EngineConfig, EventKind, Fallback, Interaction, ProductMeta, Query, Reader, Reason,
    Rules, Scored, Tuning, Writer, engine,
};

const NOW: i64 = 1_700_000_000_000;

fn product(title: &str, category: &str) -> Option<ProductMeta> {
    Some(ProductMeta {
        category: Some(category.into()),
        ..ProductMeta::titled(title)
    })
}

/// Cups go with saucers, forks with knives; cups are the bestseller.
fn shop(tuning: Tuning) -> (Writer, Reader) {
    let (mut writer, reader) = engine(EngineConfig {
        tuning,
        ..EngineConfig::default()
    })
    .expect("the tuning is valid");
    for (id, title, category) in [
        ("cup", "Tea cup", "china"),
        ("saucer", "Saucer", "china"),
        ("fork", "Fork", "cutlery"),
        ("knife", "Knife", "cutlery"),
    ] {
        writer.set_product(id, product(title, category));
    }
    let mut buy = |customer: &str, products: &[&str]| {
        for product in products {
            writer.apply(
                &Interaction::new(customer, product, EventKind::Purchase, NOW - 1_000),
                NOW,
            );
        }
    };
    for n in 0..5 {
        buy(&format!("tea{n}"), &["cup", "saucer"]);
    }
    for n in 0..3 {
        buy(&format!("dinner{n}"), &["fork", "knife"]);
    }
    buy("ann", &["fork"]);
    buy("bob", &["cup"]);
    writer.flush(NOW);
    (writer, reader)
}

fn ask<'a>(customer: &'a str) -> Query<'a> {
    Query {
        customer: Some(customer),
        limit: 3,
        now_ms: NOW,
        ..Query::default()
    }
}

#[test]
fn who_bought_a_fork_is_shown_the_knife_because_of_it() {
    let (_writer, reader) = shop(Tuning::default());
    let answer = reader.recommend(&ask("ann"));
    assert_eq!(
        (answer.fallback, answer.algorithm),
        (Fallback::Personal, Algorithm::Hybrid)
    );
    assert_eq!(
        (&*answer.items[0].product, answer.items[0].title.as_deref()),
        ("knife", Some("Knife"))
    );
    let because = Reason::BecauseOf {
        products: vec!["fork".into()],
        kind: EventKind::Purchase,
    };
    assert_eq!(answer.items[0].reason, because);
    assert_eq!(answer.items[1].reason, Reason::Popular);
}

#[test]
fn a_click_changes_the_answer_as_soon_as_it_is_applied() {
    let (mut writer, reader) = shop(Tuning::default());
    assert_eq!(reader.recommend(&ask("new")).fallback, Fallback::Popular);
    writer.apply(&Interaction::new("new", "fork", EventKind::Click, NOW), NOW);
    let answer = reader.recommend(&ask("new"));
    assert_eq!(
        (&*answer.items[0].product, answer.fallback),
        ("knife", Fallback::Personal)
    );
}

#[test]
fn a_basket_of_a_stranger_is_answered_as_a_session() {
    let (_writer, reader) = shop(Tuning::default());
    let answer = reader.recommend(&Query {
        recent: &["unknown", "cup"],
        limit: 1,
        ..Query::default()
    });
    assert_eq!(
        (&*answer.items[0].product, answer.fallback),
        ("saucer", Fallback::Session)
    );
}

#[test]
fn rules_exclude_pin_and_cap_and_follow_a_swap() {
    let (mut writer, reader) = shop(Tuning::default());
    let names = |reader: &Reader| -> Vec<String> {
        reader
            .recommend(&ask("stranger"))
            .items
            .iter()
            .map(|item| item.product.to_string())
            .collect()
    };
    assert_eq!(names(&reader), ["cup", "saucer", "fork"]);
    let rules = Rules {
        exclude_products: vec!["cup".into()],
        pin: vec!["knife".into(), "knife".into()],
        max_per_category: 1,
        ..Rules::default()
    };
    writer
        .tune(Tuning {
            rules,
            ..Tuning::default()
        })
        .unwrap();
    assert_eq!(names(&reader), ["knife", "saucer"]);
    assert_eq!(reader.recommend(&ask("stranger")).items[0].reason, Reason::Pinned);
}

#[test]
fn a_category_that_holds_all_the_best_leaves_room_for_others_where_it_is_capped() {
    let mut config = EngineConfig {
        neighbors: 200,
        ..EngineConfig::default()
    };
    config.tuning.rules.max_per_category = 1;
    (config.tuning.diversity, config.tuning.exploration) = (0.0, 0.0);
    let (mut writer, reader) = engine(config).unwrap();
    let mut learn = |customer: &str, product: &str| {
        writer.apply(&Interaction::new(customer, product, EventKind::View, NOW), NOW);
    };
    // Teas are far nearer to the pot than anything else.
    for customer in 0..3 {
        for tea in 0..140 {
            let customer = format!("tea-{customer}-{tea}");
            learn(&customer, "pot");
            learn(&customer, &format!("tea-{tea}"));
        }
    }
    for other in 0..20 {
        let customer = format!("other-{other}");
        learn(&customer, "pot");
        learn(&customer, &format!("other-{other}"));
        learn(&customer, "tea-0");
    }
    for tea in 0..140 {
        writer.set_product(&format!("tea-{tea}"), product("Tea", "tea"));
    }
    for other in 0..20 {
        writer.set_product(
            &format!("other-{other}"),
            product("Other", &format!("category-{other}")),
        );
    }
    writer.flush(NOW);
    let answer = reader.recommend(&Query {
        recent: &["pot"],
        exclude_recent: true,
        limit: 10,
        now_ms: NOW,
        ..Query::default()
    });
    let because = |item: &&Scored| matches!(item.reason, Reason::BecauseOf { .. });
    assert_eq!(
        answer.items.iter().filter(because).count(),
        10,
        "{:?}",
        answer.items
    );
    let teas = answer.items.iter().filter(|item| item.product.starts_with("tea"));
    assert_eq!(teas.count(), 1);
}

#[test]
fn what_the_rules_exclude_is_no_reason_to_show_anything_else() {
    let (mut writer, reader) = shop(Tuning::default());
    let now = ask("parcel").now_ms;
    writer.apply(&Interaction::new("parcel", "cup", EventKind::Purchase, now), now);
    writer.flush(now);
    assert_eq!(reader.recommend(&ask("parcel")).fallback, Fallback::Personal);
    let rules = Rules {
        exclude_products: vec!["cup".into()],
        ..Rules::default()
    };
    writer
        .tune(Tuning {
            rules,
            ..Tuning::default()
        })
        .unwrap();
    let answer = reader.recommend(&ask("parcel"));
    assert_eq!(answer.fallback, Fallback::Popular);
    assert!(
        answer
            .items
            .iter()
            .all(|item| !matches!(item.reason, Reason::BecauseOf { .. }))
    );
}

#[test]
fn the_query_narrows_by_category_and_leaves_out_what_it_names() {
    let (_writer, reader) = shop(Tuning::default());
    let query = Query {
        category: Some("cutlery"),
        exclude: &["knife"],
        ..ask("bob")
    };
    let answer = reader.recommend(&query);
    assert_eq!(
        answer.items.iter().map(|item| &*item.product).collect::<Vec<_>>(),
        ["fork"]
    );
    assert_eq!(
        answer.items[0].reason,
        Reason::PopularInCategory {
            category: "cutlery".into()
        }
    );
    assert!(
        reader
            .recommend(&Query {
                category: Some("none such"),
                ..ask("bob")
            })
            .items
            .is_empty()
    );
}

#[test]
fn what_the_catalogue_withdraws_is_gone_at_once_and_what_was_bought_may_be_asked_for() {
    let (mut writer, reader) = shop(Tuning::default());
    writer.set_product("knife", None);
    assert!(
        reader
            .recommend(&ask("ann"))
            .items
            .iter()
            .all(|item| &*item.product != "knife")
    );
    assert!(reader.similar("fork", 5).is_empty());
    let again = Query {
        exclude_purchased: Some(false),
        ..ask("ann")
    };
    assert!(
        reader
            .recommend(&again)
            .items
            .iter()
            .any(|item| &*item.product == "fork")
    );
}

/// Forty products that forty customers share, five of them Ann's; and what sixty others want of late, who bought nothing
/// else. What is popular counts so much.
fn season(popular: f32) -> (Writer, Reader) {
    let (mut writer, reader) = engine(EngineConfig::default()).expect("defaults are valid");
    writer.set_blend(Blend {
        popular,
        ..Blend::default()
    });
    let mut buy = |customer: &str, product: &str, ago: i64| {
        let bought = Interaction::new(customer, product, EventKind::Purchase, NOW - ago);
        writer.apply(&bought, NOW);
    };
    for customer in 0..40 {
        for product in (0..40).filter(|product| (product * 7 + customer * 3) % 4 != 0) {
            buy(&format!("c{customer}"), &format!("p{product}"), 9_000_000);
        }
    }
    for customer in 0..60 {
        buy(&format!("n{customer}"), "tree", 8_000_000);
        if customer > 0 {
            buy(&format!("n{customer}"), "lights", 8_000_000);
        }
    }
    for product in 0..5 {
        buy("ann", &format!("p{product}"), 1_000);
    }
    writer.flush(NOW);
    (writer, reader)
}

/// What Ann is shown and why.
fn shown(reader: &Reader) -> Vec<(String, Reason)> {
    let answer = reader.recommend(&Query {
        limit: 10,
        ..ask("ann")
    });
    assert_eq!(answer.fallback, Fallback::Personal);
    let items = answer.items.into_iter();
    items
        .map(|item| (item.product.to_string(), item.reason))
        .collect()
}

#[test]
fn what_trends_is_blended_in_though_nothing_personal_speaks_for_it_and_says_so() {
    let trends = |(name, _): &(String, Reason)| ["tree", "lights"].contains(&&**name);
    let without = shown(&season(0.0).1);
    assert!(!without.iter().any(trends), "{without:?}");
    let with = shown(&season(99.0).1);
    assert_eq!((&*with[0].0, &*with[1].0), ("tree", "lights"));
    assert_eq!(with[0].1, Reason::Popular);
    assert!(matches!(with[2].1, Reason::BecauseOf { .. }), "{with:?}");
    // By default it does not come before what the customer's own history says.
    let default = shown(&season(Blend::default().popular).1);
    assert!(!trends(&default[0]), "{default:?}");
}

#[test]
fn what_the_visit_is_looking_at_does_not_come_back_for_being_popular() {
    let (mut writer, reader) = season(99.0);
    writer.apply(&Interaction::new("ann", "tree", EventKind::View, NOW - 500), NOW);
    writer.flush(NOW);
    let shown = shown(&reader);
    assert_eq!(shown[0].0, "lights");
    assert!(!shown.iter().any(|(name, _)| name == "tree"), "{shown:?}");
}

#[test]
fn similar_and_trending_say_why() {
    let (_writer, reader) = shop(Tuning::default());
    let similar = reader.similar("cup", 5);
    assert_eq!((similar.len(), &*similar[0].product), (1, "saucer"));
    assert_eq!(
        similar[0].reason,
        Reason::SimilarTo {
            product: "cup".into()
        }
    );
    let trending: Vec<_> = reader
        .trending(2, None, NOW)
        .into_iter()
        .map(|item| item.product)
        .collect();
    assert_eq!(trending, ["cup".into(), "saucer".into()]);
    assert_eq!(&*reader.trending(1, Some("cutlery"), NOW)[0].product, "fork");
}

#[test]
fn a_refused_configuration_names_the_field() {
    let tuning = Tuning {
        diversity: 2.0,
        ..Tuning::default()
    };
    let refused = engine(EngineConfig {
        tuning,
        ..EngineConfig::default()
    })
    .err()
    .unwrap();
    assert_eq!(refused.to_string(), "diversity must be between 0 and 1");
}
