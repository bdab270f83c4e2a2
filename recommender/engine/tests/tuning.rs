//! The search for hyper-parameters.

use std::time::Duration;

use recommender_engine::{
    Algorithm,
    eval::{Params, Search, Task, Trained, tune},
};

fn search(
    limit_trials: usize,
) -> impl FnMut(&recommender_engine::eval::Dataset, &[Algorithm]) -> Vec<Params> {
    move |data, algorithms| {
        let mut trials = 0;
        let elapsed = std::cell::Cell::new(Duration::ZERO);
        let search = Search {
            k: 5,
            threads: 1,
            budget: Duration::from_secs(limit_trials as u64),
            elapsed: &|| elapsed.get(),
            // A clock that counts trials: the search is the same on any machine.
            progress: &mut |_| {
                trials += 1;
                elapsed.set(Duration::from_secs(trials));
            },
        };
        let start = Params::for_dataset(data);
        let tuned = tune(data, algorithms, &start, search).expect("every model fits this data");
        assert!((trials as usize) < limit_trials * 2 + 80, "{trials}");
        tuned.into_iter().map(|tuned| tuned.params).collect()
    }
}

/// Customers of four tastes, a session of each as a line.
fn lines() -> (String, String) {
    let (mut train, mut test) = (String::new(), String::new());
    for user in 0..240u32 {
        let product = |step: u32| (user % 4) * 25 + (user * 7 + step * step * 3) % 25;
        let items: Vec<String> = (0..9).map(|step| product(step).to_string()).collect();
        train.push_str(&format!("u{user} {}\n", items.join(" ")));
        test.push_str(&format!("u{user} {} {}\n", product(9), product(11)));
    }
    (train, test)
}

#[test]
fn what_the_test_says_changes_nothing_in_the_search() {
    let (train, test) = lines();
    let data = recommender_engine::eval::parse_interactions(&train, &test).unwrap();
    let mut other = data.clone();
    if let Task::Customers(cases) = &mut other.task {
        cases.iter_mut().for_each(|(_, wanted)| *wanted = vec![0]);
    }
    let algorithms = [Algorithm::Rp3Beta, Algorithm::Hybrid];
    let found = search(200)(&data, &algorithms);
    assert_eq!(found.len(), 2);
    assert_eq!(found, search(200)(&other, &algorithms));
}

#[test]
fn a_search_ends_in_time_and_its_result_answers() {
    let (train, test) = lines();
    let data = recommender_engine::eval::parse_interactions(&train, &test).unwrap();
    let all = [
        Algorithm::Popularity,
        Algorithm::ItemKnn,
        Algorithm::SessionKnn,
        Algorithm::Ease,
        Algorithm::ImplicitAls,
        Algorithm::Hybrid,
    ];
    for params in [search(0)(&data, &all), search(60)(&data, &all)] {
        assert_eq!(params.len(), all.len());
        let hybrid = Trained::new(&data, Algorithm::Hybrid, &params[5], 2).unwrap();
        let metrics = hybrid.metrics(5, |_| {});
        let of_chance = 5.0 / 100.0;
        assert!(metrics.recall > 3.0 * of_chance, "{metrics:?}");
    }
}

#[test]
fn a_model_changed_step_by_step_is_the_one_made_at_once() {
    let (train, test) = lines();
    let data = recommender_engine::eval::parse_interactions(&train, &test).unwrap();
    let start = Params::for_dataset(&data);
    let mut changed = Trained::new(&data, Algorithm::Hybrid, &start, 1).unwrap();
    let mut params = start.clone();
    for (key, value) in [
        ("walkBeta", "0.6"),
        ("neighbors", "7"),
        ("shrinkage", "3"),
        ("historyLength", "4"),
        ("trendHalfLifeDays", "0.5"),
        ("ease.regularization", "20"),
        ("blend.ease", "0.7"),
        ("blend.trend", "0.2"),
        ("blend.knn", "0.3"),
        ("repeats", "Binary"),
        ("walkAlpha", "0.5"),
    ] {
        params.set(key, value).unwrap();
        changed
            .change(&params, &[Algorithm::Ease, Algorithm::ImplicitAls])
            .unwrap();
    }
    let made = Trained::new(&data, Algorithm::Hybrid, &params, 1).unwrap();
    assert_eq!(changed.metrics(5, |_| {}), made.metrics(5, |_| {}));
}
