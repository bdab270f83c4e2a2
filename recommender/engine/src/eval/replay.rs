//! Prequential evaluation: a log is replayed, and events are predicted before they are learned. Unlike one
//! split it shows how a model does from its first day on, and what becomes of it when the shop changes.

use std::sync::Arc;

use ahash::AHashSet;
use serde::Serialize;

use super::{data::is_target, params::Params, parse::LogEvent, run::EvalError};
use crate::{
    config::Algorithm,
    drift::{Drift, DriftReport, DriftWindows},
    event::{EventKind, Interaction},
    fitted::Artifact,
    query::Query,
    reader::Reader,
    writer::{Writer, engine},
};

/// Neighbour lists refreshed before a prediction, as a service does between batches.
const ROWS: usize = 256;
/// Events after which lists are refreshed where nothing is predicted.
const QUIET: usize = 512;
const DAY_MS: i64 = 24 * 3_600_000;

/// What stands still from the time on at which a replay freezes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freeze {
    /// Nothing is learned any more, what customers do included: a model that was trained once and left alone.
    Everything,
    /// Fitted models alone, as in a service whose trainer stands still: histories and counts go on.
    Fitted,
}

/// How a log is replayed.
#[derive(Clone, Debug)]
pub struct Replay<'a> {
    /// The models that predict, all from one engine.
    pub algorithms: &'a [Algorithm],
    /// Their parameters.
    pub params: &'a Params,
    /// Length of the answers.
    pub k: usize,
    /// About how many events are predicted, spread over the log.
    pub predictions: usize,
    /// Over how many stretches of equal time hit rates are told.
    pub points: usize,
    /// Nothing is predicted before this time.
    pub from_ms: i64,
    /// From this time on the models, or what `freeze` says of them, stand still.
    pub freeze_ms: i64,
    /// What stands still then.
    pub freeze: Freeze,
    /// Where drift comes over this afterwards, what stands still is made once more of all that happened until then.
    pub refit_over: Option<f64>,
    /// Time after which fitted models are fitted anew.
    pub refit_ms: i64,
    /// Threads for fitting.
    pub threads: usize,
}

/// How well a model predicted in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// When the stretch begins, milliseconds since 1970.
    pub from_ms: i64,
    /// Events predicted.
    pub predictions: u64,
    /// Share of them whose product was among those recommended just before.
    pub hit_rate: f64,
    /// Mean reciprocal rank of the product.
    pub mrr: f64,
}

/// One event that was predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// When it happened, milliseconds since 1970.
    pub at_ms: i64,
    /// The place of its product among those recommended just before, from 1; `None` if it was not among them.
    pub rank: Option<usize>,
}

/// How well a model predicted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// The model.
    pub algorithm: Algorithm,
    /// Over the whole time.
    pub total: Point,
    /// Share of the products known in the end that were recommended at any time.
    pub coverage: f64,
    /// Over time, oldest first; stretches without predictions are left out.
    pub points: Vec<Point>,
    /// Each prediction, oldest first.
    #[serde(skip)]
    pub predictions: Vec<Prediction>,
}

impl Series {
    /// How well it predicted from one time until another.
    pub fn over(&self, from_ms: i64, until_ms: i64) -> Point {
        over(&self.predictions, from_ms, until_ms)
    }
}

fn over(predictions: &[Prediction], from_ms: i64, until_ms: i64) -> Point {
    let begin = predictions.partition_point(|one| one.at_ms < from_ms);
    let end = predictions.partition_point(|one| one.at_ms < until_ms);
    let within = predictions.get(begin..end).unwrap_or_default();
    let ranks = || within.iter().filter_map(|one| one.rank);
    let all = within.len().max(1) as f64;
    Point {
        from_ms,
        predictions: within.len() as u64,
        hit_rate: ranks().count() as f64 / all,
        mrr: ranks().map(|rank| 1.0 / rank as f64).sum::<f64>() / all,
    }
}

/// The drift at the end of a day.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DriftPoint {
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// The metric of the service.
    #[serde(flatten)]
    pub drift: DriftReport,
}

/// What a replay showed.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// Of each model how well it predicted.
    pub series: Vec<Series>,
    /// The drift day by day, on days with enough events to tell.
    pub drift: Vec<DriftPoint>,
    /// When the models were trained once more because of it, milliseconds since 1970.
    pub refits_ms: Vec<i64>,
}

struct Tally {
    algorithm: Algorithm,
    predictions: Vec<Prediction>,
    shown: AHashSet<Arc<str>>,
}

/// Replays a log, oldest event first. Predicted are purchases (in a log without any, whatever is no return)
/// of products that are known but new to a customer who is known. `progress` hears how many events are done.
pub fn replay(
    log: &[LogEvent],
    replay: &Replay<'_>,
    mut progress: impl FnMut(usize),
) -> Result<Replayed, EvalError> {
    // Only a writer that is told to lets its models compete.
    let auto = replay.algorithms.contains(&Algorithm::Auto);
    let configured = if auto { Algorithm::Auto } else { Algorithm::Hybrid };
    let (mut writer, reader) = engine(replay.params.config(configured))?;
    let purchases_only = log.iter().any(|event| event.kind == EventKind::Purchase);
    let asked = |event: &LogEvent| is_target(event.kind, purchases_only) && event.time_ms >= replay.from_ms;
    let targets = log.iter().filter(|event| asked(event)).count();
    let one_in = (targets / replay.predictions.max(1)).max(1) as u64;
    let hasher = ahash::RandomState::with_seeds(21, 22, 23, 24);
    let begin_ms = log.first().map_or(0, |event| event.time_ms).max(replay.from_ms);
    let end_ms = log.last().map_or(0, |event| event.time_ms);
    let points = replay.points.max(1);
    let stretch_ms = ((end_ms - begin_ms) / points as i64 + 1).max(1);
    let fresh = |algorithm: &Algorithm| Tally {
        algorithm: *algorithm,
        predictions: Vec::new(),
        shown: AHashSet::new(),
    };
    let mut tallies: Vec<Tally> = replay.algorithms.iter().map(fresh).collect();
    let mut fitted_ms = log.first().map_or(0, |event| event.time_ms);
    let mut seen = Seen::default();
    let mut watch = Watch::new(replay);
    // Where something stands still: the first event that was not made use of.
    let mut left = None;
    for (at, event) in log.iter().enumerate() {
        let now_ms = event.time_ms;
        let frozen = now_ms >= replay.freeze_ms;
        let learns = !frozen || replay.freeze == Freeze::Fitted;
        let drifted = watch.comes_over(now_ms);
        if frozen && let Some(from) = left.filter(|_| drifted) {
            if !learns {
                for missed in &log[from..at] {
                    writer.apply(&missed.interaction(), missed.time_ms);
                }
            }
            left = None;
            watch.refits_ms.push(now_ms);
        }
        let left_alone = frozen && left.is_none();
        if left_alone || !frozen && now_ms - fitted_ms >= replay.refit_ms {
            fitted_ms = now_ms;
            fit(&mut writer, &reader, replay, now_ms)?;
            watch.drift.fitted(Some(now_ms));
        }
        if left_alone {
            left = Some(at);
            while !learns && writer.publish(now_ms, ROWS).pending > 0 {}
        }
        if asked(event) && hasher.hash_one(at).is_multiple_of(one_in) && seen.is_news(event) {
            if learns {
                writer.publish(now_ms, ROWS);
            }
            for tally in &mut tallies {
                tally.predict(&reader, event, replay.k);
            }
        }
        if learns {
            writer.apply(&event.interaction(), now_ms);
            if at % QUIET == 0 {
                writer.publish(now_ms, ROWS);
            }
        }
        seen.add(event);
        watch.drift.observe(&event.product, event.kind, now_ms);
        progress(at + 1);
    }
    let products = reader.stats().products.max(1) as f64;
    let series = tallies.into_iter().map(|tally| {
        let stretch = |at: usize| {
            let from_ms = begin_ms + at as i64 * stretch_ms;
            over(&tally.predictions, from_ms, from_ms + stretch_ms)
        };
        Series {
            algorithm: tally.algorithm,
            total: over(&tally.predictions, begin_ms, i64::MAX),
            coverage: tally.shown.len() as f64 / products,
            points: (0..points)
                .map(stretch)
                .filter(|point| point.predictions > 0)
                .collect(),
            predictions: tally.predictions,
        }
    });
    Ok(Replayed {
        series: series.collect(),
        drift: watch.points,
        refits_ms: watch.refits_ms,
    })
}

impl LogEvent {
    fn interaction(&self) -> Interaction<'_> {
        Interaction::new(&self.customer, &self.product, self.kind, self.time_ms)
    }
}

/// Looks at the drift once a day.
struct Watch {
    drift: Drift,
    over: Option<f64>,
    /// The day of the newest event.
    day: i64,
    /// Whether it was over the threshold when last looked.
    was_over: bool,
    points: Vec<DriftPoint>,
    refits_ms: Vec<i64>,
}

impl Watch {
    fn new(replay: &Replay<'_>) -> Self {
        Watch {
            drift: Drift::new(DriftWindows::default()),
            over: replay.refit_over,
            day: i64::MIN,
            was_over: false,
            points: Vec::new(),
            refits_ms: Vec::new(),
        }
    }

    /// Whether the day that ends with an event of this time is one on which the drift came over the threshold, or what
    /// the models were made from is still over it: what a service's trainer fits models again for.
    fn comes_over(&mut self, now_ms: i64) -> bool {
        let day = now_ms.div_euclid(DAY_MS);
        if day <= self.day {
            return false;
        }
        let ended = std::mem::replace(&mut self.day, day);
        // In a day without events nothing is told.
        let at_ms = ended.saturating_add(1).saturating_mul(DAY_MS).saturating_sub(1);
        let Some(drift) = self.drift.report(at_ms) else {
            return false;
        };
        self.points.push(DriftPoint { at_ms, drift });
        let Some(threshold) = self.over else {
            return false;
        };
        let was_over = std::mem::replace(&mut self.was_over, drift.worst() > threshold);
        // What the models were made from is far again, whatever the week before was like.
        let far = drift.since_fit.is_some_and(|since_fit| since_fit > threshold);
        far || self.was_over && !was_over
    }
}

/// Who and what the log has shown so far, whether or not the model was allowed to learn it.
#[derive(Default)]
struct Seen<'a> {
    customers: AHashSet<&'a str>,
    products: AHashSet<&'a str>,
    pairs: AHashSet<(&'a str, &'a str)>,
}

impl<'a> Seen<'a> {
    /// Whether a prediction says something: the customer and the product are known, but not to each other.
    fn is_news(&self, event: &LogEvent) -> bool {
        let (customer, product) = (&*event.customer, &*event.product);
        self.customers.contains(customer)
            && self.products.contains(product)
            && !self.pairs.contains(&(customer, product))
    }

    fn add(&mut self, event: &'a LogEvent) {
        self.customers.insert(&event.customer);
        self.products.insert(&event.product);
        self.pairs.insert((&event.customer, &event.product));
    }
}

impl Tally {
    /// Asks for what the customer of an event is recommended just before it.
    fn predict(&mut self, reader: &Reader, event: &LogEvent, k: usize) {
        let answer = reader.recommend(&Query {
            customer: Some(&event.customer),
            algorithm: Some(self.algorithm),
            limit: k,
            now_ms: event.time_ms,
            ..Query::default()
        });
        let place = answer.items.iter().position(|item| item.product == event.product);
        self.predictions.push(Prediction {
            at_ms: event.time_ms,
            rank: place.map(|place| place + 1),
        });
        for item in answer.items {
            if !self.shown.contains(&item.product) {
                self.shown.insert(item.product);
            }
        }
    }
}

/// Fits what the models in question need.
fn fit(writer: &mut Writer, reader: &Reader, replay: &Replay<'_>, now_ms: i64) -> Result<(), EvalError> {
    let Params { blend, ease, als, .. } = replay.params;
    let asked = |algorithm| replay.algorithms.contains(&algorithm);
    let hybrid = asked(Algorithm::Hybrid) || asked(Algorithm::Auto);
    let training = || reader.training_data(now_ms, replay.params.training_half_life_ms());
    if asked(Algorithm::Ease) || hybrid && blend.ease > 0.0 {
        match Artifact::ease(&training(), ease, "replay", now_ms) {
            Ok(artifact) => writer.install(&artifact),
            // Asked for by name, the blend answers in its place, as it does in service.
            Err(crate::models::ease::EaseError::TooLarge { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if asked(Algorithm::ImplicitAls) || hybrid && blend.als > 0.0 {
        writer.install(&Artifact::implicit_als(
            &training(),
            als,
            replay.threads,
            "replay",
            now_ms,
        ));
    }
    Ok(())
}
