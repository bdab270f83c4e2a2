//! How long to wait before a background call is made again: after 1, 2 and 4 seconds, then slowly for good.
//! With chance in it, so that replicas that lost the same server do not come back to it at once.

use std::time::Duration;

/// Attempts that are made in quick succession before a failure is told as lasting.
pub const QUICK: u32 = 3;

/// Counts failures in a row.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    failures: u32,
    slow: Duration,
}

impl Backoff {
    /// After the quick attempts, one every `slow`.
    pub const fn new(slow: Duration) -> Self {
        Self { failures: 0, slow }
    }

    /// Notes a failure; returns the pause before the next attempt, up to a fifth shorter or longer by chance.
    pub fn failed(&mut self) -> Duration {
        let pause = match self.failures {
            n @ 0..QUICK => Duration::from_secs(1 << n),
            _ => self.slow,
        };
        self.failures = self.failures.saturating_add(1);
        pause.mul_f64(rand::random_range(0.8..1.2))
    }

    /// Notes a success; returns whether there were failures before it.
    pub fn succeeded(&mut self) -> bool {
        std::mem::take(&mut self.failures) > 0
    }

    /// Whether the last attempt failed.
    pub fn fails(&self) -> bool {
        self.failures > 0
    }

    /// Whether this failure is worth a line: the quick ones are, later ones now and then.
    pub fn worth_telling(&self) -> bool {
        self.failures <= QUICK || self.failures.is_multiple_of(12)
    }

    /// Whether the quick attempts are over.
    pub fn lasts(&self) -> bool {
        self.failures > QUICK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_a_second_and_then_stay_slow() {
        let mut backoff = Backoff::new(Duration::from_secs(30));
        for expected in [1.0, 2.0, 4.0, 30.0, 30.0] {
            let pause = backoff.failed().as_secs_f64();
            assert!(
                (expected * 0.8..expected * 1.2).contains(&pause),
                "{pause} for {expected}"
            );
        }
        assert!(backoff.lasts() && backoff.succeeded() && !backoff.succeeded());
        assert!(backoff.failed() < Duration::from_secs(2));
    }
}
