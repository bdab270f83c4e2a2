//! The search for hyper-parameters, weights from a log, and replays.

use std::time::Duration;

use recommender_engine::{
    Algorithm, Artifact, EngineConfig, EventKind, Interaction, Query, engine,
    eval::{Freeze, LogEvent, Params, Replay, Search, Task, Trained, fit_blend_weights, replay, tune},
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

/// A shop whose customers turn from one half of the catalogue to the other halfway through.
fn turning_log() -> Vec<LogEvent> {
    let mut log = Vec::new();
    for step in 0..4_000i64 {
        let half = if step < 2_000 { 0 } else { 30 };
        let customer = step * 7 % 400;
        let (taste, any) = (customer % 3, ((step * 2_654_435_761) >> 7) % 10);
        log.push(LogEvent {
            customer: format!("c{customer}").into(),
            product: format!("p{}", half + taste * 10 + any).into(),
            kind: EventKind::Purchase,
            time_ms: 1_300_000_000_000 + step * 3_600_000,
        });
    }
    log
}

/// A replay in which nothing stands still.
fn replayed<'a>(algorithms: &'a [Algorithm], params: &'a Params) -> Replay<'a> {
    Replay {
        algorithms,
        params,
        k: 10,
        predictions: 4_000,
        points: 4,
        from_ms: i64::MIN,
        freeze_ms: i64::MAX,
        freeze: Freeze::Everything,
        refit_over: None,
        refit_ms: i64::MAX,
        threads: 1,
    }
}

#[test]
fn a_model_that_goes_on_learning_follows_a_change_and_a_frozen_one_does_not() {
    let log = turning_log();
    let params = Params::default();
    let learning = Replay {
        predictions: 2_000,
        ..replayed(&[Algorithm::Rp3Beta, Algorithm::Popularity], &params)
    };
    let live = replay(&log, &learning, |_| {})
        .expect("parameters are in range")
        .series;
    let frozen = Replay {
        freeze_ms: log[1_900].time_ms,
        ..learning
    };
    let frozen = replay(&log, &frozen, |_| {})
        .expect("parameters are in range")
        .series;
    let last =
        |series: &[recommender_engine::eval::Series]| series[0].points.last().map(|point| point.hit_rate);
    assert!(live[0].total.predictions > 20, "{live:?}");
    assert!(last(&live) > last(&frozen), "{live:?} {frozen:?}");
    assert!(
        live.iter()
            .all(|series| series.total.mrr <= series.total.hit_rate && series.coverage <= 1.0)
    );
}

/// A number that looks drawn (splitmix64).
fn drawn(seed: i64) -> i64 {
    let mut z = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) % 1_000) as i64
}

/// A shop with a thousand events a day, whose customers turn to what the season brings, a few more of them each day.
fn seasonal_log() -> Vec<LogEvent> {
    let mut log = Vec::new();
    for step in 0..40_000i64 {
        let day = step / 1_000;
        let draw = |salt: i64| drawn(step * 4 + salt);
        let customer = draw(1);
        let of_season = draw(2) < ((day - 15).max(0) * 50).min(800);
        let product = customer % 3 * 20 + draw(3) % 20 + if of_season { 60 } else { 0 };
        log.push(LogEvent {
            customer: format!("c{customer}").into(),
            product: format!("p{product}").into(),
            kind: EventKind::Purchase,
            time_ms: 1_300_060_800_000 + step * 86_400,
        });
    }
    log
}

#[test]
fn drift_tells_that_a_season_has_come_and_fitting_again_brings_the_hit_rate_back() {
    let log = seasonal_log();
    let params = Params::default();
    let day = 24 * 3_600_000;
    let left_alone = Replay {
        points: 8,
        freeze_ms: log[0].time_ms + 15 * day,
        ..replayed(&[Algorithm::Rp3Beta], &params)
    };
    let alone = replay(&log, &left_alone, |_| {}).expect("parameters are in range");
    let again = Replay {
        refit_over: Some(0.2),
        ..left_alone
    };
    let again = replay(&log, &again, |_| {}).expect("parameters are in range");
    let last = |of: &recommender_engine::eval::Replayed| of.series[0].points.last().unwrap().hit_rate;
    assert!(alone.refits_ms.is_empty() && !again.refits_ms.is_empty());
    assert!(
        again.refits_ms.iter().all(|at| *at > log[0].time_ms + 16 * day),
        "{again:?}"
    );
    let at_end = |of: &recommender_engine::eval::Replayed| of.drift.last().unwrap().drift.worst();
    assert!(
        at_end(&alone) > 0.5 && at_end(&again) < 0.3,
        "{alone:?} {again:?}"
    );
    assert!(last(&again) > 1.5 * last(&alone), "{alone:?} {again:?}");
}

#[test]
fn a_fitted_model_that_stands_still_loses_a_season_although_histories_go_on_and_fitting_it_again_brings_most_of_it_back()
 {
    let log = seasonal_log();
    let params = Params::default();
    let day = 24 * 3_600_000;
    let freeze_ms = log[0].time_ms + 15 * day;
    let stale = Replay {
        points: 8,
        freeze_ms,
        freeze: Freeze::Fitted,
        refit_ms: 7 * day,
        ..replayed(&[Algorithm::Ease, Algorithm::Rp3Beta], &params)
    };
    let again = Replay {
        refit_over: Some(0.2),
        ..stale.clone()
    };
    let [stale, again] =
        [stale, again].map(|how| replay(&log, &how, |_| {}).expect("parameters are in range"));
    let first = again.refits_ms[0];
    assert!(first > freeze_ms + day, "it crosses its threshold: {again:?}");
    // From the last fit on: those before come while the season has only begun, and know little of it.
    let since = again.refits_ms[again.refits_ms.len() - 1];
    let rate = |of: &recommender_engine::eval::Replayed, model: usize| {
        let (before, after) = (
            of.series[model].over(i64::MIN, freeze_ms),
            of.series[model].over(since, i64::MAX),
        );
        assert!(before.predictions > 100 && after.predictions > 100);
        (before.hit_rate, after.hit_rate)
    };
    let ((before, lost), (_, back)) = (rate(&stale, 0), rate(&again, 0));
    assert!(lost < 0.5 * before, "{before} {lost}");
    // Not all: the season is weeks old, and much of what is fitted is from before it.
    assert!(back > 0.5 * before && back > 3.0 * lost, "{before} {lost} {back}");
    // What is counted goes on in both: nothing but what is fitted stood still.
    assert_eq!(rate(&stale, 1), rate(&again, 1));
}

#[test]
fn weights_fitted_to_a_log_are_an_artefact_that_answers_until_it_is_taken_out() {
    let (mut writer, reader) = engine(EngineConfig::default()).expect("defaults are in range");
    let log = turning_log();
    let now_ms = log.last().map_or(0, |event| event.time_ms);
    let events = log
        .iter()
        .map(|event| Interaction::new(&event.customer, &event.product, event.kind, event.time_ms));
    writer.bulk(events, now_ms);
    let fitted = |seconds| {
        let (limit, clock) = (Duration::from_secs(seconds), || Duration::ZERO);
        fit_blend_weights(&reader, &EngineConfig::default(), 1, limit, &clock, "w1").expect("in range")
    };
    let artifact = fitted(60).expect("enough to learn from");
    let read = Artifact::from_bytes(&artifact.to_bytes().expect("serializable")).expect("whole");
    assert_eq!((read.algorithm(), &read), (Algorithm::Hybrid, &artifact));
    writer.install(&read);
    assert_eq!(reader.fitted(), [(Algorithm::Hybrid, "w1".to_owned())]);
    let query = Query {
        customer: Some("c1"),
        now_ms,
        ..Query::default()
    };
    assert!(!reader.recommend(&query).items.is_empty());
    writer.uninstall(Algorithm::Hybrid);
    assert!(reader.fitted().is_empty());
    let (_, empty) = engine(EngineConfig::default()).expect("defaults are in range");
    let limit = Duration::from_secs(60);
    let nothing = fit_blend_weights(
        &empty,
        &EngineConfig::default(),
        1,
        limit,
        &|| Duration::ZERO,
        "w",
    );
    assert_eq!(nothing.expect("in range"), None);
}

#[test]
fn auto_answers_in_a_replay_with_the_model_that_proved_to_be_better() {
    // Thirty tastes of twenty products: popularity, which is all that this blend goes by, knows nothing of them.
    let log: Vec<LogEvent> = (0..40_000i64)
        .map(|step| {
            let customer = drawn(step) * 3 + step % 3;
            let product = customer % 30 * 20 + drawn(-step) % 20;
            LogEvent {
                customer: format!("c{customer}").into(),
                product: format!("p{product}").into(),
                kind: EventKind::View,
                time_ms: 1_300_000_000_000 + step * 60_000,
            }
        })
        .collect();
    let mut params = Params::default();
    for (part, weight) in [
        ("walk", "0"),
        ("knn", "0"),
        ("session", "0"),
        ("ease", "0"),
        ("als", "0"),
        ("popular", "0"),
        ("trend", "1"),
    ] {
        params.set(&format!("blend.{part}"), weight).unwrap();
    }
    let algorithms = [Algorithm::Auto, Algorithm::Hybrid, Algorithm::Rp3Beta];
    let competing = replayed(&algorithms, &params);
    let replayed = replay(&log, &competing, |_| {}).unwrap();
    let last = |at: usize| replayed.series[at].points.last().unwrap().hit_rate;
    let (auto, hybrid, walks) = (last(0), last(1), last(2));
    assert!(walks > 2.0 * hybrid, "{walks} {hybrid}");
    assert!(auto > 0.9 * walks, "{auto} {walks}");
}
