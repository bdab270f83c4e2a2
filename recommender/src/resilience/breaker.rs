//! A circuit breaker: after some failures in a row nobody calls for a while. Then one call tries, or somebody who asks
//! beside the calls says that there are answers again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntGauge;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// So many failures in a row open it.
    pub failures: u32,
    /// How it is found out that there are answers again.
    pub trial: Trial,
}

/// How an open breaker closes again.
#[derive(Clone, Copy, Debug)]
pub enum Trial {
    /// After so long one call may try.
    Call(Duration),
    /// Somebody asks beside the calls, and says so by [`Breaker::answers`]: no request waits for a trial, and a trial
    /// may take longer than a request can wait.
    Beside,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        /// When a call may try; none where somebody asks beside the calls.
        until: Option<Instant>,
    },
    /// One call tries; the others are still turned away.
    Trying,
}

/// A circuit breaker. The clock is an argument of its core, so that tests need not wait.
pub struct Breaker {
    name: &'static str,
    settings: Settings,
    state: Mutex<State>,
    open: IntGauge,
}

impl Breaker {
    /// `name` is for the log; `open` is 1 while calls are turned away.
    pub fn new(name: &'static str, settings: Settings, open: IntGauge) -> Self {
        Self {
            name,
            settings,
            state: Mutex::new(State::Closed { failures: 0 }),
            open,
        }
    }

    /// A permit for one call; `None` while the breaker is open.
    pub fn admit(&self) -> Option<Permit<'_>> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<Permit<'_>> {
        let mut state = self.state();
        let trial = match *state {
            State::Closed { .. } => false,
            State::Open { until: Some(until) } if now >= until => true,
            State::Open { .. } | State::Trying => return None,
        };
        if trial {
            *state = State::Trying;
        }
        Some(Permit {
            breaker: self,
            trial,
            told: false,
        })
    }

    /// Whether calls are turned away.
    pub fn is_open(&self) -> bool {
        !matches!(*self.state(), State::Closed { .. })
    }

    /// There are answers again: calls are let in.
    pub fn answers(&self) {
        self.succeeded();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn succeeded(&self) {
        let mut state = self.state();
        if !matches!(*state, State::Closed { .. }) {
            tracing::info!(dependency = self.name, "answers again");
            self.open.set(0);
        }
        *state = State::Closed { failures: 0 };
    }

    fn failed(&self, now: Instant, trial: bool) {
        let mut state = self.state();
        let until = match self.settings.trial {
            Trial::Call(pause) => Some(now + pause),
            Trial::Beside => None,
        };
        match *state {
            State::Closed { failures } if failures + 1 < self.settings.failures => {
                *state = State::Closed {
                    failures: failures + 1,
                };
            }
            State::Closed { .. } => {
                tracing::warn!(dependency = self.name, "fails; not called for a while");
                self.open.set(1);
                *state = State::Open { until };
            }
            State::Trying if trial => *state = State::Open { until },
            // A call that was let in before the breaker opened: it says nothing new.
            State::Open { .. } | State::Trying => {}
        }
    }
}

/// Leave for one call, which must tell how it went.
#[must_use]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    trial: bool,
    told: bool,
}

impl Permit<'_> {
    /// The call was answered.
    pub fn succeeded(mut self) {
        self.told = true;
        self.breaker.succeeded();
    }

    /// The call failed or took too long.
    pub fn failed(mut self) {
        self.told = true;
        self.breaker.failed(Instant::now(), self.trial);
    }
}

impl Drop for Permit<'_> {
    /// A call that was given up by its caller says nothing; if it was the one that tried, another must.
    fn drop(&mut self) {
        if self.trial && !self.told {
            *self.breaker.state() = State::Open {
                until: Some(Instant::now()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        closing_by(Trial::Call(Duration::from_secs(10)))
    }

    fn closing_by(trial: Trial) -> Breaker {
        let settings = Settings { failures: 3, trial };
        Breaker::new("test", settings, IntGauge::new("open", "open").unwrap())
    }

    fn fail(breaker: &Breaker, times: u32) {
        for _ in 0..times {
            breaker.admit().unwrap().failed();
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_in_between_does_not() {
        let breaker = breaker();
        fail(&breaker, 2);
        breaker.admit().unwrap().succeeded();
        fail(&breaker, 2);
        assert!(!breaker.is_open());
        fail(&breaker, 1);
        assert!(breaker.is_open() && breaker.admit().is_none());
        assert_eq!(breaker.open.get(), 1);
    }

    #[test]
    fn after_the_pause_one_call_tries_and_its_success_lets_all_in() {
        let breaker = breaker();
        fail(&breaker, 3);
        let later = Instant::now() + Duration::from_secs(11);
        let trial = breaker.admit_at(later).unwrap();
        assert!(breaker.admit_at(later).is_none(), "one at a time");
        trial.succeeded();
        assert!(breaker.admit().is_some());
        assert_eq!(breaker.open.get(), 0);
    }

    #[test]
    fn where_somebody_asks_beside_the_calls_no_call_tries() {
        let breaker = closing_by(Trial::Beside);
        fail(&breaker, 2);
        let late = breaker.admit().unwrap();
        fail(&breaker, 1);
        let much_later = Instant::now() + Duration::from_secs(3_600);
        assert!(breaker.admit_at(much_later).is_none());
        breaker.answers();
        assert!(breaker.admit().is_some() && !breaker.is_open());
        assert_eq!(breaker.open.get(), 0);
        late.failed();
        assert!(!breaker.is_open(), "one failure of three");
    }

    #[test]
    fn a_trial_that_fails_closes_the_door_again() {
        let breaker = breaker();
        fail(&breaker, 3);
        let later = Instant::now() + Duration::from_secs(11);
        breaker.admit_at(later).unwrap().failed();
        assert!(breaker.admit().is_none());
        assert!(breaker.admit_at(later + Duration::from_secs(11)).is_some());
    }

    #[test]
    fn a_trial_that_was_given_up_does_not_lock_everybody_out() {
        let breaker = breaker();
        fail(&breaker, 3);
        drop(
            breaker
                .admit_at(Instant::now() + Duration::from_secs(11))
                .unwrap(),
        );
        assert!(breaker.admit().is_some());
    }

    #[test]
    fn a_late_failure_of_an_earlier_call_does_not_end_a_trial() {
        let breaker = breaker();
        let early = breaker.admit().unwrap();
        fail(&breaker, 3);
        let trial = breaker
            .admit_at(Instant::now() + Duration::from_secs(11))
            .unwrap();
        early.failed();
        trial.succeeded();
        assert!(!breaker.is_open());
    }
}
