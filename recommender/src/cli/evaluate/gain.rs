//! What one run finds more than another, and how sure that is.

use recommender_engine::eval::Prediction;
use serde::Serialize;

/// Standard errors on either side of a mean that hold it 95 times of 100.
const SURE: f64 = 1.96;

/// The difference of two hit rates on the same events, with its 95 % confidence interval. Events are taken as
/// independent; pairing takes out what makes an event easy or hard for both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Gain {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

impl Gain {
    /// Of `better` over `base` from a time on. Both predicted the same events; `None` where there are fewer than two.
    pub fn of(better: &[Prediction], base: &[Prediction], from_ms: i64) -> Option<Self> {
        let hit = |one: &Prediction| f64::from(u8::from(one.rank.is_some()));
        let pairs = better.iter().zip(base);
        let differences: Vec<f64> = pairs
            .filter(|(one, other)| one.at_ms == other.at_ms && one.at_ms >= from_ms)
            .map(|(one, other)| hit(one) - hit(other))
            .collect();
        if differences.len() < 2 {
            return None;
        }
        let n = differences.len() as f64;
        let mean = differences.iter().sum::<f64>() / n;
        let squares: f64 = differences.iter().map(|one| (one - mean).powi(2)).sum();
        let error = (squares / (n - 1.0) / n).sqrt() * SURE;
        Some(Self {
            mean,
            low: mean - error,
            high: mean + error,
        })
    }
}

impl std::fmt::Display for Gain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:+.4} ({:+.4} to {:+.4})", self.mean, self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predictions(hits: impl IntoIterator<Item = bool>) -> Vec<Prediction> {
        let one = |(at, hit): (usize, bool)| Prediction {
            at_ms: at as i64,
            rank: hit.then_some(3),
        };
        hits.into_iter().enumerate().map(one).collect()
    }

    #[test]
    fn a_gain_has_an_interval_that_narrows_with_the_events() {
        // One more of ten, on top of what both find.
        let of = |n: usize| {
            let base = predictions((0..n).map(|at| at % 2 == 0));
            let better = predictions((0..n).map(|at| at % 2 == 0 || at % 10 == 1));
            Gain::of(&better, &base, 0).unwrap()
        };
        let (few, many) = (of(100), of(10_000));
        assert!((few.mean - 0.1).abs() < 1e-9 && (many.mean - 0.1).abs() < 1e-9);
        // p (1 - p) / (n - 1) of a difference that is 0 or 1.
        let error = (0.1f64 * 0.9 / 99.0).sqrt() * 1.96;
        assert!((few.high - few.low - 2.0 * error).abs() < 1e-9, "{few}");
        assert!(many.high - many.low < (few.high - few.low) / 9.0);
    }

    #[test]
    fn events_before_do_not_count_and_one_tells_nothing() {
        let (all, none) = (predictions([true; 4]), predictions([false; 4]));
        assert_eq!(Gain::of(&all, &none, 2).unwrap().mean, 1.0);
        assert_eq!(Gain::of(&all, &none, 3), None);
    }
}
