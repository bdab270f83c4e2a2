//! Searching hyper-parameters on a validation set cut from training data.

use super::{
    data::Dataset,
    metrics::Metrics,
    params::Params,
    run::{EvalError, Trained},
};
use crate::config::Algorithm;

/// A parameter and the values to try.
type Axis = (&'static str, &'static [&'static str]);

const WALK: &[Axis] = &[
    ("walkBeta", &["0.1", "0.3", "0.4", "0.5"]),
    ("walkAlpha", &["0.6", "1"]),
    ("pairHistory", &["20", "30", "100", "10000"]),
    ("neighbors", &["200", "2000"]),
];
const KNN: &[Axis] = &[
    ("pairHistory", &["20", "30", "100", "10000"]),
    ("neighbors", &["20", "100", "2000"]),
    ("shrinkage", &["0", "5", "20"]),
    ("damping", &["false"]),
];
const EASE: &[Axis] = &[
    ("ease.regularization", &["50", "100", "500", "1000"]),
    ("trainingHalfLifeDays", &["60", "90", "360", "100000"]),
    ("ease.keep", &["100", "1000"]),
];
const ALS: &[Axis] = &[
    ("als.unobserved", &["0.003", "0.03", "0.1"]),
    ("als.regularization", &["0.001", "0.01"]),
    ("trainingHalfLifeDays", &["60", "100000"]),
];
const SESSION: &[Axis] = &[
    ("session.rarity", &["0.3", "0.8", "1.0"]),
    ("session.repeat", &["0.5", "1", "5"]),
    ("session.repeatLast", &["0.3", "0.7", "1.5"]),
    ("session.positionDecay", &["1.5", "2", "5"]),
    ("session.distanceDecay", &["1.5", "2", "5"]),
    ("session.lengthPenalty", &["0", "0.5"]),
    ("session.recencyDecay", &["0", "0.3"]),
    ("session.backward", &["0.5", "0.85", "1"]),
    ("session.popularityPenalty", &["0", "0.2"]),
    ("session.neighbors", &["200", "1500"]),
];
const TREND: &[Axis] = &[
    ("historyLength", &["20", "100", "10000"]),
    ("trendHalfLifeDays", &["3", "14", "30"]),
    ("halfLifeDays", &["30", "180"]),
];
const BLEND: &[Axis] = &[
    ("blend.trend", &["0", "0.15", "0.3", "0.4", "0.5", "0.7"]),
    ("blend.walk", &["0", "0.1", "0.25", "0.5", "1", "2"]),
    ("blend.als", &["0", "0.25", "0.5", "1", "2"]),
    ("blend.ease", &["0", "0.5", "1", "2"]),
    ("blend.session", &["0", "0.25", "1"]),
    ("blend.knn", &["0", "0.1", "0.3"]),
    ("blend.trend", &["0", "0.15", "0.3", "0.4", "0.5", "0.7"]),
];

fn axes(algorithm: Algorithm) -> &'static [Axis] {
    match algorithm {
        Algorithm::Rp3Beta => WALK,
        Algorithm::ItemKnn => KNN,
        Algorithm::Ease => EASE,
        Algorithm::ImplicitAls => ALS,
        Algorithm::SessionKnn => SESSION,
        Algorithm::Popularity => TREND,
        _ => &[],
    }
}

/// What is maximised: finding, and finding early.
pub fn objective(metrics: &Metrics) -> f64 {
    if metrics.recall == metrics.hit_rate {
        metrics.hit_rate + metrics.mrr
    } else {
        metrics.recall + metrics.ndcg
    }
}

/// One pass of coordinate search, on a validation set of the training data of `data`; its test is never
/// looked at. `go_on` hears of each trial and may end the search (out of time).
pub fn tune(
    data: &Dataset,
    algorithm: Algorithm,
    start: &Params,
    k: usize,
    threads: usize,
    mut go_on: impl FnMut(&str, f64) -> bool,
) -> Result<Params, EvalError> {
    let validation = data.validation();
    let mut best = start.clone();
    if algorithm != Algorithm::Hybrid {
        search(&validation, algorithm, &mut best, k, threads, &mut go_on)?;
        return Ok(best);
    }
    // Members first, each alone, then their weights; those that had no weight to start with are left out
    // unless they are cheap.
    for (member, weight) in [
        (Algorithm::Rp3Beta, best.blend.walk),
        (Algorithm::SessionKnn, best.blend.session),
        (Algorithm::Ease, best.blend.ease),
        (Algorithm::ImplicitAls, best.blend.als),
    ] {
        if weight > 0.0 && !search(&validation, member, &mut best, k, threads, &mut go_on)? {
            return Ok(best);
        }
    }
    let mut trained = Trained::new(&validation, Algorithm::Hybrid, &best, threads)?;
    let mut top = objective(&trained.metrics(k, |_| {}));
    for (key, values) in BLEND {
        for value in *values {
            let mut trial = best.clone();
            if trial.set(key, value).is_err() || trial == best {
                continue;
            }
            trained.set_blend(trial.blend.clone());
            let score = objective(&trained.metrics(k, |_| {}));
            if score > top {
                (top, best) = (score, trial);
            }
            if !go_on(&format!("{key}={value}"), score) {
                return Ok(best);
            }
        }
    }
    Ok(best)
}

/// Answers false when told to stop.
fn search(
    validation: &Dataset,
    algorithm: Algorithm,
    best: &mut Params,
    k: usize,
    threads: usize,
    go_on: &mut impl FnMut(&str, f64) -> bool,
) -> Result<bool, EvalError> {
    let mut trained = match Trained::new(validation, algorithm, best, threads) {
        // Too many products for a member of the blend: nothing to search.
        Err(EvalError::Ease(_)) => return Ok(true),
        trained => trained?,
    };
    let mut top = objective(&trained.metrics(k, |_| {}));
    for (key, values) in axes(algorithm) {
        for value in *values {
            let mut trial = best.clone();
            if trial.set(key, value).is_err() || trial == *best {
                continue;
            }
            // What only changes the answer needs no new training.
            if key.starts_with("session.") {
                trained.set_session(&trial);
            } else {
                trained = Trained::new(validation, algorithm, &trial, threads)?;
            }
            let score = objective(&trained.metrics(k, |_| {}));
            if score > top {
                (top, *best) = (score, trial);
            }
            if !go_on(&format!("{} {key}={value}", algorithm.name()), score) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
