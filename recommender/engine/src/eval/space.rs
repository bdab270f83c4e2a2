//! What is searched: the hyper-parameters of each model with the values that are tried, around what the
//! papers and comparisons of them recommend.

use super::data::{Dataset, Task};
use crate::config::Algorithm;

/// A parameter and the values to try.
pub(super) struct Axis {
    pub key: &'static str,
    /// Numbers ascend. `null` leaves it to the model.
    pub values: &'static [&'static str],
    /// Whether a value is tried at the price of an answer, on models as they stand.
    pub cheap: bool,
}

const fn cheap(key: &'static str, values: &'static [&'static str]) -> Axis {
    let cheap = true;
    Axis { key, values, cheap }
}

const fn dear(key: &'static str, values: &'static [&'static str]) -> Axis {
    let cheap = false;
    Axis { key, values, cheap }
}

const POPULARITY: &[Axis] = &[dear(
    "trendHalfLifeDays",
    &["1", "3", "7", "14", "30", "90", "365"],
)];
// Paudel et al. 2017 and Ferrari Dacrema et al. 2019.
const WALK: &[Axis] = &[
    dear(
        "walkBeta",
        &["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9"],
    ),
    dear("walkAlpha", &["0.4", "0.6", "0.8", "1", "1.2"]),
    dear("neighbors", &["100", "500", "2000"]),
    dear("pairHistory", &["30", "100", "10000"]),
];
const KNN: &[Axis] = &[
    dear("neighbors", &["5", "20", "100", "500"]),
    dear("shrinkage", &["0", "1", "10", "50"]),
    dear("damping", &["true", "false"]),
    dear("repeats", &["Log", "Binary"]),
    dear("pairHistory", &["30", "100", "10000"]),
];
// Steck 2019.
const EASE: &[Axis] = &[
    dear(
        "ease.regularization",
        &["10", "20", "50", "100", "200", "500", "1000", "2000"],
    ),
    dear("ease.keep", &["100", "500", "2000"]),
];
// Rendle et al. 2021.
const ALS: &[Axis] = &[
    dear("als.unobserved", &["0.003", "0.01", "0.03", "0.1", "0.3", "1"]),
    dear("als.regularization", &["0.001", "0.003", "0.01", "0.03"]),
    dear("als.frequency", &["0.5", "1"]),
];
// Kersbergen et al. 2022, Garg et al. 2019, Ludewig and Jannach 2018.
const SESSION: &[Axis] = &[
    cheap("session.repeatLast", &["null", "0", "0.3", "1", "2"]),
    cheap("session.repeat", &["null", "0", "0.3", "1", "3", "6"]),
    cheap("session.positionDecay", &["1", "1.5", "3", "6"]),
    cheap("session.distanceDecay", &["1", "2", "3", "6"]),
    cheap("session.backward", &["0.3", "0.5", "0.7", "1"]),
    cheap("session.recencyDecay", &["0", "0.1", "0.3", "1"]),
    cheap("session.rarity", &["0.3", "0.6", "1"]),
    cheap("session.lengthPenalty", &["0", "0.3", "0.5"]),
    cheap("session.popularityPenalty", &["0", "0.1", "0.2"]),
    cheap("session.neighbors", &["100", "200", "500", "1500"]),
    cheap("session.window", &["5", "10", "20"]),
    dear("session.postings", &["150", "500", "2000"]),
];
/// What answers are computed from; matters where there are times.
const BASIS: &[Axis] = &[
    cheap("historyLength", &["20", "50", "100", "300", "10000"]),
    cheap("halfLifeDays", &["15", "30", "60", "120", "365"]),
];
const TRAINING: &[Axis] = &[dear("trainingHalfLifeDays", &["45", "90", "180", "365", "10000"])];

/// What is searched for a model on this kind of data, what matters most first.
pub(super) fn axes(algorithm: Algorithm, data: &Dataset) -> Vec<&'static Axis> {
    let own: &[&[Axis]] = match (algorithm, data.timed) {
        (Algorithm::Popularity, true) => &[POPULARITY],
        (Algorithm::Rp3Beta, true) => &[WALK, BASIS],
        (Algorithm::Rp3Beta, false) => &[WALK],
        (Algorithm::ItemKnn, true) => &[KNN, BASIS],
        (Algorithm::ItemKnn, false) => &[KNN],
        (Algorithm::Ease, true) => &[EASE, TRAINING, BASIS],
        (Algorithm::Ease, false) => &[EASE],
        (Algorithm::ImplicitAls, true) => &[ALS, TRAINING, BASIS],
        (Algorithm::ImplicitAls, false) => &[ALS],
        (Algorithm::SessionKnn, _) => &[SESSION],
        // Around the blend: its members are searched each by itself.
        (Algorithm::Hybrid, true) => &[POPULARITY, BASIS],
        _ => &[],
    };
    own.iter().flat_map(|axes| axes.iter()).collect()
}

/// What a blend is made of on this kind of data, and what is searched for it before.
pub(super) fn members(data: &Dataset) -> &'static [Algorithm] {
    match (&data.task, data.timed) {
        (Task::Sessions(_), _) => &[Algorithm::SessionKnn, Algorithm::Rp3Beta],
        (Task::Customers(_), false) => &[Algorithm::Rp3Beta, Algorithm::Ease, Algorithm::ImplicitAls],
        (Task::Customers(_), true) => &[
            Algorithm::Ease,
            Algorithm::Rp3Beta,
            Algorithm::ImplicitAls,
            Algorithm::SessionKnn,
        ],
    }
}

/// How the time of a search is shared out.
pub(super) fn share(algorithm: Algorithm) -> f64 {
    match algorithm {
        Algorithm::Popularity => 1.0,
        Algorithm::SessionKnn => 4.0,
        Algorithm::ItemKnn | Algorithm::Ease => 4.0,
        Algorithm::Rp3Beta | Algorithm::ImplicitAls => 5.0,
        _ => 6.0,
    }
}
