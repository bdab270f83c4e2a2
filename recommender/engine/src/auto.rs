//! Which model `Auto` means: the one that predicted best what customers turned to next.
//!
//! The choice is a function of the log. The same events are predicted on every replica; before a prediction the
//! lists that it reads are made anew from the exact counts, so that it does not matter when readers were last shown
//! them; and decisions are taken after the same predictions everywhere. What is left to differ between
//! replicas is the order in which events of different customers arrived, in catalogues of more than [`SMALL`]
//! products how fresh popularity is, and where `limits.row_capacity` binds when counts were cut: all move a hit rate by
//! far less than a challenger must be better.

use crate::{config::Algorithm, prequential::Tally, writer::Writer};

/// Predictions, weakened by age, before a model is considered.
const ENOUGH: f64 = 100.0;
/// A decision is taken after every so many predictions.
const EVERY: u64 = 50;
/// A challenger must be better by this factor, or the choice would flutter between equals.
const MARGIN: f64 = 1.05;
/// And by this many standard errors, or it would follow luck. What both hit or both missed says nothing: the lead is that
/// of hits which the other lacks (McNemar 1947). Counts that are weakened by age vary less than they say: it is some
/// 2.8 errors in the long run.
const ERRORS: f64 = 2.0;
/// Hits that one of the two lacks, without which nothing is decided.
const DISCORDANT: f64 = 10.0;
/// Products up to which popularity is brought up to date for a prediction too: a millisecond.
pub(crate) const SMALL: usize = 20_000;

fn rate(tally: &Tally) -> f64 {
    tally.hits / tally.trials.max(f64::MIN_POSITIVE)
}

/// What to answer with from now on.
pub(crate) fn choose(current: Algorithm, tallies: &[Tally]) -> Algorithm {
    let Some(holder) = tallies.iter().find(|tally| tally.algorithm == current) else {
        // Not yet tried, or no longer there.
        let first = tallies.iter().filter(|tally| tally.trials >= ENOUGH).collect();
        return best(first).map_or(Algorithm::Hybrid, |best| best.algorithm);
    };
    if holder.predictions % EVERY != 0 {
        return current;
    }
    let alone = |tally: &Tally, other: Algorithm| tally.alone.get(&other).copied().unwrap_or_default();
    let is_better = |tally: &&Tally| {
        let (won, lost) = (alone(tally, holder.algorithm), alone(holder, tally.algorithm));
        let error = (won + lost).sqrt();
        let enough = tally.trials >= ENOUGH && won + lost >= DISCORDANT;
        enough && rate(tally) > rate(holder) * MARGIN && won - lost > ERRORS * error
    };
    let better = tallies.iter().filter(is_better).collect();
    best(better).map_or(current, |best| best.algorithm)
}

/// Of equals the first, which the order of contenders prefers.
fn best(tallies: Vec<&Tally>) -> Option<&Tally> {
    tallies
        .into_iter()
        .reduce(|best, other| if rate(other) > rate(best) { other } else { best })
}

impl Writer {
    /// Makes what the prediction of a customer's next product reads as it would be after a full publish.
    pub(crate) fn freshen(&mut self, customer: &str) {
        let Some(slot) = self.shared.customer(customer) else {
            return;
        };
        self.count_now();
        self.counts.measure();
        let length = self.config.tuning.history_length;
        for entry in slot.history.load().entries.iter().take(length) {
            self.refresh(entry.product);
        }
        if self.counts.popularity_changed && self.names.len() <= SMALL {
            self.refresh_trending(self.trending_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the hits so many are where the holder or the challenger missed.
    fn tally(algorithm: Algorithm, hits: f64, trials: f64, alone: f64) -> Tally {
        let other = match algorithm {
            Algorithm::Hybrid => Algorithm::Rp3Beta,
            _ => Algorithm::Hybrid,
        };
        Tally {
            algorithm,
            hits,
            reciprocal_ranks: 0.0,
            trials,
            predictions: 500,
            alone: [(other, alone)].into(),
        }
    }

    #[test]
    fn a_challenger_must_be_better_by_more_than_luck() {
        let chosen = |hits, trials, won, lost| {
            choose(
                Algorithm::Hybrid,
                &[
                    tally(Algorithm::Hybrid, 200.0, 1_000.0, lost),
                    tally(Algorithm::Rp3Beta, hits, trials, won),
                ],
            )
        };
        assert_eq!(chosen(300.0, 1_000.0, 200.0, 100.0), Algorithm::Rp3Beta);
        // 22 % against 20 % of a thousand is luck where they hit different things, and none where one hits all that the
        // other does.
        assert_eq!(chosen(220.0, 1_000.0, 120.0, 100.0), Algorithm::Hybrid);
        assert_eq!(chosen(220.0, 1_000.0, 20.0, 0.0), Algorithm::Rp3Beta);
        // Thirty trials are none.
        assert_eq!(chosen(30.0, 30.0, 30.0, 0.0), Algorithm::Hybrid);
        // And the way back is as far: no fluttering.
        let back = [
            tally(Algorithm::Rp3Beta, 200.0, 1_000.0, 100.0),
            tally(Algorithm::Hybrid, 220.0, 1_000.0, 120.0),
        ];
        assert_eq!(choose(Algorithm::Rp3Beta, &back), Algorithm::Rp3Beta);
    }

    #[test]
    fn decisions_are_taken_after_the_same_predictions_everywhere() {
        let better = tally(Algorithm::Rp3Beta, 500.0, 1_000.0, 350.0);
        let holder = |predictions| Tally {
            predictions,
            ..tally(Algorithm::Hybrid, 200.0, 1_000.0, 50.0)
        };
        let chosen = |predictions| choose(Algorithm::Hybrid, &[holder(predictions), better.clone()]);
        assert_eq!(
            [499, 500, 501].map(chosen),
            [Algorithm::Hybrid, Algorithm::Rp3Beta, Algorithm::Hybrid]
        );
    }

    #[test]
    fn a_model_that_is_taken_out_is_followed_by_the_best_that_is_left() {
        let left = [
            tally(Algorithm::Hybrid, 200.0, 1_000.0, 0.0),
            tally(Algorithm::ItemKnn, 210.0, 1_000.0, 0.0),
        ];
        assert_eq!(choose(Algorithm::Ease, &left), Algorithm::ItemKnn);
        assert_eq!(choose(Algorithm::Ease, &[]), Algorithm::Hybrid);
    }
}
