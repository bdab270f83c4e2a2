//! Running a model over a dataset: the same engine that serves, fed in bulk and asked question by question.

use std::sync::Arc;

use ahash::AHashMap;

use super::{
    data::{Dataset, Task},
    metrics::{Collector, Metrics},
    params::Params,
};
use crate::{
    blend::Blend,
    config::{Algorithm, ConfigError},
    event::{EventKind, Interaction},
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

/// A model that has learned the training part of a dataset.
pub struct Trained<'a> {
    data: &'a Dataset,
    writer: Writer,
    reader: Reader,
    now_ms: i64,
    ids: AHashMap<Arc<str>, u32>,
    buyers: Vec<Vec<u32>>,
}

impl<'a> Trained<'a> {
    /// Learns in bulk and fits what the algorithm needs, on this many threads.
    pub fn new(
        data: &'a Dataset,
        algorithm: Algorithm,
        params: &Params,
        threads: usize,
    ) -> Result<Trained<'a>, EvalError> {
        let (mut writer, reader) = engine(params.config(algorithm))?;
        let sessions = matches!(data.task, Task::Sessions(_));
        let time = |at: usize, time_ms: i64| {
            if sessions {
                at as i64 * SESSION_MS + time_ms * 1_000
            } else {
                time_ms
            }
        };
        let now_ms = if sessions {
            data.customers.len() as i64 * SESSION_MS
        } else {
            data.now_ms
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
        let blend = &params.blend;
        let hybrid = algorithm == Algorithm::Hybrid;
        let training = || reader.training_data(now_ms, params.training_half_life_ms());
        if algorithm == Algorithm::Ease || hybrid && blend.ease > 0.0 {
            match Artifact::ease(&training(), &params.ease, "evaluation", now_ms) {
                Ok(artifact) => writer.install(&artifact),
                // A blend goes on without a member that does not fit; by name it is an error.
                Err(_) if hybrid => {}
                Err(error) => return Err(error.into()),
            }
        }
        if algorithm == Algorithm::ImplicitAls || hybrid && blend.als > 0.0 {
            writer.install(&Artifact::implicit_als(
                &training(),
                &params.als,
                threads,
                "evaluation",
                now_ms,
            ));
        }
        let ids = data
            .products
            .iter()
            .enumerate()
            .map(|(id, name)| (Arc::clone(name), id as u32))
            .collect();
        let mut buyers: Vec<Vec<u32>> = vec![Vec::new(); data.products.len()];
        for (customer, (_, touches)) in data.customers.iter().enumerate() {
            for touch in touches.iter().filter(|touch| touch.kind != EventKind::Return) {
                let list = &mut buyers[touch.product as usize];
                if list.last() != Some(&(customer as u32)) {
                    list.push(customer as u32);
                }
            }
        }
        Ok(Trained {
            data,
            writer,
            reader,
            now_ms,
            ids,
            buyers,
        })
    }

    /// Other weights of the blend, without learning anew.
    pub fn set_blend(&mut self, blend: Blend) {
        self.writer.set_blend(blend);
    }

    /// Other parameters of the session model, without learning anew.
    pub fn set_session(&mut self, params: &Params) {
        self.writer.set_session(params.session.clone());
    }

    /// Asks every question of the task; `progress` hears how many are done.
    pub fn metrics(&self, k: usize, mut progress: impl FnMut(usize)) -> Metrics {
        let mut collector = Collector::new(k, &self.buyers, self.data.customers.len(), self.data.catalogue);
        let products = &self.data.products;
        let mut answer: Vec<u32> = Vec::new();
        let mut ask = |query: &Query<'_>, wanted: &[u32]| {
            let items = self.reader.recommend(query).items;
            answer.clear();
            answer.extend(items.iter().filter_map(|item| self.ids.get(&item.product)));
            collector.add(&answer, wanted);
        };
        let base = Query {
            limit: k,
            now_ms: self.now_ms,
            ..Query::default()
        };
        match &self.data.task {
            Task::Customers(cases) => {
                for (done, (customer, wanted)) in cases.iter().enumerate() {
                    let (name, touches) = &self.data.customers[*customer];
                    let bought = touches.iter().filter(|touch| touch.kind == EventKind::Purchase);
                    let exclude: Vec<&str> = bought.map(|touch| &*products[touch.product as usize]).collect();
                    ask(
                        &Query {
                            customer: Some(name),
                            exclude: &exclude,
                            ..base.clone()
                        },
                        wanted,
                    );
                    progress(done + 1);
                }
            }
            Task::Sessions(pairs) => {
                for (done, pair) in pairs.iter().enumerate() {
                    let recent: Vec<&str> = pair.prefix.iter().map(|id| &*products[*id as usize]).collect();
                    ask(
                        &Query {
                            recent: &recent,
                            exclude_recent: false,
                            ..base.clone()
                        },
                        &[pair.next],
                    );
                    progress(done + 1);
                }
            }
        }
        collector.finish()
    }
}
