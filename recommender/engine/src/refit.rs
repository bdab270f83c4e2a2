//! Changing parameters of an engine that has learned already, without learning anew: for evaluation, which
//! tries many of them on the same histories.

use std::sync::Arc;

use crate::{
    config::Tuning,
    popularity::{Buckets, bucket},
    shared::CustomerSlot,
    similarity::{Bm25, Similarity},
    writer::Writer,
};

/// How neighbour lists are made from counts; see the fields of [`crate::EngineConfig`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Neighborhood {
    pub neighbors: usize,
    pub similarity: Similarity,
    pub bm25: Bm25,
    pub shrinkage: f32,
    pub walk_alpha: f32,
    pub walk_beta: f32,
}

impl Writer {
    /// What may be swapped in while running, as it is now.
    pub fn tuning(&self) -> &Tuning {
        &self.config.tuning
    }

    /// Swaps in another time after which a product of a customer's history counts half in an answer.
    pub(crate) fn set_half_life(&mut self, half_life_ms: i64) {
        self.config.half_life_ms = half_life_ms;
        self.compile();
    }

    /// Makes all neighbour lists anew from the same counts.
    pub(crate) fn set_neighborhood(&mut self, to: Neighborhood, now_ms: i64) {
        self.config.neighbors = to.neighbors;
        self.counts.counting.similarity = to.similarity;
        self.counts.counting.bm25 = to.bm25;
        self.counts.counting.shrinkage = f64::from(to.shrinkage);
        self.counts.counting.alpha = f64::from(to.walk_alpha);
        self.counts.counting.beta = f64::from(to.walk_beta);
        for product in 0..self.names.len() as u32 {
            self.counts.rescale(product);
        }
        self.flush(now_ms);
    }

    /// Swaps in another time after which popularity counts half, and counts it anew.
    pub(crate) fn set_trend_half_life(&mut self, half_life_ms: i64, now_ms: i64) {
        let slots: Vec<Arc<CustomerSlot>> = self.shared.customers.pin().values().cloned().collect();
        let histories: Vec<_> = slots.iter().map(|slot| slot.history.load_full()).collect();
        let newest = histories
            .iter()
            .flat_map(|history| &history.entries)
            .map(|entry| entry.last_ms);
        self.counts.newest_bucket = bucket(newest.max().unwrap_or_default(), half_life_ms);
        self.counts.counting.trend_half_life_ms = half_life_ms;
        self.config.trend_half_life_ms = half_life_ms;
        self.counts.popularity.fill_with(Buckets::default);
        for entry in histories.iter().flat_map(|history| &history.entries) {
            self.counts.shift_popularity(None, Some(entry));
        }
        self.refresh_trending(now_ms);
    }
}
