//! Fitting and judging, without a store or a clock.

use recommender_engine::eval::Shape;
use recommender_engine::matrix::Sparse;
use recommender_engine::{
    Algorithm, Artifact, Blend, ConfigError, EngineConfig, EventKind, Interaction, Query, Reader,
    TrainingData, engine,
};

/// How much worse than the version before, relative to it, a new one may be: differences within it are chance.
pub const MARGIN: f64 = 0.02;
/// The newest share of what customers did is asked about.
const HELD_OUT: f64 = 0.1;
/// Questions at most.
const MAX_QUESTIONS: usize = 2_000;
/// With fewer questions nothing can be told.
const MIN_QUESTIONS: usize = 20;
/// Products in an answer.
const AT: usize = 10;
/// An interest halves in this time for fitted models: a season.
const HALF_LIFE_MS: i64 = 90 * 24 * 3_600_000;
/// Weights that are tried of the fitted members of the blend: of `Ease`, of `ImplicitAls`.
const BLENDS: [(f32, f32); 6] = [
    (0.0, 0.0),
    (0.5, 0.25),
    (0.5, 0.5),
    (1.0, 0.0),
    (1.0, 1.0),
    (2.0, 0.5),
];

/// Why nothing was fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// There is too little to learn from.
    #[error(
        "too little to learn from: {questions} customers came back for something new, {MIN_QUESTIONS} are needed"
    )]
    TooLittle {
        /// Questions that could be asked.
        questions: usize,
    },
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// What answers together.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Its name, in every answer.
    pub version: String,
    /// When it was fitted, milliseconds since 1970.
    pub trained_ms: i64,
    /// The models.
    pub artifacts: Vec<Artifact>,
    /// What each member of `Hybrid` counts.
    pub blend: Blend,
}

/// A bundle and how good it is.
pub struct Fitted {
    /// It.
    pub bundle: Bundle,
    /// Share of questions answered.
    pub hit_rate: f64,
    /// The same of the bundle before.
    pub previous_hit_rate: Option<f64>,
    /// Questions asked.
    pub questions: usize,
}

/// Whether a new version may take the place of the one before.
pub fn good_enough(new: f64, previous: Option<f64>) -> bool {
    previous.is_none_or(|previous| new >= previous * (1.0 - MARGIN))
}

/// Of a customer (a row): the products to be guessed.
type Question = (usize, Vec<u32>);

/// Takes the newest part away: what is left, and questions about what was taken.
fn split(data: &TrainingData) -> (TrainingData, Vec<Question>) {
    let rows = &data.interactions;
    // The weight falls with age alone, so its order is that of time.
    let mut weights: Vec<f32> = (0..rows.rows())
        .flat_map(|row| rows.row(row).1.iter().copied())
        .collect();
    weights.sort_unstable_by(|a, b| b.total_cmp(a));
    let at = ((weights.len() as f64 * HELD_OUT) as usize).min(weights.len().saturating_sub(1));
    let newest = weights.get(at).copied().unwrap_or(f32::MAX);
    let mut kept = Sparse::new(rows.width());
    let mut questions = Vec::new();
    for row in 0..rows.rows() {
        let (mut left, taken): (Vec<_>, Vec<_>) =
            rows.iter_row(row).partition(|(_, weight)| *weight <= newest);
        if !left.is_empty() && !taken.is_empty() {
            questions.push((row, taken.into_iter().map(|(product, _)| product).collect()));
        }
        kept.push_row(&mut left);
    }
    // Evenly over all customers, whose order is that of their names.
    let step = questions.len().div_ceil(MAX_QUESTIONS).max(1);
    let questions = questions.into_iter().step_by(step).collect();
    let train = TrainingData {
        products: data.products.clone(),
        interactions: kept,
    };
    (train, questions)
}

fn models(data: &TrainingData, version: &str, now_ms: i64) -> Vec<Artifact> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let shape = Shape::of(&data.interactions);
    let als = Artifact::implicit_als(data, &shape.als(), threads, version, now_ms);
    match Artifact::ease(data, &shape.ease(), version, now_ms) {
        Ok(ease) => vec![ease, als],
        Err(e) => {
            tracing::info!(reason = %e, "Ease is left out");
            vec![als]
        }
    }
}

/// Fits a bundle to what a reader knows, and judges it and the one before.
pub fn fit(
    reader: &Reader,
    config: &EngineConfig,
    previous: Option<&Bundle>,
    now_ms: i64,
) -> Result<Fitted, FitError> {
    let data = reader.training_data(now_ms, HALF_LIFE_MS);
    let (train, questions) = split(&data);
    if questions.len() < MIN_QUESTIONS {
        let questions = questions.len();
        return Err(FitError::TooLittle { questions });
    }
    let mut judge = Judge::new(&train, &questions, config, now_ms)?;
    let previous_hit_rate = previous.map(|bundle| judge.hit_rate(&bundle.artifacts, &bundle.blend));
    let candidates = models(&train, "candidate", now_ms);
    let (mut blend, mut hit_rate) = (Blend::default(), judge.hit_rate(&candidates, &Blend::default()));
    // As before there was the member of what is popular; where nothing trends, it is in the way.
    let plain = Blend {
        trend: 0.3,
        popular: 0.0,
        ..Blend::default()
    };
    let grid = [Blend::default(), plain.clone()].into_iter().flat_map(|start| {
        BLENDS.map(|(ease, als)| Blend {
            ease,
            als,
            ..start.clone()
        })
    });
    // What answers now may be right still.
    let now = previous.map(|bundle| bundle.blend.clone());
    for other in std::iter::once(plain).chain(grid).chain(now) {
        let rate = judge.hit_rate(&candidates, &other);
        if rate > hit_rate {
            (blend, hit_rate) = (other, rate);
        }
    }
    let version = version(now_ms);
    let artifacts = models(&data, &version, now_ms);
    Ok(Fitted {
        bundle: Bundle {
            version,
            trained_ms: now_ms,
            artifacts,
            blend,
        },
        hit_rate,
        previous_hit_rate,
        questions: questions.len(),
    })
}

/// A version's name: when it was fitted, to the second, in UTC.
fn version(now_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(now_ms) {
        Ok(time) => time.strftime("%Y%m%dT%H%M%SZ").to_string(),
        Err(_) => now_ms.to_string(),
    }
}

/// An engine that knows what the questions are not about.
struct Judge<'a> {
    writer: recommender_engine::Writer,
    reader: Reader,
    data: &'a TrainingData,
    questions: &'a [Question],
    now_ms: i64,
}

impl<'a> Judge<'a> {
    fn new(
        data: &'a TrainingData,
        questions: &'a [Question],
        config: &EngineConfig,
        now_ms: i64,
    ) -> Result<Self, FitError> {
        let (mut writer, reader) = engine(EngineConfig {
            max_events_per_minute: 0, // times are known to the millisecond only as far as weights tell them
            ..config.clone()
        })?;
        let names: Vec<String> = (0..data.interactions.rows()).map(|row| row.to_string()).collect();
        let mut events: Vec<Interaction<'_>> = Vec::with_capacity(data.interactions.entries());
        for (row, name) in names.iter().enumerate() {
            for (product, weight) in data.interactions.iter_row(row) {
                let age_ms = (-f64::from(weight).log2() * HALF_LIFE_MS as f64) as i64;
                let product = &data.products[product as usize];
                events.push(Interaction::new(
                    name,
                    product,
                    EventKind::Purchase,
                    now_ms - age_ms,
                ));
            }
        }
        events.sort_by_key(|event| event.time_ms);
        writer.bulk(events, now_ms);
        Ok(Self {
            writer,
            reader,
            data,
            questions,
            now_ms,
        })
    }

    fn hit_rate(&mut self, artifacts: &[Artifact], blend: &Blend) -> f64 {
        for algorithm in [Algorithm::Ease, Algorithm::ImplicitAls] {
            self.writer.uninstall(algorithm);
        }
        for artifact in artifacts {
            self.writer.install(artifact);
        }
        self.writer.set_blend(blend.clone());
        let hits = self.questions.iter().filter(|(row, wanted)| {
            let customer = row.to_string();
            let answer = self.reader.recommend(&Query {
                customer: Some(&customer),
                algorithm: Some(Algorithm::Hybrid),
                limit: AT,
                diversity: Some(0.0),
                exploration: Some(0.0),
                now_ms: self.now_ms,
                ..Query::default()
            });
            let right = |product: &u32| {
                let name = &self.data.products[*product as usize];
                answer.items.iter().any(|item| item.product == *name)
            };
            wanted.iter().any(right)
        });
        hits.count() as f64 / self.questions.len().max(1) as f64
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const DAY_MS: i64 = 24 * 3_600_000;

    /// A shop with two kinds of customers, each of whom buys things of one half.
    pub(crate) fn shop() -> (recommender_engine::Writer, Reader, i64) {
        let (mut writer, reader) = engine(EngineConfig::default()).unwrap();
        let now = 1_700_000_000_000;
        let mut events = Vec::new();
        for customer in 0..200usize {
            for n in 0..6 {
                let product = customer % 2 * 20 + (customer * 7 + n * 3) % 20;
                let at = now - (300 - customer as i64 - n as i64 * 10) * DAY_MS / 3;
                events.push((at, format!("c{customer}"), format!("p{product}")));
            }
        }
        events.sort();
        let interactions = events
            .iter()
            .map(|(at, customer, product)| Interaction::new(customer, product, EventKind::Purchase, *at));
        writer.bulk(interactions, now);
        (writer, reader, now)
    }

    #[test]
    fn what_is_asked_about_is_newer_than_what_is_learned() {
        let (_writer, reader, now) = shop();
        let data = reader.training_data(now, HALF_LIFE_MS);
        let (train, questions) = split(&data);
        let all = data.interactions.entries();
        assert!(train.interactions.entries() < all && train.interactions.entries() > all * 8 / 10);
        let learned = (0..train.interactions.rows()).flat_map(|row| train.interactions.row(row).1.to_vec());
        let newest = learned.fold(0.0, f32::max);
        for (row, wanted) in &questions {
            for (product, weight) in data.interactions.iter_row(*row) {
                assert_eq!(wanted.contains(&product), weight > newest);
            }
        }
    }

    #[test]
    fn a_bundle_is_fitted_judged_and_compared_with_the_one_before() {
        let (_writer, reader, now) = shop();
        let config = EngineConfig::default();
        let first = fit(&reader, &config, None, now).unwrap();
        assert_eq!(first.bundle.artifacts.len(), 2);
        assert_eq!(first.bundle.version, "20231114T221320Z");
        assert!(first.previous_hit_rate.is_none());
        // Of 40 products 10 are shown: chance would be right about a quarter of the time.
        assert!(first.hit_rate > 0.4, "{}", first.hit_rate);
        let second = fit(&reader, &config, Some(&first.bundle), now + DAY_MS).unwrap();
        assert!(second.previous_hit_rate.is_some());
    }

    #[test]
    fn worse_than_the_margin_is_not_good_enough() {
        assert!(good_enough(0.1, None));
        assert!(good_enough(0.5, Some(0.5)) && good_enough(0.495, Some(0.5)));
        assert!(!good_enough(0.48, Some(0.5)));
    }

    #[test]
    fn too_little_is_told_instead_of_fitted() {
        let (_, reader) = engine(EngineConfig::default()).unwrap();
        let error = fit(&reader, &EngineConfig::default(), None, 0).err().unwrap();
        assert!(matches!(error, FitError::TooLittle { questions: 0 }));
    }
}
