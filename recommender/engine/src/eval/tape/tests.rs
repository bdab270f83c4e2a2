use super::*;
use crate::{
    blend::{ALS, EASE, POPULAR},
    config::Algorithm,
    eval::{Params, parse_events, parse_interactions},
};

/// Two tastes, of which each customer lacks something.
fn tastes() -> Dataset {
    let line = |user: u32| {
        let items = (0..20).filter(|item| item % 2 == user % 2 && !(item * 7 + user * 3).is_multiple_of(5));
        let items: Vec<String> = items.map(|item| item.to_string()).collect();
        format!("u{user} {}", items.join(" "))
    };
    let train: Vec<String> = (0..40).map(line).collect();
    let asked = |user: u32| {
        format!(
            "u{user} {}",
            (0..20)
                .find(|item| item % 2 == user % 2 && (item * 7 + user * 3).is_multiple_of(5))
                .unwrap()
        )
    };
    let test: Vec<String> = (0..40).map(asked).collect();
    parse_interactions(&train.join("\n"), &test.join("\n")).unwrap()
}

/// The same with times: each customer comes back for what the other taste likes too, and a few products are everybody's
/// of late.
fn fashions() -> Dataset {
    let event = |user: u32, item: u32, day: u32| -> String {
        format!(
            r#"{{"customer_id":"u{user}","product_id":"{item:02}","event_type":"purchase","timestamp":"2011-01-{day:02}T00:00:00Z"}}"#
        )
    };
    let mut lines = Vec::new();
    for user in 0..60u32 {
        let taste =
            (0..90u32).filter(|item| item % 3 == user % 3 && !(item * 7 + user * 5).is_multiple_of(4));
        lines.extend(taste.map(|item| event(user, item, 1 + (user + item) % 9)));
        // Who is new buys what trends and nothing else.
        lines.extend((90..93).map(|item| event(100 + user, item, 10)));
        lines.push(event(user, 90 + user % 2, 20));
        lines.push(event(user, (user * 5 + 7) % 90, 20));
    }
    let split = crate::eval::instant::instant("2011-01-15T00:00:00Z").unwrap();
    parse_events(&lines.join("\n"), split).unwrap()
}

#[test]
fn a_tape_says_what_asking_again_would() {
    for data in [tastes(), fashions()] {
        let everyone = Blend {
            walk: 1.0,
            knn: 1.0,
            session: 0.0,
            ease: 1.0,
            als: 1.0,
            content: 0.0,
            trend: 0.0,
            popular: 1.0,
        };
        let params = Params {
            blend: everyone,
            ..Params::default()
        };
        let mut trained = Trained::new(&data, Algorithm::Hybrid, &params, 2).unwrap();
        let tape = Tape::record(&trained, 5, usize::MAX);
        for (walk, ease, trend, popular) in [
            (1.0, 0.0, 0.0, 0.0),
            (0.2, 1.0, 0.3, 0.5),
            (0.0, 0.5, 0.0, 9.0),
            (0.0, 0.5, 0.9, 0.0),
        ] {
            let mut params = params.clone();
            params.blend = Blend {
                walk,
                ease,
                trend,
                popular,
                knn: 0.1,
                // So little that it only breaks ties.
                als: 0.01,
                ..params.blend
            };
            trained.change(&params, &[]).unwrap();
            let asked = trained.score(Algorithm::Hybrid, 5, usize::MAX);
            let told = tape.score(&params.blend);
            assert!((told - asked).abs() < 1e-9, "{:?}: {told} {asked}", params.blend);
        }
    }
}

#[test]
fn what_only_popularity_found_is_not_ranked_by_a_blend_without_it() {
    let data = parse_interactions("a 0 1\nb 0 1", "a 2\nb 2").unwrap();
    let id = |name: &str| data.products.iter().position(|known| &**known == name).unwrap() as u32;
    // iALS scores whatever is there.
    let mut trending = Found::of(id("2"));
    (trending.scores[ALS], trending.scores[POPULAR]) = (5.0, 1.0);
    let mut near = Found::of(id("0"));
    near.scores[ALS] = 1.0;
    near.scores[EASE] = 1.0;
    let asked = |question| Asked {
        question,
        found: vec![trending, near],
        said: [1.0; MEMBERS],
    };
    let tape = Tape {
        data: &data,
        asked: vec![asked(0), asked(1)],
        coverage: 0.0,
        k: 1,
    };
    let blend = |popular: f32| Blend {
        trend: 0.0,
        popular,
        ..Blend::default()
    };
    assert_eq!(tape.score(&blend(0.0)), 0.0);
    assert!(tape.score(&blend(1.0)) > 0.0);
}

#[test]
fn what_trends_is_weighed_where_there_are_times_and_weights_sum_to_one() {
    let data = fashions();
    let start = Blend {
        popular: 0.0,
        ..Params::for_dataset(&data).blend
    };
    let params = Params {
        blend: Blend {
            walk: 1.0,
            popular: 1.0,
            ..start.clone()
        },
        ..Params::default()
    };
    let trained = Trained::new(&data, Algorithm::Hybrid, &params, 2).unwrap();
    // Longer than what the taste's own products fill.
    let tapes = [Tape::record(&trained, 10, usize::MAX)];
    let (blend, score) = fit(&tapes, &start, true, |_, _| true);
    assert!(blend.popular > 0.0, "{blend:?}");
    assert!(score > tapes[0].score(&start));
    let sum: f32 = blend.weights().iter().sum();
    assert!((sum - 1.0).abs() < 0.05, "{blend:?}");
}

#[test]
fn weights_move_to_what_knows_better_and_stay_where_nothing_is_known_better() {
    let data = tastes();
    let start = Blend {
        walk: 1.0,
        knn: 0.0,
        session: 0.0,
        ease: 0.0,
        als: 0.0,
        content: 0.0,
        trend: 0.0,
        popular: 0.0,
    };
    let found = |right: usize, wrong: usize| -> Vec<Asked> {
        let Task::Customers(cases) = &data.task else {
            panic!("customers")
        };
        let asked = cases.iter().enumerate().map(|(question, (_, wanted))| {
            let mut hit = Found::of(wanted[0]);
            hit.scores[right] = 1.0;
            let mut miss = Found::of((wanted[0] + 1) % 20);
            miss.scores[wrong] = 1.0;
            Asked {
                question,
                found: vec![miss, hit],
                said: [1.0; MEMBERS],
            }
        });
        asked.collect()
    };
    let tape = |right, wrong| Tape {
        data: &data,
        asked: found(right, wrong),
        coverage: 0.0,
        k: 1,
    };
    let (blend, score) = fit(&[tape(3, 0)], &start, false, |_, _| true);
    assert!(blend.ease >= blend.walk && score > 1.9, "{blend:?} {score}");
    let (blend, _) = fit(&[tape(0, 3)], &start, false, |_, _| true);
    assert_eq!(blend, start);
}

#[test]
fn what_shows_less_of_the_catalogue_than_it_has_to_is_worth_less() {
    let data = parse_interactions("a 1 2 3 4\nb 1 2 3 4", "a 1\nb 1").unwrap();
    let asked = |question| {
        let mut found = Found::of(0);
        found.scores = [1.0; MEMBERS];
        Asked {
            question,
            found: vec![found],
            said: [1.0; MEMBERS],
        }
    };
    let mut tape = Tape {
        data: &data,
        asked: vec![asked(0), asked(1)],
        coverage: 0.0,
        k: 1,
    };
    let free = tape.score(&Blend::default());
    assert_eq!(tape.coverage(&Blend::default()), 0.25);
    tape.hold_to(0.25);
    assert_eq!(tape.score(&Blend::default()), free);
    tape.hold_to(1.0);
    assert_eq!(tape.score(&Blend::default()), free * 0.5);
}
