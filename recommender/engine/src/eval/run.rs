//! Running models over a dataset: the same engine that serves, fed in bulk and asked question by question.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use ahash::AHashMap;

use super::{
    data::{Dataset, Task},
    likeness::Likeness,
    metrics::{Collector, Metrics, relevance},
    params::Params,
};
use crate::{
    config::{Algorithm, ConfigError, Tuning},
    event::Interaction,
    fitted::Artifact,
    models::ease::EaseError,
    query::Query,
    reader::Reader,
    writer::{Writer, engine},
};

/// Why a model cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The parameters are out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data has too many products for it.
    #[error(transparent)]
    Ease(#[from] EaseError),
}

/// Sessions of the data follow each other at this distance: far enough to be told apart.
const SESSION_MS: i64 = 3_600_000;
/// Questions that a thread takes at once.
const BATCH: usize = 64;

/// A model that has learned the training part of a dataset.
pub struct Trained<'a> {
    pub(super) data: &'a Dataset,
    params: Params,
    writer: Writer,
    pub(super) reader: Reader,
    now_ms: i64,
    pub(super) ids: AHashMap<Arc<str>, u32>,
    threads: usize,
}

impl<'a> Trained<'a> {
    /// Learns in bulk and fits what the algorithm needs, on this many threads.
    pub fn new(
        data: &'a Dataset,
        algorithm: Algorithm,
        params: &Params,
        threads: usize,
    ) -> Result<Trained<'a>, EvalError> {
        let now_ms = match data.task {
            Task::Sessions(_) => data.customers.len() as i64 * SESSION_MS,
            Task::Customers(_) => data.now_ms,
        };
        let (writer, reader) = learn(data, algorithm, params, now_ms)?;
        let ids = data
            .products
            .iter()
            .enumerate()
            .map(|(id, name)| (Arc::clone(name), id as u32))
            .collect();
        let mut trained = Trained {
            data,
            params: params.clone(),
            writer,
            reader,
            now_ms,
            ids,
            threads: threads.max(1),
        };
        let blend = params.blend.clone();
        let hybrid = algorithm == Algorithm::Hybrid;
        if algorithm == Algorithm::Ease || hybrid && blend.ease > 0.0 {
            match trained.fit(Algorithm::Ease) {
                // A blend goes on without a member that does not fit; by name it is an error.
                Err(EvalError::Ease(_)) if hybrid => {}
                fitted => fitted?,
            }
        }
        if algorithm == Algorithm::ImplicitAls || hybrid && blend.als > 0.0 {
            trained.fit(Algorithm::ImplicitAls)?;
        }
        Ok(trained)
    }

    /// Fits `Ease` or `ImplicitAls` anew; nothing is to be done for models that are counted.
    pub fn fit(&mut self, algorithm: Algorithm) -> Result<(), EvalError> {
        let half_life_ms = self.params.training_half_life_ms();
        let training = || self.reader.training_data(self.now_ms, half_life_ms);
        let artifact = match algorithm {
            Algorithm::Ease => Artifact::ease(&training(), &self.params.ease, "evaluation", self.now_ms)?,
            Algorithm::ImplicitAls => {
                let params = &self.params.als;
                Artifact::implicit_als(&training(), params, self.threads, "evaluation", self.now_ms)
            }
            _ => return Ok(()),
        };
        self.writer.install(&artifact);
        Ok(())
    }

    /// Changes to these parameters as cheaply as they allow: only what they invalidate is learned, counted
    /// or fitted anew, and of the fitted models only those of `fitted`.
    pub fn change(&mut self, params: &Params, fitted: &[Algorithm]) -> Result<(), EvalError> {
        let old = std::mem::replace(&mut self.params, params.clone());
        let relearn = old.structure() != params.structure();
        if relearn {
            // The old engine goes before the new one comes: two would not fit into memory for large data.
            let empty = Params::default().config(Algorithm::Popularity);
            (self.writer, self.reader) = engine(empty)?;
            (self.writer, self.reader) = learn(self.data, Algorithm::Hybrid, params, self.now_ms)?;
        } else {
            self.writer.tune(Tuning {
                history_length: params.history_length,
                diversity: params.diversity,
                ..self.writer.tuning().clone()
            })?;
            self.writer.set_half_life(params.half_life_ms());
            self.writer.set_session(params.session.clone());
            self.writer.set_blend(params.blend.clone());
            if old.neighborhood() != params.neighborhood() {
                self.writer.set_neighborhood(params.neighborhood(), self.now_ms);
            }
            if old.trend_half_life_days != params.trend_half_life_days {
                self.writer
                    .set_trend_half_life(params.trend_half_life_ms(), self.now_ms);
            }
        }
        let aged = old.training_half_life_days != params.training_half_life_days;
        for &algorithm in fitted {
            let other = match algorithm {
                Algorithm::Ease => old.ease != params.ease,
                Algorithm::ImplicitAls => old.als != params.als,
                _ => false,
            };
            if relearn || aged || other || !self.reader.fitted().iter().any(|(known, _)| *known == algorithm)
            {
                self.fit(algorithm)?;
            }
        }
        Ok(())
    }

    /// How many questions there are.
    pub fn questions(&self) -> usize {
        self.data.task.len()
    }

    /// Hands the question of this number, and what would be right, to `ask`.
    pub(super) fn question<T>(
        &self,
        at: usize,
        base: &Query<'_>,
        ask: impl FnOnce(&Query<'_>, &[u32]) -> T,
    ) -> T {
        let products = &self.data.products;
        match &self.data.task {
            Task::Customers(cases) => {
                let (customer, wanted) = &cases[at];
                let (name, touches) = &self.data.customers[*customer];
                let had = touches.iter().filter(|touch| self.data.is_target(touch.kind));
                let exclude: Vec<&str> = had.map(|touch| &*products[touch.product as usize]).collect();
                let query = Query {
                    customer: Some(name),
                    exclude: &exclude,
                    now_ms: self.now_ms,
                    ..base.clone()
                };
                ask(&query, wanted)
            }
            Task::Sessions(pairs) => {
                let pair = &pairs[at];
                let recent: Vec<&str> = pair.prefix.iter().map(|id| &*products[*id as usize]).collect();
                let query = Query {
                    recent: &recent,
                    exclude_recent: false,
                    now_ms: self.now_ms,
                    ..base.clone()
                };
                ask(&query, &[pair.next])
            }
        }
    }

    /// Runs `work` on batches of the first `questions` questions, on all threads, each with a state of its
    /// own; answers the states.
    pub(super) fn spread<S: Send>(
        &self,
        questions: usize,
        state: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, usize) + Sync,
        progress: impl Fn(usize) + Sync,
    ) -> Vec<S> {
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let run = || {
            let mut state = state();
            loop {
                let from = next.fetch_add(BATCH, Relaxed);
                if from >= questions {
                    return state;
                }
                let to = (from + BATCH).min(questions);
                (from..to).for_each(|at| work(&mut state, at));
                progress(done.fetch_add(to - from, Relaxed) + to - from);
            }
        };
        std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..self.threads).map(|_| scope.spawn(run)).collect();
            let mut states = vec![run()];
            states.extend(
                helpers
                    .into_iter()
                    .map(|helper| helper.join().expect("a panic of a helper is a bug and passed on")),
            );
            states
        })
    }

    fn answer(&self, query: &Query<'_>, answer: &mut Vec<u32>) {
        let items = self.reader.recommend(query).items;
        answer.clear();
        answer.extend(items.iter().filter_map(|item| self.ids.get(&item.product)));
    }

    /// Asks every question of the task; `progress` hears how many are done.
    pub fn metrics(&self, k: usize, progress: impl Fn(usize) + Sync) -> Metrics {
        let likeness = Likeness::new(self.data.buyers(), self.data.customers.len());
        let base = base(k, None);
        let parts = self.spread(
            self.questions(),
            || (Collector::new(k, &likeness), Vec::new()),
            |(collector, answer), at| {
                self.question(at, &base, |query, wanted| {
                    self.answer(query, answer);
                    collector.add(answer, wanted);
                });
            },
            progress,
        );
        let mut whole = Collector::new(k, &likeness);
        for (part, _) in parts {
            whole.merge(part);
        }
        whole.finish()
    }

    /// How well an algorithm does on the first `questions` questions: what is maximised by tuning, see
    /// recall and NDCG, of sessions hit rate and reciprocal rank.
    pub fn score(&self, algorithm: Algorithm, k: usize, questions: usize) -> f64 {
        let questions = questions.min(self.questions());
        let base = base(k, Some(algorithm));
        let sessions = matches!(self.data.task, Task::Sessions(_));
        let parts = self.spread(
            questions,
            || (0.0, Vec::new()),
            |(sum, answer), at| {
                self.question(at, &base, |query, wanted| {
                    self.answer(query, answer);
                    *sum += worth(answer, wanted, k, sessions);
                });
            },
            |_| {},
        );
        parts.iter().map(|(sum, _)| sum).sum::<f64>() / questions.max(1) as f64
    }
}

/// Of one answer: recall and NDCG; of a session hit and reciprocal rank.
pub(super) fn worth(answer: &[u32], wanted: &[u32], k: usize, session: bool) -> f64 {
    let (hits, gain, first) = relevance(answer, wanted, k);
    let early = match first {
        _ if !session => gain,
        first => first.map_or(0.0, |rank| 1.0 / rank as f64),
    };
    hits as f64 / wanted.len() as f64 + early
}

pub(super) fn base(k: usize, algorithm: Option<Algorithm>) -> Query<'static> {
    Query {
        limit: k,
        algorithm,
        ..Query::default()
    }
}

fn learn(
    data: &Dataset,
    algorithm: Algorithm,
    params: &Params,
    now_ms: i64,
) -> Result<(Writer, Reader), EvalError> {
    let (mut writer, reader) = engine(params.config(algorithm))?;
    let sessions = matches!(data.task, Task::Sessions(_));
    let time = |at: usize, time_ms: i64| {
        if sessions {
            at as i64 * SESSION_MS + time_ms * 1_000
        } else {
            time_ms
        }
    };
    let events = data
        .customers
        .iter()
        .enumerate()
        .flat_map(|(at, (name, touches))| {
            touches.iter().map(move |touch| {
                let product = &data.products[touch.product as usize];
                Interaction::new(name, product, touch.kind, time(at, touch.time_ms))
            })
        });
    writer.bulk(events, now_ms);
    Ok((writer, reader))
}
