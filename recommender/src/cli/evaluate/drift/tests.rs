use std::io::{BufRead as _, BufReader, Write as _};

use clap::Parser as _;

use super::super::load;
use super::*;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// The weeks of the gift shop's log in which Christmas begins.
fn autumn(file: &std::path::Path) {
    let log = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../data/online-retail/events.jsonl.gz"
    );
    let log = flate2::read::MultiGzDecoder::new(std::fs::File::open(log).unwrap());
    let mut out = std::io::BufWriter::new(std::fs::File::create(file).unwrap());
    for line in BufReader::new(log).lines() {
        let line = line.unwrap();
        let at = line.find("\"2011-").map(|at| &line[at + 1..at + 11]);
        if at.is_some_and(|day| ("2011-09-12".."2011-11-05").contains(&day)) {
            writeln!(out, "{line}").unwrap();
        }
    }
}

/// What a service does: histories go on, and only what is fitted is from before the season.
#[test]
fn a_fitted_model_of_before_the_season_loses_and_the_fit_that_drift_asks_for_brings_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("autumn.jsonl");
    autumn(&log);
    let args = Cli::parse_from([
        "evaluate",
        "--format=events",
        "--train",
        log.to_str().unwrap(),
        "--model=ImplicitAls",
        "--param=als.factors=16",
        "--k=10",
        "--prequential",
        "--predictions=2000",
        "--freeze-at=2011-10-01T00:00:00Z",
        "--freeze=fitted",
        "--refit-on-drift",
    ])
    .args;
    let (log, freeze_ms) = (load::log(&args).unwrap(), frozen_from(&args).unwrap());
    let mut params = Params::for_events();
    super::super::set(&mut params, &args.params).unwrap();
    let runs = replays(&args, &log, &[Algorithm::ImplicitAls], &params).unwrap();
    let [(_, stale), (_, again), _] = &runs[..] else {
        panic!("{} runs", runs.len())
    };
    let first = first_refit(&runs).unwrap();
    assert!(first > freeze_ms && stale.refits_ms.is_empty());
    // It crosses its threshold and stays over it, until something is fitted again.
    let worst = |run: &Replayed| highest(&run.drift, first + 86_400_000, i64::MAX).unwrap();
    assert!(
        worst(stale) > 2.5 * args.drift_threshold,
        "{} {}",
        worst(stale),
        worst(again)
    );
    assert!(worst(again) < worst(stale));
    let rate = |run: &Replayed, from, until| run.series[0].over(from, until).hit_rate;
    let before = rate(again, i64::MIN, freeze_ms);
    let (lost, back) = (rate(stale, first, i64::MAX), rate(again, first, i64::MAX));
    // Measured: .074 before, then .067 against .083 over the same events.
    assert!(back > 1.1 * lost, "{before} {lost} {back}");
    assert!(back > 0.9 * before, "{before} {lost} {back}");
}

#[test]
fn the_season_of_a_gift_shop_is_seen_by_the_drift_and_followed_by_a_model_that_is_fitted_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, plot) = (dir.path().join("autumn.jsonl"), dir.path().join("drift.svg"));
    autumn(&log);
    let args = Cli::parse_from([
        "evaluate",
        "--format=events",
        "--train",
        log.to_str().unwrap(),
        "--model=ItemKnn",
        "--prequential",
        "--predictions=3000",
        "--freeze-at=2011-10-01T00:00:00Z",
        "--refit-on-drift",
        "--plot",
        plot.to_str().unwrap(),
    ])
    .args;
    let log = load::log(&args).unwrap();
    let models = [Algorithm::ItemKnn];
    let runs = replays(&args, &log, &models, &Params::for_events()).unwrap();
    let [(_, alone), (_, again), (_, learning)] = &runs[..] else {
        panic!("{runs:?}")
    };
    assert!(alone.refits_ms.is_empty() && learning.refits_ms.is_empty());
    let first = again.refits_ms[0];
    assert!(report::day(first as f64).as_str() > "2011-10-01", "{first}");
    let over = |run: &Replayed, from: i64, until: i64| highest(&run.drift, from, until).unwrap();
    let later = first + 86_400_000;
    assert!(over(alone, later, i64::MAX) > 0.3, "{alone:?}");
    assert!(
        over(again, later, i64::MAX) < over(alone, later, i64::MAX),
        "{again:?}"
    );
    let hits = |run: &Replayed| {
        let after = run.series[0].points.iter().filter(|point| point.from_ms > first);
        after.fold((0.0, 0.0), |(hits, all), point| {
            let n = point.predictions as f64;
            (hits + point.hit_rate * n, all + n)
        })
    };
    let rate = |(hits, all): (f64, f64)| hits / all;
    assert!(rate(hits(again)) > rate(hits(alone)), "{runs:?}");
    run(&args, &log, &models, &Params::for_events()).unwrap();
    let drawn = std::fs::read_to_string(&plot).unwrap();
    assert!(drawn.contains("left alone") && drawn.contains("stroke-dasharray") && !drawn.contains("NaN"));
}
